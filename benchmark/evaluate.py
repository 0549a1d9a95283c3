"""Scores: folders of images in, records out. Reads images only; anyone's folder will do.

Every network sees every image, generated or real, in the same way: resized (antialiased) so that its short side covers
the network's input, and centre-cropped; a square canvas is seen whole. Networks score in float32. Inception alone, for
the sake of the paper's FID, takes a centre crop of 299 without resizing.
"""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from benchmark import records
from benchmark.records import Budget, FailedUnit, Measurement, Record
from featvis import images, metrics
from featvis.callbacks import to_bytes, versions
from featvis.data import IMAGE_SUFFIXES, ImageFile, Unit, digest, fit, list_images, open_rgb, to_tensor
from featvis.errors import UserError
from featvis.metrics.inception import inception_features, load_inception
from featvis.models import Classifier, default_device, load, weights_directory
from featvis.parametrizations import Phase
from featvis.reference import (
    EMBEDDED,
    Bank,
    natural_spectrum,
    read_bank,
    read_provenance,
    read_spectrum,
)
from featvis.spectrum import magnitude, resize_spectrum

BATCH = 16
SEEN = "short side resized (bicubic, antialiased) to the input, centre crop; a square canvas whole"


@dataclass
class Row:
    """One row of the table.

    Attributes:
        method: its name; `real` and `noise` are made here.
        folder: of its images, relative to the run's folder, or absolute.
        preset: the file of configs/generator that it started from.
        config: of the generator.
        config_hash: of the generator.
    """

    method: str
    folder: str | None = None
    preset: str | None = None
    config: dict[str, Any] | None = None
    config_hash: str | None = None


@dataclass
class Plan:
    """What is to be scored, and how; written as JSON, so that the scoring is a process of its own.

    Attributes:
        out: the run's folder.
        suite: its name.
        model: the target network.
        classifiers: of the transferability score.
        frechet: the network whose features stand in for Inception's.
        data: folder of real images, or None for the embedded reference.
        seed: of the row `noise`.
        units: ids of the units.
        labels: their names.
        canvas: (H, W) of the rows `noise` and `real`.
        rows: of the table.
        metrics: groups to compute; empty: all.
        wandb: `offline`, `online` or `disabled`.
        failed: cells whose generation failed, and why.
    """

    out: str
    suite: str
    model: str
    classifiers: list[str]
    frechet: str
    data: str | None
    seed: int
    units: list[str]
    labels: list[str]
    canvas: list[int]
    rows: list[Row]
    metrics: list[str] = field(default_factory=list)
    wandb: str = "disabled"
    failed: dict[str, str] = field(default_factory=dict)


def definition(plan: Plan) -> dict[str, Any]:
    """What the scores of a plan depend on besides the images."""
    return {
        "classifiers": plan.classifiers,
        "frechet": plan.frechet,
        "data": plan.data,
        "metrics": plan.metrics,
        "seed": plan.seed,
    }


def record_path(plan: Plan, row: Row) -> Path:
    """Where a row's record lies; by alias, as the file names of the run do."""
    return Path(plan.out) / "records" / plan.model / f"{row.method}.json"


def scored(plan: Plan, row: Row) -> bool:
    """Whether a row's finished record is there, of the same images and the same definitions."""
    try:
        record = Record.read(record_path(plan, row))
    except UserError:
        return False
    return (
        record.status == "done"
        and list(record.units) == plan.units
        and record.config_hash == row.config_hash
        and record.config.get("evaluation") == definition(plan)
        and (row.config is None or record.config.get("generator") == row.config)
    )


@dataclass
class Picture:
    """An image to be scored: RGB, its class (None: not a class), its content's digest (0: not a file)."""

    image: Image.Image
    label: int | None
    digest: int = 0


