"""The scores of a set of images: pictures and a plan in, measurements out.

Every network sees every image, generated or real, in the same way: resized (antialiased) so that its short side covers
the network's input, and centre-cropped; a square canvas is seen whole. Networks score in float32. Inception alone, for
the sake of the paper's FID, takes a centre crop of 299 without resizing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from benchmark.records import Measurement
from featvis import metrics
from featvis.data import classes_of, fit, list_images, open_rgb, to_tensor
from featvis.metrics.inception import inception_features, load_inception
from featvis.metrics.neighbours import TEXTS, Definition
from featvis.models import Classifier, default_device, load
from featvis.reference import EMBEDDED, Bank, read_bank, read_provenance, read_spectrum
from featvis.spectrum import magnitude, resize_spectrum
from featvis.weights import weights_directory

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
        transparency: show the images over a middle grey by their transparency (row "MACO" of Fel et al. 2023, Table 3).
    """

    method: str
    folder: str | None = None
    preset: str | None = None
    config: dict[str, Any] | None = None
    config_hash: str | None = None
    transparency: bool = False


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
        command: what makes the run anew.
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
    command: str | None = None


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
        self.banks = {
            n: b if b is None or b.weights_hash == self.networks[n].weights_hash else None
            for n, b in self.banks.items()
        }
        self.classes = torch.tensor(classes_of(plan.units), dtype=torch.long)
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
            text = TEXTS[kind]
            entries.append(
                Measurement(
                    f"plausibility_{kind}", label, "plausibility", None, None, 0, False, {"text": text}, "absent"
                )
            )
        text = metrics.LogitMagnitude().text
        return [*entries, Measurement("logit", "Logit", "logit", None, None, 0, True, {"text": text}, "absent")]

    def _plausibility(self, seen: dict[str, Tensor], labels: Tensor | None, ids: Tensor) -> list[Measurement]:
        bank = self.banks[self.plan.model]
        empty = {m.name: m for m in self._empty()}
        found = []
        kinds: tuple[Definition, ...] = ("flat", "pooled", "deep_knn")
        for kind in kinds:
            name = f"plausibility_{kind}"
            if bank is None:
                found.append(_absent(empty[name], f"the reference holds no features of {self.plan.model}; give --data"))
                continue
            if labels is None and kind != "deep_knn":
                found.append(
                    _absent(empty[name], "the units are not classes, so there are no images of the same class")
                )
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
                found.append(
                    Measurement(
                        *entry, None, None, 0, False, {"text": f"{label} distance over the features of {short}."}, why
                    )
                )
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
        """Inception's features of the data's images of the units' classes; no bank is embedded for it."""
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
        return (
            found if bank is not None else _absent(found, f"the reference holds no predictions of {name}; give --data")
        )

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
        metric = metrics.SpectrumDeviation(
            resize_spectrum(spectra["magnitude"], size), width=size[1], facts={"reference": self.source()}
        )
        if bank is not None and "real" in spectra and set(bank.flat_classes) == set(self.classes.tolist()):
            mean = resize_spectrum(spectra["real"], size)
            metric.update(mean[None])
            found = _named("spectrum_deviation", "Spectrum deviation", "spectrum", metric.result())
            return dataclasses.replace(found, n=len(bank.flat_rows))
        found = _named("spectrum_deviation", "Spectrum deviation", "spectrum", metric.result())
        return _absent(
            found, "the reference keeps no spectrum of these classes alone; give --data, or make it with --flat"
        )


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

    flat = classes_of(plan.units)
    return cached(Path(plan.data), networks, flat, Path(plan.out) / "reference")
