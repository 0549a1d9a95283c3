"""Adversarial examples, end to end: a job in; examples, predictions and records out.

`<out>/originals/<h>x<w>/` holds the images as networks see them, `<out>/<alias>/<method>/<hash>/` the examples,
`<out>/predictions/<alias>/<method>.csv` what each network makes of both, read from those files, and
`<out>/records/<alias>/<method>.json` the numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from benchmark.records.record import FailedUnit, Measurement, Record
from benchmark.running.produce import folder_of, of_images, original_path, produce, put_down
from benchmark.studies.attacks.job import Job, Setting
from benchmark.studies.attacks.numbers import measure
from featvis.data.files import open_rgb, to_tensor
from featvis.errors import UserError
from featvis.generators.attack import Attack, Pair
from featvis.networks.classifier import Classifier
from featvis.networks.devices import default_device
from featvis.storage import images

SUITE = "attack"
BATCH = 16
COLUMNS = (
    "unit", "image", "own", "target", "judge", "clean_class", "clean_label", "clean_probability", "class", "label",
    "probability", "target_probability",
)  # fmt: skip


@dataclass(frozen=True)
class Example:
    """An adversarial example as files.

    Attributes:
        unit: its pair's id.
        image: the original's name.
        own: the class that the original shows by its name, or None.
        target: the class that it was made for.
        original: the file of what came before.
        path: its own file.
    """

    unit: str
    image: str
    own: int | None
    target: int
    original: Path
    path: Path


def example(out: Path, size: Sequence[int], folder: Path, unit: str, own: int | None) -> Example:
    """The files of a pair, by its id, for an attacked network of that input size."""
    image, _, target = unit.rpartition("-to-")
    return Example(unit, image, own, int(target), original_path(out, size, image), folder / f"{unit}.png")


@dataclass(frozen=True)
class Made:
    """The examples of one network under one setting.

    Attributes:
        setting: what was asked for.
        attack: the generator that made them.
        network: the one attacked.
        folder: of the examples.
        pairs: those that have one.
        failed: why the others have none, by id.
        digest: of the examples' pixels.
    """

    setting: Setting
    attack: Attack
    network: Classifier
    folder: Path
    pairs: list[Pair]
    failed: dict[str, FailedUnit]
    digest: str

    def examples(self, job: Job) -> list[Example]:
        """The pairs' files."""
        return [example(job.out, self.network.input_size, self.folder, p.id, p.own) for p in self.pairs]


def run(job: Job) -> int:
    """Make what is missing of the examples, the predictions and the records; 1 where some image failed."""
    code = 0
    for network in job.networks.values():
        for pair in job.pairs:
            put_down(job.out, network.input_size, pair)
        for setting in job.settings:
            made = make(job, setting, network)
            path = job.out / "records" / network.alias / f"{setting.method}.json"
            if not _kept(path, job, made):
                seen = predict(job.judges, made.examples(job))
                table = seen.to_csv(index=False, lineterminator="\n").encode()
                images.write_atomic(predictions_path(job.out, network.alias, setting.method), table)
                record(job, made, seen).write(path)
            code |= bool(made.failed)
    return code


def make(job: Job, setting: Setting, network: Classifier) -> Made:
    """The examples of a network under a setting; those that are there are kept."""
    attack = Attack(**setting.arguments, model=network.given)
    attack.classifier = network
    folder = folder_of(attack, job.out, setting.method)
    failed = produce(attack, job.pairs, folder, job.batch_size)
    # Lightning takes the network off its device at the end.
    network.to(default_device())
    pairs = [pair for pair in job.pairs if pair.id not in failed]
    digest = images.pixels_hash([folder / f"{pair.id}.png" for pair in pairs])
    return Made(setting, attack, network, folder, pairs, failed, digest)


def predictions_path(out: Path, alias: str, method: str) -> Path:
    """Where the table of predictions of a record lies."""
    return out / "predictions" / alias / f"{method}.csv"


def _identity(job: Job) -> dict[str, Any]:
    """What the numbers depend on besides the images, and what loads the judges that their names do not."""
    given = {name: judge.given for name, judge in job.judges.items() if judge.given != name}
    return {"judges": {name: judge.weights_hash for name, judge in job.judges.items()}} | (
        {"given": given} if given else {}
    )


def _kept(path: Path, job: Job, made: Made) -> bool:
    """Whether a record says what would be said again."""
    if not path.is_file():
        return False
    found = Record.read(path)
    same = (
        found.config_hash == made.attack.config_hash(),
        found.config.get("evaluation") == _identity(job),
        found.images_sha256 == made.digest,
        found.units == tuple(p.id for p in job.pairs),
        predictions_path(job.out, found.alias, found.method).is_file(),
    )
    return all(same)


@torch.no_grad()
def predict(judges: Mapping[str, Classifier], examples: Sequence[Example]) -> pd.DataFrame:
    """What every judge makes of the files of the originals and of the examples: one row an example and judge.

    Returns:
        `COLUMNS`: of each judge clean_class, its label and probability (the prediction for the original), then the same
        for the example, and the target's probability there.
    """
    rows = []
    for start in range(0, len(examples), BATCH):
        batch = examples[start : start + BATCH]
        clean, changed = (
            torch.stack([to_tensor(open_rgb(p)) for p in paths])
            for paths in ([e.original for e in batch], [e.path for e in batch])
        )
        for alias, judge in judges.items():
            before, after = (_probabilities(judge, x) for x in (clean, changed))
            for e, was, now in zip(batch, before, after, strict=True):
                clean_class, seen_class = int(was.argmax()), int(now.argmax())
                row = (
                    e.unit, e.image, e.own, e.target, alias, clean_class, judge.labels[clean_class], float(was.max()),
                    seen_class, judge.labels[seen_class], float(now.max()), float(now[e.target]),
                )  # fmt: skip
                rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS).astype({"own": "Int64"})


def remeasure(out: Path, record: Record, judges: Mapping[str, Classifier]) -> list[Measurement]:
    """The numbers of a record anew, from the files in a folder.

    Args:
        out: with the originals and the examples.
        record: of an attack.
        judges: the networks that it names, by alias.

    Raises:
        OSError: when a file is missing or no finished image.
        UserError: for other weights than the record's.
    """
    for alias, expected in record.config["evaluation"]["judges"].items():
        if judges[alias].weights_hash != expected:
            raise UserError(f"it is of weights {expected}, and {alias} has {judges[alias].weights_hash} here")
    folder, failed = out / str(record.images), {f.unit for f in record.failed_units}
    examples = []
    for unit in record.units:
        if unit not in failed:
            _, facts = images.read(folder / f"{unit}.png")
            examples.append(example(out, record.config["generator"]["canvas"], folder, unit, facts.get("own_class")))
    return measure(predict(judges, examples), judges, judges[record.alias], [(e.original, e.path) for e in examples])


def _probabilities(judge: Classifier, canvas: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n k"]:
    return judge(judge.preprocess(canvas.to(judge.device))).softmax(1).cpu()


def record(job: Job, made: Made, seen: pd.DataFrame) -> Record:
    """The record of a network under one setting, from the table of predictions and the files."""
    files = [(e.original, e.path) for e in made.examples(job)]
    return of_images(
        made.attack, job.pairs, made.failed, measure(seen, job.judges, made.network, files), job.out, suite=SUITE,
        method=made.setting.method, preset=made.setting.preset, folder=made.folder, command=job.command,
        about={"evaluation": _identity(job)}, packages=("torchmetrics",),
    )  # fmt: skip