class Scorer:
    """The networks and the reference of a plan, loaded once.

    Args:
        plan: what is to be scored.
        alias: of the target, for files.

    Raises:
        UserError: for networks or a reference that are not to be had.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        device = default_device()
        self.networks: dict[str, Classifier] = {
            name: load(name, "float32", device) for name in dict.fromkeys((plan.model, *plan.classifiers, plan.frechet))
        }
        self.target = self.networks[plan.model]
        self.reference = reference_folder(plan, list(self.networks.values()))
        self.banks = {name: read_bank(self.reference, net.name) for name, net in self.networks.items()}
        self.banks = {n: b if b is None or b.weights_hash == self.networks[n].weights_hash else None for n, b in self.banks.items()}
        self.classes = torch.tensor([int(u) for u in plan.units if u.isdecimal()])
        directory = weights_directory()
        self.inception = load_inception([directory] if directory else [])
        self.inception_bank = self._inception_bank()

    def source(self) -> str:
        """The reference, for definitions."""
        return str(self.plan.data or read_provenance(self.reference).get("source", "embedded"))

    def held_out(self, bank: Bank) -> Tensor:
        """Rows of a bank that stand in the row `real`: the first image of each of the units' classes."""
        rows = [int((bank.labels == c).nonzero()[0, 0]) for c in self.classes if bool((bank.labels == c).any())]
        return torch.tensor(rows, dtype=torch.long)

    def frechet_reference(self, bank: Bank, exclude: Tensor) -> tuple[Tensor, str]:
        """The features that sets of images are compared with, and what they are.

        The images of the same classes, but for those of the row `real`, where every class has some; else all others.
        """
        keep = torch.ones(len(bank.labels), dtype=torch.bool)
        keep[self.held_out(bank)] = False
        keep &= ~torch.isin(bank.digests, exclude)
        same = keep & torch.isin(bank.labels, self.classes)
        if len(self.classes) and all(bool((bank.labels[same] == c).any()) for c in self.classes):
            return bank.features[same], f"{int(same.sum())} images of the same classes"
        return bank.features[keep], f"{int(keep.sum())} images of the other classes (a class has too few of its own)"

    def look(self, pictures: Sequence[Picture], name: str) -> dict[str, Tensor]:
        """Features of a network for all pictures, on the CPU."""
        network = self.networks[name]
        found = []
        for i in range(0, len(pictures), BATCH):
            views = [to_tensor(fit(p.image, network.input_size)) for p in pictures[i : i + BATCH]]
            out = network.features(torch.stack(views).to(network.device))
            found.append({k: v.cpu() for k, v in out.items()})
        return {k: torch.cat([f[k] for f in found]) for k in found[0]}

    def wants(self, group: str) -> bool:
        """Whether a group of metrics is asked for."""
        return not self.plan.metrics or group in self.plan.metrics

    def score(self, pictures: Sequence[Picture], step: Callable[[], Any] = lambda: None) -> list[Measurement]:
        """All metrics of a set of images."""
        labels = None if any(p.label is None for p in pictures) else torch.tensor([p.label for p in pictures])
        ids = torch.tensor([p.digest for p in pictures])
        seen: dict[str, dict[str, Tensor]] = {}
        for name in self.networks:
            seen[name] = self.look(pictures, name)
            step()
        target = seen[self.plan.model]
        found = self._plausibility(target, labels, ids) if self.wants("plausibility") else []
        if self.wants("frechet"):
            found += self._distances(seen[self.plan.frechet]["pooled"], ids, pictures)
        if self.wants("transferability"):
            found += [self._top1(name, labels, seen[name]["logits"]) for name in self.judges()]
        if self.wants("logit"):
            found.append(self._logit(labels, target["logits"]))
        if self.wants("spectrum"):
            found.append(self._spectrum(pictures))
        step()
        return found

    def real(self) -> tuple[list[Measurement], int]:
        """All metrics of the row `real`, from the reference's banks, and the number of its images."""
        bank = self.banks[self.plan.model]
        found: list[Measurement] = []
        rows = self.held_out(bank) if bank is not None else torch.zeros(0, dtype=torch.long)
        if bank is not None and len(rows):
            flat = bank.flat[torch.isin(bank.flat_rows, rows)]
            features = {"pooled": bank.features[rows], "flat": flat}
            if self.wants("plausibility"):
                found += self._plausibility(features, bank.labels[rows], bank.digests[rows])
            if self.wants("logit"):
                entry = metrics.LogitMagnitude(facts=self._facts(self.target))
                entry.values.append(bank.logits[rows].double())
                found.append(_named("logit", "Logit", "logit", entry.result()))
        else:
            reason = f"the reference holds no features of {self.plan.model}; give --data"
            found += [_absent(m, reason) for m in self._empty()]
        other = self.banks[self.plan.frechet]
        if self.wants("frechet") and other is not None:
            held = self.held_out(other)
            found += self._distances(other.features[held], other.digests[held], [])
        if self.wants("transferability"):
            found += [self._real_top1(name) for name in self.judges()]
        if self.wants("spectrum"):
            found.append(self._real_spectrum())
        return found, len(rows)

    # --- one metric each ------------------------------------------------------------------------------------------

    def judges(self) -> list[str]:
        """The networks that say what they see: the target itself, then those of the transferability score."""
        return list(dict.fromkeys((self.plan.model, *self.plan.classifiers)))

    def _top1_entry(self, network: Classifier) -> tuple[str, str, str]:
        own = ", the target" if network is self.target else ""
        return f"top1_{network.name}", f"Top-1, {network.alias}{own}", "transferability"

    def _facts(self, network: Classifier) -> dict[str, Any]:
        return {"network": network.name, "resize": SEEN}

    def _empty(self) -> list[Measurement]:
        entries = []
        for kind, label in PLAUSIBILITY.items():
            text = metrics.neighbours.TEXTS[kind]
            entries.append(Measurement(f"plausibility_{kind}", label, "plausibility", None, None, 0, False, {"text": text}, "absent"))
        text = metrics.LogitMagnitude().text
        return [*entries, Measurement("logit", "Logit", "logit", None, None, 0, True, {"text": text}, "absent")]

    def _plausibility(self, seen: dict[str, Tensor], labels: Tensor | None, ids: Tensor) -> list[Measurement]:
        bank = self.banks[self.plan.model]
        empty = {m.name: m for m in self._empty()}
        found = []
        for kind in PLAUSIBILITY:
            name = f"plausibility_{kind}"
            if bank is None:
                found.append(_absent(empty[name], f"the reference holds no features of {self.plan.model}; give --data"))
                continue
            if labels is None and kind != "deep_knn":
                found.append(_absent(empty[name], "the units are not classes, so there are no images of the same class"))
                continue
            rows = bank.flat_rows if kind == "flat" else torch.arange(len(bank.labels))
            if kind == "flat" and not set(self.classes.tolist()) <= set(bank.flat_classes):
                why = "the reference keeps no flattened features of these classes; give --data, or make it with --flat"
                found.append(_absent(empty[name], why))
                continue
            features = bank.flat if kind == "flat" else bank.features
            # Sun et al. 2022 take k = 1000 for the 1.28 million images of ImageNet; the same share of this bank.
            k = max(1, round(len(bank.labels) * 1000 / 1_281_167)) if kind == "deep_knn" else 1
            layer = self.target.last_block() if kind == "flat" else "penultimate, pooled"
            facts = {**self._facts(self.target), "layer": layer, "bank": f"{len(rows)} images: {self.source()}"}
            metric = metrics.Plausibility(kind, features, bank.labels[rows], bank.digests[rows], k, facts=facts)
            place = seen["flat"] if kind == "flat" else seen["pooled"]
            metric.update(place.float(), labels if labels is not None else torch.zeros(len(ids), dtype=torch.long), ids)
            found.append(_named(name, PLAUSIBILITY[kind], "plausibility", metric.result()))
        return found

    def _distances(self, features: Tensor, ids: Tensor, pictures: Sequence[Picture]) -> list[Measurement]:
        """Frechet and kernel distance over the stand-in network, and over Inception where it is to be had."""
        network = self.networks[self.plan.frechet]
        short = network.alias
        bank = self.banks[self.plan.frechet]
        kinds = ((metrics.FrechetDistance, "frechet", "Fréchet"), (metrics.KernelDistance, "kernel", "Kernel"))
        found = []
        for cls, name, label in kinds:
            entry = (f"{name}_{short}", f"{label}, {short}", "frechet")
            if bank is None:
                why = f"the reference holds no features of {short}; give --data"
                found.append(Measurement(*entry, None, None, 0, False, {"text": f"{label} distance over the features of {short}."}, why))
                continue
            reference, what = self.frechet_reference(bank, ids[ids != 0])
            facts = {"resize": SEEN, "extractor": network.name, "reference": f"{what}: {self.source()}"}
            metric = cls(reference, facts=facts)
            metric.update(features)
            found.append(_named(*entry, metric.result()))
        if self.inception is not None and self.inception_bank is not None and pictures:
            seen = torch.cat([inception_features(self.inception, to_tensor(p.image)[None]) for p in pictures])
            facts = {"extractor": "InceptionV3 (torch-fidelity), 2048", "resize": "centre crop 299, no resize"}
            for cls, name, label in ((metrics.FrechetDistance, "fid", "FID"), (metrics.KernelDistance, "kid", "KID")):
                metric = cls(self.inception_bank, facts=facts)
                metric.update(seen)
                found.append(_named(name, label, "fid", metric.result()))
        return found

    def _inception_bank(self) -> Tensor | None:
        """Inception's features of the data's images of the units' classes; it takes real images, not an embedded bank."""
        if self.inception is None or self.plan.data is None or not self.wants("frechet"):
            return None
        files = list_images(Path(self.plan.data), self.target.synsets)
        wanted = [f for f in files if f.label in self.classes.tolist()]
        views = [to_tensor(fit(open_rgb(f.path), (299, 299)))[None] for f in wanted]
        return torch.cat([inception_features(self.inception, v) for v in views]) if len(views) > 1 else None

    def _top1(self, name: str, labels: Tensor | None, logits: Tensor) -> Measurement:
        network = self.networks[name]
        metric = metrics.Transferability(network.name, facts={"resize": SEEN})
        if labels is not None:
            metric.update(logits, labels)
        found = _named(*self._top1_entry(network), metric.result())
        return found if labels is not None else _absent(found, "the units are not classes")

    def _real_top1(self, name: str) -> Measurement:
        network, bank = self.networks[name], self.banks[name]
        metric = metrics.Transferability(network.name, facts={"resize": SEEN})
        if bank is not None:
            rows = self.held_out(bank)
            metric.values.append((bank.predictions[rows] == bank.labels[rows]).double())
        found = _named(*self._top1_entry(network), metric.result())
        return found if bank is not None else _absent(found, f"the reference holds no predictions of {name}; give --data")

    def _logit(self, labels: Tensor | None, logits: Tensor) -> Measurement:
        metric = metrics.LogitMagnitude(facts=self._facts(self.target))
        if labels is not None:
            metric.update(logits, labels)
        found = _named("logit", "Logit", "logit", metric.result())
        return found if labels is not None else _absent(found, "the units are not classes")

    def _spectrum(self, pictures: Sequence[Picture]) -> Measurement:
        sizes = {p.image.size for p in pictures}
        width, height = next(iter(sizes)) if len(sizes) == 1 else (256, 256)
        r = resize_spectrum(read_spectrum(self.reference)["magnitude"], (height, width))
        metric = metrics.SpectrumDeviation(r, width=width, facts={"reference": self.source()})
        for p in pictures:
            metric.update(magnitude(to_tensor(fit(p.image, (height, width))))[None])
        return _named("spectrum_deviation", "Spectrum deviation", "spectrum", metric.result())

    def _real_spectrum(self) -> Measurement:
        size = (self.plan.canvas[0], self.plan.canvas[1])
        spectra = read_spectrum(self.reference)
        bank = self.banks[self.plan.model]
        metric = metrics.SpectrumDeviation(resize_spectrum(spectra["magnitude"], size), width=size[1], facts={"reference": self.source()})
        if bank is not None and "real" in spectra and set(bank.flat_classes) == set(self.classes.tolist()):
            mean = resize_spectrum(spectra["real"], size)
            metric.update(mean[None])
            found = _named("spectrum_deviation", "Spectrum deviation", "spectrum", metric.result())
            return dataclasses.replace(found, n=len(bank.flat_rows))
        found = _named("spectrum_deviation", "Spectrum deviation", "spectrum", metric.result())
        return _absent(found, "the reference keeps no spectrum of these classes alone; give --data, or make it with --flat")


