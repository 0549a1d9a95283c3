"""References: image sets in; feature banks, natural spectra and nearest images out, cached by what they depend on.

    <root>/<name>-<fingerprint>/provenance.json                  what the images are
    <root>/<name>-<fingerprint>/<network>-<hash>/00000.safetensors ...   features, 4096 images a file
    <root>/<name>-<fingerprint>/spectrum-<hash>/spectrum.safetensors     the mean magnitude spectrum

The fingerprint is that of the images' names, sizes and classes; the hash that of the network, its weights, the layer,
the pooling and the preprocessing. A pass that was killed goes on where it was.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from timm.data.imagenet_info import ImageNetInfo
from torch import Tensor

from benchmark import launch
from benchmark.records import columns
from benchmark.scoring import extractors
from benchmark.scoring.plan import Plan
from featvis.data import sweep
from featvis.data.extractors.inception import InceptionJob, find_inception, load_inception
from featvis.data.files import Known
from featvis.data.gallery import ActivationJob, GalleryJob, Rows, read_rows
from featvis.data.reference import (
    CHUNK,
    SPECTRUM_CHUNK,
    Bank,
    BankJob,
    NearestJob,
    SpectrumJob,
    broken_images,
    mean_spectrum,
    read_banked,
)
from featvis.data.sets import ImageSet, Role, open_images
from featvis.data.sweep import read as read_chunk
from featvis.errors import UserError
from featvis.networks.classifier import Classifier
from featvis.networks.loading import load
from featvis.networks.names import weights_directory
from featvis.networks.units import base_of, classes_of, read_units
from featvis.storage import images
from featvis.storage.hashing import config_hash
from featvis.storage.versions import versions


def imagenet_synsets() -> list[str]:
    """The 1000 synsets in the order of every ImageNet network."""
    return list(ImageNetInfo().label_names())


def folder_of(source: ImageSet, root: Path) -> Path:
    """Where everything about an image set lies, or will lie; nothing is written."""
    return root / f"{re.sub(r'[^A-Za-z0-9_.+-]', '_', source.name)}-{source.fingerprint[:12]}"


def _describe(source: ImageSet, root: Path) -> None:
    """Write what an image set is, where nothing says it yet."""
    facts = {"source": source.name, "images": len(source), "classes": source.how, "fingerprint": source.fingerprint}
    path = folder_of(source, root) / "provenance.json"
    if path.is_file():
        return
    try:
        text = json.dumps(facts | {"versions": versions()}, indent=1, sort_keys=True) + "\n"
        images.write_atomic(path, text.encode())
    except OSError as error:
        raise UserError(f"{root} cannot be written ({error.strerror}); name a folder that can (--out)") from error


def _place(source: ImageSet, root: Path, job: sweep.Job, name: str) -> Path:
    return folder_of(source, root) / f"{name}-{config_hash(job.facts)}"


_said: set[str] = set()


def _tell(source: ImageSet, broken: Sequence[tuple[str, str]]) -> None:
    """Name the images that cannot be decoded, once, however many passes meet them."""
    new = [(name, reason) for name, reason in broken if name not in _said]
    _said.update(name for name, _ in new)
    for name, reason in new:
        print(f"featvis: {name} cannot be decoded and is skipped ({reason})", file=sys.stderr)
    if new:
        print(
            f"featvis: {len(broken)} of {len(source)} images in {source.name} could not be decoded and were skipped",
            file=sys.stderr,
        )


def bank(source: ImageSet, network: Classifier, root: Path, trainer: dict[str, Any] | None = None) -> Bank:
    """The features of a network for all images of a set, made as far as they are missing.

    Args:
        source: the images.
        network: whose features.
        root: of the cache.
        trainer: arguments of Lightning's Trainer.

    Raises:
        UserError: when no image can be decoded, or the cache cannot be written.
    """
    job, todo = BankJob(network), sweep.chunks(range(len(source)), CHUNK)
    folder = _place(source, root, job, network.name)
    new = bool(sweep.missing(folder, todo, job.facts))
    if new or "strategy" in (trainer or {}):
        _describe(source, root)
        sweep.run(source, job, todo, folder, trainer)
    if new:
        _tell(source, broken_images(folder, todo))
    return read_banked(folder, todo, job, source.name)


def inception_bank(
    source: ImageSet, model: torch.nn.Module, classes: Sequence[int], root: Path, trainer: dict[str, Any] | None = None
) -> tuple[Tensor, Tensor]:
    """Inception's features of a set's images of some classes, and the digests of their files."""
    rows = [i for i, label in enumerate(source.labels) if label in set(classes)]
    job = InceptionJob(model, config_hash({"rows": rows}))
    todo = sweep.chunks(rows, CHUNK)
    folder = _place(source, root, job, "inception")
    _describe(source, root)
    sweep.run(source, job, todo, folder, trainer)
    parts = [found[0] for c in todo if (found := read_chunk(folder / f"{c.name}.safetensors")) and found[0]]
    if not parts:
        return torch.zeros(0, 2048), torch.zeros(0, dtype=torch.long)
    return torch.cat([p["features"] for p in parts]), torch.cat([p["digests"] for p in parts])


def spectrum_folder(source: ImageSet, root: Path) -> Path:
    """Where the natural spectrum of a set lies, or will lie."""
    return _place(source, root, SpectrumJob(), "spectrum")


def spectrum(source: ImageSet, root: Path, trainer: dict[str, Any] | None = None) -> Path:
    """The folder of the natural spectrum of a set, made if it is not there.

    Raises:
        UserError: when no image can be decoded, or the cache cannot be written.
    """
    folder, job = spectrum_folder(source, root), SpectrumJob()
    todo = sweep.chunks(range(len(source)), SPECTRUM_CHUNK)
    whole = sweep.Chunk("spectrum", tuple(range(len(source))))
    if not sweep.missing(folder, [whole], job.facts):
        return folder
    _describe(source, root)
    sweep.run(source, job, todo, folder / "parts", trainer)
    if launch.rank() == 0:
        # Another process may have finished the same meanwhile, and removed the parts.
        if sweep.missing(folder, [whole], job.facts):
            broken = broken_images(folder / "parts", todo)
            sweep.write(folder, whole, {"magnitude": mean_spectrum(folder / "parts", todo)}, job.facts, broken)
            _tell(source, broken)
        # With what a kill left half written.
        shutil.rmtree(folder / "parts", ignore_errors=True)
    return folder


def nearest(
    source: ImageSet,
    network: Classifier,
    pictures: dict[int, list[Callable[[], tuple[Any, int]]]],
    queries: str,
    folder: Path,
    trainer: dict[str, Any] | None = None,
) -> dict[int, dict[str, Tensor]]:
    """How near each picture is to another image of its class, in the flattened last block.

    Args:
        source: the images.
        network: the target network.
        pictures: see `featvis.data.reference.NearestJob`.
        queries: says what the pictures are.
        folder: of the files, one a class.
        trainer: arguments of Lightning's Trainer.

    Returns:
        For each class of `pictures`, float64: `squared` (n,), the squared distance, and `cosine` (n,), 1 - cosine, each
        to the nearest of them; infinite where the set has no other image of the class.

    Raises:
        UserError: when another process has written its own there meanwhile, or the folder cannot be written.
    """
    job = NearestJob(network, pictures, queries)
    job.facts["data"] = source.fingerprint
    todo = [sweep.Chunk(str(label), tuple(source.rows[label])) for label in sorted(pictures) if label in source.rows]
    sweep.run(source, job, todo, folder, trainer)
    nothing = {label: torch.full((len(found),), torch.inf, dtype=torch.float64) for label, found in pictures.items()}
    result = {label: {"squared": none, "cosine": none} for label, none in nothing.items()}
    for chunk in todo:
        found = read_chunk(folder / f"{chunk.name}.safetensors", job.facts)
        if found is None:
            raise UserError(f"the files in {folder} are another process's by now; run the same command again")
        result[int(chunk.name)] = {key: value.clone() for key, value in found[0].items()}
    return result


# --- A pass in a process of its own --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """A pass over an image set; a process that makes it gets it as JSON.

    Attributes:
        kind: what is made.
        data: the image set's text.
        role: what it is for.
        root: of the cache.
        model: the network, or None.
        classes: whose images are wanted (`inception`).
        given: what loads the network, where that is not its name.
        target: what loads the network whose classes the images are of; None: `model`, or ImageNet's.
        units: whose activations are wanted (`activations`), as `parse_units` reads them.
    """

    kind: Literal["bank", "spectrum", "inception", "nearest", "gallery", "activations"]
    data: str
    role: Role
    root: str
    model: str | None = None
    classes: tuple[int, ...] = ()
    given: str | None = None
    target: str | None = None
    units: tuple[str, ...] = ()


def passes(plan: Plan) -> list[Task]:
    """All passes over real images that scoring a plan needs, in order: none where the embedded reference serves.

    The runner makes them on all devices, the dry run prices them, the scorer reads what they made.
    """
    if plan.data is None:
        return []
    asked = {c.evaluator for c in columns.wanted(plan.metrics)}
    frechet, directory = plan.frechet_data or plan.data, weights_directory()
    classes = tuple(classes_of(plan.units))
    target = plan.loads(plan.model)
    own = Task("bank", plan.data, "bank", plan.cache, plan.model, given=plan.given, target=target)
    tasks = [own] if "plausibility" in asked else []
    looking = [plan.frechet] if "frechet" in asked else []
    looking += [plan.model, *plan.observers] if "sphere" in asked else []
    if "frechet" in asked and find_inception([directory] if directory else []) is not None:
        tasks.append(Task("inception", frechet, "frechet", plan.cache, None, classes, target=target))
    looking += extractors.compared(plan)
    idle = plan.idle()
    for name in (n for n in dict.fromkeys(looking) if n not in idle or n in plan.extractors):
        tasks.append(Task("bank", frechet, "frechet", plan.cache, name, given=plan.loads(name), target=target))
    if "spectrum" in asked:
        tasks.append(Task("spectrum", plan.spectrum_data or plan.data, "spectrum", plan.cache, target=target))
    if "plausibility" in asked and len(classes) == len({base_of(u) for u in plan.units}):
        tasks.append(dataclasses.replace(own, kind="nearest", classes=classes))
    if "units" in asked:
        texts = tuple(dict.fromkeys(base_of(text) for text in plan.texts or plan.units))
        tasks.append(dataclasses.replace(own, kind="activations", units=texts))
        seeing = [n for n in dict.fromkeys(plan.observers) if n not in plan.unavailable]
        tasks += [dataclasses.replace(own, kind="gallery", model=n, given=plan.loads(n)) for n in seeing]
    return list(dict.fromkeys(tasks))


def perform(
    task: Task,
    source: ImageSet | None = None,
    network: Classifier | None = None,
    inception: torch.nn.Module | None = None,
    trainer: dict[str, Any] | None = None,
) -> Any:
    """Make what a task says, here, as far as it is missing.

    Args:
        task: not of the kind `nearest`, which needs pictures too.
        source: the task's image set, where it is listed already.
        network: the task's network, where it is loaded already.
        inception: Inception, where it is loaded already.
        trainer: arguments of Lightning's Trainer.

    Returns:
        A `Bank`, the folder of a spectrum, Inception's features and the digests of their files (None without it), or
        the `Rows` of a gallery or of activations.
    """
    root, directory = Path(task.root), weights_directory()
    if task.model is not None and network is None:
        network = load(task.given or str(task.model), "float32")
    if source is None:
        known: Known = imagenet_synsets() if network is None else network
        if task.target is not None and (network is None or network.given != task.target):
            known = load(task.target, "float32")
        source = open_images(task.data, known, task.role)
    if task.kind == "spectrum":
        return spectrum(source, root, trainer)
    if task.kind == "inception":
        model = inception or load_inception([directory] if directory else [])
        return None if model is None else inception_bank(source, model, task.classes, root, trainer)
    assert network is not None
    if task.kind == "gallery":
        return rows_of(source, GalleryJob(network), root, network.name, trainer)
    if task.kind == "activations":
        return rows_of(source, ActivationJob(network, read_units(task.units, network)), root, network.name, trainer)
    return bank(source, network, root, trainer)


def rows_of(source: ImageSet, job: sweep.Job, root: Path, name: str, trainer: dict[str, Any] | None = None) -> Rows:
    """What a job keeps of all images of a set, made as far as it is missing.

    Raises:
        UserError: when no image can be decoded, or the cache cannot be written.
    """
    todo = sweep.chunks(range(len(source)), CHUNK)
    folder = _place(source, root, job, name)
    _describe(source, root)
    sweep.run(source, job, todo, folder, trainer)
    return read_rows(folder, todo, job, source.name)


def make(tasks: Sequence[Task], devices: int) -> None:
    """Make what some tasks say on all devices, a process a pass.

    Raises:
        UserError: when a pass failed; its own message stands above.
    """
    for task in tasks:
        text = json.dumps(dataclasses.asdict(task) | {"devices": devices})
        code = launch.call(["-m", "benchmark.scoring.references", text])
        if code:
            raise UserError(f"the pass over {task.data} ended with exit code {code}; its message stands above")


@dataclass(frozen=True)
class Cost:
    """What a pass over an image set costs on one device.

    Attributes:
        what: is made.
        images: of the set.
        seconds: expected, after timing some.
        disk: bytes that stay.
        memory: bytes beyond the network's own that it takes at most, whatever the number of images.
    """

    what: str
    images: int
    seconds: float
    disk: int
    memory: int


def costs(source: ImageSet, networks: Sequence[Classifier], natural: bool) -> list[Cost]:
    """What the passes over a set will cost, from timing a few images here, without workers; nothing is written."""
    jobs: list[tuple[sweep.Job, int]] = [(BankJob(n), CHUNK) for n in networks]
    jobs += [(SpectrumJob(), SPECTRUM_CHUNK)] if natural else []
    table = []
    for job, size in jobs:
        rows = range(min(2 * sweep.BATCH, len(source)))
        batches = sweep.Batches(source, job.size, sweep.chunks(rows, size), sweep.BATCH)
        job.start(sweep.Chunk("", ()))
        start = time.monotonic()
        for j in range(len(batches)):
            if len(batches[j].views):
                job.see(batches[j].views.float() / 255, batches[j])
        seconds = (time.monotonic() - start) / max(1, len(rows)) * len(source)
        held = sum(t.numel() * t.element_size() for t in job.finish().values())
        each = held / max(1, len(rows))
        disk = held if isinstance(job, SpectrumJob) else round(each * len(source))
        pixels = 3 * job.size[0] * job.size[1] * sweep.BATCH
        memory = (held if isinstance(job, SpectrumJob) else round(2 * each * min(size, len(source)))) + 5 * pixels
        table.append(Cost(job.title, len(source), seconds, disk, memory))
    return table


def main(text: str) -> int:
    """Make what a task says, given as JSON with the number of devices."""
    fields = json.loads(text)
    devices = fields.pop("devices")
    perform(Task(**fields), trainer=launch.trainer(devices))
    return 0


if __name__ == "__main__":
    launch.end(lambda: main(sys.argv[1]))