PLAUSIBILITY = {
    "flat": "Plausibility, flat",
    "pooled": "Plausibility, pooled",
    "deep_knn": "Plausibility, Deep-KNN",
}


def _named(name: str, label: str, group: str, result: dict[str, Any]) -> Measurement:
    interval = result.pop("interval")
    return Measurement(name=name, label=label, group=group, interval=tuple(interval) if interval else None, **result)


def _absent(measurement: Measurement, reason: str) -> Measurement:
    return dataclasses.replace(measurement, value=None, interval=None, n=0, absent=reason)


def reference_folder(plan: Plan, networks: list[Classifier]) -> Path:
    """The reference to compare with: the embedded one, or that of `data`, made here the first time it is needed."""
    if plan.data is None:
        return EMBEDDED
    from benchmark.reference import cached

    flat = [int(u) for u in plan.units if u.isdecimal()]
    return cached(Path(plan.data), networks, flat, Path(plan.out) / "reference")


def noise_folder(plan: Plan) -> Path:
    """The images of the row `noise`: the natural magnitude spectrum with random phases, not optimised; made once."""
    size = (plan.canvas[0], plan.canvas[1])
    config = {"canvas": list(size), "seed": plan.seed, "phases": "U(-pi, pi)"}
    config_hash = records.config_hash(config)
    folder = Path(plan.out) / plan.model / "noise" / config_hash
    phase = Phase(size, natural_spectrum(size), phase_std=None)
    for unit, label in zip(plan.units, plan.labels, strict=True):
        path = folder / f"{unit}.png"
        if images.verify(path, config_hash) is None:
            continue
        stream = torch.Generator().manual_seed(Unit("logits", int(unit), label).seed(plan.seed) if unit.isdecimal() else plan.seed)
        canvas = phase.decode(*phase.init([stream]))[0]
        facts = {"unit": unit, "label": label, "seed": plan.seed, "config_hash": config_hash, "steps": 0, "views": 0}
        images.write(path, to_bytes(canvas), np.full(size, 255, np.uint8), facts)
    return folder


def pictures_of(folder: Path, units: Sequence[str]) -> list[Picture]:
    """The finished images of a run's folder, RGB only, in the order of the units."""
    found = []
    for unit in units:
        path = folder / f"{unit}.png"
        if path.is_file():
            found.append(Picture(open_rgb(path), int(unit) if unit.isdecimal() else None))
    return found


def git_commit() -> str | None:
    """The commit of the checkout that this runs from, or None where it is no checkout."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=Path(__file__).parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout.strip() or None


def device_text(target: Classifier, config: dict[str, Any] | None) -> str:
    """The device that a row was made on, in words."""
    precision = (config or {}).get("precision", "float32")
    if target.device.type == "cuda":
        return f"{torch.cuda.get_device_name()} ({precision})"
    return f"{target.device.type} ({torch.get_num_threads()} threads, {precision})"


def to_record(plan: Plan, row: Row, target: Classifier, **facts: Any) -> Record:
    """A record with all that does not depend on whether the row could be scored."""
    arguments = (row.config or {}).get("init_args", {})
    budget = None
    if row.config is not None:
        steps, views = int(arguments.get("steps", 0)), int(arguments.get("views", 0))
        canvas = arguments.get("canvas", plan.canvas)
        size = (canvas, canvas) if isinstance(canvas, int) else (canvas[0], canvas[1])
        budget = Budget(steps, views, steps * views, size)
    base: dict[str, Any] = {
        "suite": plan.suite,
        "model": target.name,
        "alias": target.alias,
        "method": row.method,
        "preset": row.preset,
        "config": {"generator": row.config, "evaluation": definition(plan)},
        "config_hash": row.config_hash,
        "units": tuple(plan.units),
        "labels": tuple(plan.labels),
        "units_hash": records.units_hash(plan.units),
        "n": 0,
        "budget": budget,
        "failed_units": (),
        "images": None,
        "metrics": (),
        "seconds_per_image": None,
        "git_commit": git_commit(),
        "versions": versions() | versions(("torchmetrics", "faiss-cpu", "torch-fidelity")),
        "device": device_text(target, row.config),
        "status": "done",
        "error": None,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return Record(**(base | facts))


def evaluate_row(plan: Plan, row: Row, scorer: Scorer, step: Callable[[], Any]) -> Record:
    """The record of a row."""
    if row.method == "real" and row.folder is None:
        found, n = scorer.real()
        return to_record(plan, row, scorer.target, metrics=tuple(found), n=n)
    out = Path(plan.out)
    folder = noise_folder(plan) if row.method == "noise" and row.folder is None else out / str(row.folder)
    pictures = pictures_of(folder, plan.units)
    failures = tuple(
        FailedUnit(unit=f["unit"], step=f["step"], reason=f["reason"])
        for f in (json.loads(p.read_text()) for p in sorted(folder.glob("*.failed.json")))
        if f["unit"] in plan.units
    )
    if not pictures:
        raise UserError(plan.failed.get(row.method, f"there is no finished image in {folder}"))
    found = scorer.score(pictures, step)
    error = plan.failed.get(row.method)
    return to_record(
        plan,
        row,
        scorer.target,
        metrics=tuple(found),
        n=len(pictures),
        failed_units=failures,
        images=folder.relative_to(out).as_posix(),
        seconds_per_image=seconds_per_image(folder),
        status="failed" if error else "done",
        error=error,
    )


def seconds_per_image(folder: Path) -> float | None:
    """Median over the batches of a folder of the seconds that an image took."""
    path = folder / "timings.jsonl"
    if not path.is_file():
        return None
    lines = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    return float(np.median([t["seconds"] / len(t["units"]) for t in lines])) if lines else None


def evaluate(plan: Plan) -> int:
    """Score what lacks a record; 1 when some row failed."""
    todo = [row for row in plan.rows if not scored(plan, row)]
    if not todo:
        return 0
    scorer, failed = Scorer(plan), False
    with tqdm(total=len(todo) * (len(scorer.networks) + 1), desc="scores", unit="step") as bar:
        for row in todo:
            bar.set_postfix_str(row.method)
            try:
                record = evaluate_row(plan, row, scorer, lambda: bar.update(1))
            except Exception as error:  # one row must not take the others with it; its record says what happened
                text = " ".join(str(error).split()) or type(error).__name__
                print(f"featvis: {row.method} cannot be scored: {text}", file=sys.stderr)
                record = to_record(plan, row, scorer.target, status="failed", error=text)
            failed = failed or record.status == "failed"
            record.write(record_path(plan, row))
    if plan.wandb != "disabled":
        log(plan)
    return 1 if failed else 0


def log(plan: Plan) -> None:
    """Log every row's metrics and the final table to Weights & Biases."""
    from benchmark.generate import wandb_logger
    from benchmark.tables import frame

    found = [r for r in records.load_all(Path(plan.out) / "records") if r.alias == plan.model]
    logger = wandb_logger(plan.wandb, f"{plan.model}/table", plan.suite, Path(plan.out), "evaluate")
    logger.log_hyperparams(dataclasses.asdict(plan))
    for record in found:
        logger.log_metrics({f"{record.method}/{m.name}": m.value for m in record.metrics if m.value is not None})
    logger.log_table("table", dataframe=frame(found).astype(object).where(lambda x: x.notna(), None))
    logger.experiment.finish()


def folder_plan(folder: Path, model: str, **options: Any) -> tuple[Plan, list[Picture]]:
    """The plan and the pictures of anyone's folder: images whose names carry a class.

    Raises:
        UserError: when the folder is missing, empty, or no name carries a class.
    """
    target = load(model, "float32")
    files = list_images(folder, target.synsets or [str(i) for i in range(target.num_classes)], flag="FOLDER")
    named = [f for f in files if f.label is not None]
    if not named:
        raise UserError(
            f"no image in {folder} carries a class in its name; name them by index (301.png) or synset (n02165456_1.png)"
        )
    pictures, skipped = [], []
    for file in named:
        try:
            pictures.append(Picture(open_rgb(file.path), file.label, digest(file.path)))
        except OSError as error:
            skipped.append(file.path)
            print(f"featvis: {file.path} cannot be decoded and is skipped ({error})", file=sys.stderr)
    unnamed = len(files) - len(named)
    if skipped or unnamed:
        print(f"featvis: {len(skipped)} images skipped as broken, {unnamed} without a class in their names", file=sys.stderr)
    if not pictures:
        raise UserError(f"none of the {len(named)} images in {folder} can be decoded")
    classes = list(dict.fromkeys(p.label for p in pictures if p.label is not None))
    sizes = {p.image.size for p in pictures}
    canvas = [*next(iter(sizes))][::-1] if len(sizes) == 1 else [256, 256]
    method = re.sub(r"[^A-Za-z0-9_.+-]", "_", folder.resolve().name).strip("_.-") or "folder"
    if method in records.REFERENCES:
        method = f"{method}_images"
    plan = Plan(
        model=target.alias,
        seed=0,
        units=[str(c) for c in classes],
        labels=[target.labels[c] for c in classes],
        canvas=canvas,
        rows=[Row("real"), Row(method, str(folder)), Row("noise")],
        **options,
    )
    return plan, pictures


def evaluate_folder(folder: Path, model: str, **options: Any) -> list[Record]:
    """Score anyone's folder beside `real` and `noise` of the same classes; the records, also written."""
    plan, pictures = folder_plan(folder, model, **options)
    scorer, found = Scorer(plan), []
    with tqdm(total=2 * (len(scorer.networks) + 1), desc="scores", unit="step") as bar:
        for row in plan.rows:
            if row.folder is None:
                record = evaluate_row(plan, row, scorer, lambda: bar.update(1))
            else:
                measured = scorer.score(pictures, lambda: bar.update(1))
                record = to_record(plan, row, scorer.target, metrics=tuple(measured), n=len(pictures))
            record.write(record_path(plan, row))
            found.append(record)
    return found



if __name__ == "__main__":
    with Path(sys.argv[1]).open() as file:
        data = json.load(file)
    data["rows"] = [Row(**row) for row in data["rows"]]
    try:
        sys.exit(evaluate(Plan(**data)))
    except UserError as error:
        print(f"featvis: {error}", file=sys.stderr)
        sys.exit(1)
