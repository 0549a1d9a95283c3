"""The scores of a set of images: pictures and a plan in, measurements out.

Every network sees every image, generated or real, in the same way: resized (antialiased) so that its short side covers
the network's input, and centre-cropped; a square canvas is seen whole. Networks score in float32. Inception alone, for
the sake of the paper's FID, takes a centre crop of 299 without resizing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from benchmark.records.record import Measurement
from benchmark.scoring import references
from benchmark.scoring.plan import Picture, Plan
from featvis import metrics
from featvis.canvas.spectrum import magnitude, resize_spectrum
from featvis.data.files import fit, to_tensor
from featvis.data.inception import FILE_NAMES, SIDE, inception_features, load_inception
from featvis.data.reference import EMBEDDED, Bank, read_bank, read_provenance, read_spectrum
from featvis.data.sets import ImageSet
from featvis.metrics.neighbours import TEXTS, Definition
from featvis.networks.classifier import Classifier
from featvis.networks.devices import default_device
from featvis.networks.loading import load
from featvis.networks.names import weights_directory
from featvis.networks.units import classes_of

BATCH = 16
TOO_FEW = "the reference holds fewer than two images besides those of the row real"
FID_SEEN = "centre crop 299, no resize; photographs: short side to 299, centre crop"
SEEN = "short side resized (bicubic, antialiased) to the input, centre crop; a square canvas whole"


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
        wanted = dict.fromkeys((plan.model, *plan.classifiers, plan.frechet))
        self.networks: dict[str, Classifier] = {
            name: load(name, "float32", device) for name in wanted if name not in plan.unavailable
        }
        self.target = self.networks[plan.model]
        self.classes = torch.tensor(classes_of(plan.units), dtype=torch.long)
        self.flat: dict[str, Tensor] = {}
        """Squared distances to the nearest real image of the class, a row; where they were measured beforehand."""
        self.cache = Path(plan.cache)
        synsets = self.target.synsets
        self.real_images = self._pick_real(plan.images("frechet", synsets))
        self.bank = self._bank(plan.model, plan.images("bank", synsets))
        self.frechet_bank = None if plan.frechet in plan.unavailable else self._bank(
            plan.frechet, plan.images("frechet", synsets)
        )  # fmt: skip
        self.spectrum_source, self.spectra = self._read_spectrum(plan.images("spectrum", synsets))
        directory = weights_directory()
        self.inception = load_inception([directory] if directory else [])
        self.inception_bank = self._inception_bank(plan.images("frechet", synsets))
        if self.real_images:
            self.held = torch.tensor([p.digest for p in self.real_images], dtype=torch.long)
        else:
            bank = self.frechet_bank
            self.held = torch.zeros(0, dtype=torch.long) if bank is None else bank.digests[self.held_out(bank)]

    def _bank(self, name: str, source: ImageSet | None) -> Bank | None:
        """The bank of a network: of the image set, or the embedded one where it is of these weights."""
        network = self.networks[name]
        if source is not None:
            return references.bank(source, network, self.cache)
        bank = read_bank(EMBEDDED, network.name)
        return bank if bank is not None and bank.weights_hash == network.weights_hash else None

    def _pick_real(self, source: ImageSet | None) -> list[Picture]:
        """The row `real`: the first image of each class that can be decoded."""
        if source is None:
            return []
        found = []
        for label in self.classes.tolist():
            for i in source.rows.get(label, []):
                try:
                    image, digest = source.open(i)
                except OSError:
                    continue
                found.append(Picture(image, label, digest, photograph=True))
                break
        return found

    def _read_spectrum(self, source: ImageSet | None) -> tuple[str, dict[str, Tensor]]:
        if source is None:
            return str(read_provenance(EMBEDDED).get("source", "embedded")), read_spectrum(EMBEDDED)
        return source.name, read_spectrum(references.spectrum(source, self.cache))

    def held_out(self, bank: Bank) -> Tensor:
        """Rows of an embedded bank that stand in the row `real`: the first image of each of the units' classes."""
        rows = [int((bank.labels == c).nonzero()[0, 0]) for c in self.classes if bool((bank.labels == c).any())]
        return torch.tensor(rows, dtype=torch.long)

    def frechet_reference(self, bank: Bank, exclude: Tensor) -> tuple[Tensor, str]:
        """The features that sets of images are compared with, and what they are.

        The images of the same classes, but for those of the row `real`, where every class has some; else all others.
        """
        keep = ~torch.isin(bank.digests, torch.cat([self.held, exclude]))
        same = keep & torch.isin(bank.labels, self.classes)
        if len(self.classes) and bool(torch.isin(self.classes, bank.labels[same]).all()):
            return bank.rows(same.nonzero()[:, 0]), f"{int(same.sum())} images of the same classes"
        what = f"{int(keep.sum())} images of the other classes (a class has too few of its own)"
        return bank.rows(keep.nonzero()[:, 0]), what

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

    def score(
        self, pictures: Sequence[Picture], step: Callable[[], Any] = lambda: None, method: str = ""
    ) -> list[Measurement]:
        """All metrics of a set of images; `method` says which of `flat` is theirs."""
        labels = None if any(p.label is None for p in pictures) else torch.tensor([p.label for p in pictures])
        ids = torch.tensor([p.digest for p in pictures])
        seen: dict[str, dict[str, Tensor]] = {}
        for name in self.networks:
            seen[name] = self.look(pictures, name)
            step()
        target = seen[self.plan.model]
        squared = self.flat.get(method)
        found = self._plausibility(target, labels, ids, squared) if self.wants("plausibility") else []
        if self.wants("frechet"):
            seen_frechet = seen.get(self.plan.frechet)
            found += self._distances(None if seen_frechet is None else seen_frechet["pooled"], ids)
            found += self._fid(pictures, ids)
        if self.wants("transferability"):
            found += [
                self._top1(name, labels, seen[name]["logits"]) if name in seen else self._no_top1(name)
                for name in self.judges()
            ]
        if self.wants("logit"):
            found.append(self._logit(labels, target["logits"]))
        if self.wants("spectrum"):
            found.append(self._spectrum(pictures))
        step()
        return found

    def real(self, step: Callable[[], Any] = lambda: None) -> tuple[list[Measurement], int]:
        """All metrics of the row `real` and its number of images; from the embedded banks where there is no data."""
        if self.plan.data is not None:
            return (self.score(self.real_images, step, "real") if self.real_images else []), len(self.real_images)
        bank = self.bank
        found: list[Measurement] = []
        rows = self.held_out(bank) if bank is not None else torch.zeros(0, dtype=torch.long)
        if bank is not None and len(rows):
            flat = bank.flat[torch.isin(bank.flat_rows, rows)]
            features = {"pooled": bank.rows(rows), "flat": flat}
            if self.wants("plausibility"):
                found += self._plausibility(features, bank.labels[rows], bank.digests[rows], None)
            if self.wants("logit"):
                entry = metrics.LogitMagnitude(facts=self._facts(self.target))
                entry.values.append(bank.logits[rows].double())
                found.append(_named("logit", "Logit", "logit", entry.result()))
        else:
            reason = f"the reference holds no features of {self.plan.model}; give --data"
            found += [_absent(m, reason) for m in self._empty()]
        other = self.frechet_bank
        if self.wants("frechet") and other is not None:
            held = self.held_out(other)
            found += self._distances(other.rows(held), other.digests[held])
        if self.wants("transferability"):
            found += [self._real_top1(name) if name in self.networks else self._no_top1(name) for name in self.judges()]
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

    def _plausibility(
        self, seen: dict[str, Tensor], labels: Tensor | None, ids: Tensor, squared: Tensor | None
    ) -> list[Measurement]:
        bank = self.bank
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
            # Sun et al. 2022 take k = 1000 for the 1.28 million images of ImageNet; the same share of this bank.
            k = max(1, round(len(bank.labels) * 1000 / 1_281_167)) if kind == "deep_knn" else 1
            layer = self.target.last_block() if kind == "flat" else "penultimate, pooled"
            facts = {**self._facts(self.target), "layer": layer}
            if kind == "flat" and squared is not None:
                facts["bank"] = f"{len(bank.labels)} images, each of its class looked at and none stored: {bank.source}"
                metric = metrics.Plausibility(kind, torch.zeros(0, 1), torch.zeros(0, dtype=torch.long), facts=facts)
                distances = squared.sqrt()
                metric.values.append(distances.masked_fill(distances.isinf(), torch.nan))
                found.append(_named(name, PLAUSIBILITY[kind], "plausibility", metric.result()))
                continue
            if kind == "flat" and not set(self.classes.tolist()) <= set(bank.flat_classes):
                why = "the reference keeps no flattened features of these classes; give --data, or make it with --flat"
                found.append(_absent(empty[name], why))
                continue
            rows = self._neighbours(bank, kind)
            facts["bank"] = f"{len(rows)} images: {bank.source}"
            features: Any = bank.blocks if kind == "deep_knn" else bank.flat if kind == "flat" else bank.rows(rows)
            metric = metrics.Plausibility(kind, features, bank.labels[rows], bank.digests[rows], k, facts=facts)
            place = seen["flat"] if kind == "flat" else seen["pooled"]
            metric.update(place.float(), labels if labels is not None else torch.zeros(len(ids), dtype=torch.long), ids)
            found.append(_named(name, PLAUSIBILITY[kind], "plausibility", metric.result()))
        return found

    def _neighbours(self, bank: Bank, kind: Definition) -> Tensor:
        """Which rows of a bank a definition compares with."""
        if kind == "flat":
            return bank.flat_rows
        if kind == "pooled":
            return torch.isin(bank.labels, self.classes).nonzero()[:, 0]
        return torch.arange(len(bank.labels))

    def _distances(self, features: Tensor | None, ids: Tensor) -> list[Measurement]:
        """Frechet and kernel distance over the network that stands in for Inception."""
        network, bank = self.networks.get(self.plan.frechet), self.frechet_bank
        short = self.plan.frechet if network is None else network.alias
        kinds = ((metrics.FrechetDistance, "frechet", "Fréchet"), (metrics.KernelDistance, "kernel", "Kernel"))
        found = []
        for cls, name, label in kinds:
            entry = (f"{name}_{short}", f"{label}, {short}", "frechet")
            if network is None or bank is None or features is None:
                why = self.plan.unavailable.get(short, f"the reference holds no features of {short}; give --data")
                text = {"text": f"{label} distance over the features of {short}."}
                found.append(Measurement(*entry, None, None, 0, False, text, why))
                continue
            reference, what = self.frechet_reference(bank, ids[ids != 0])
            if len(reference) < 2:
                text = {"text": f"{label} distance over the features of {short}."}
                found.append(Measurement(*entry, None, None, 0, False, text, TOO_FEW))
                continue
            facts = {"resize": SEEN, "extractor": network.name, "reference": f"{what}: {bank.source}"}
            metric = cls(reference, facts=facts)
            metric.update(features)
            found.append(_named(*entry, metric.result()))
        return found

    def _fid(self, pictures: Sequence[Picture], ids: Tensor) -> list[Measurement]:
        """FID and KID over Inception, or why not; nothing is said of them where there are no real images at all."""
        if self.plan.data is None:
            return []
        found = []
        for cls, name, label in ((metrics.FrechetDistance, "fid", "FID"), (metrics.KernelDistance, "kid", "KID")):
            features, digests = self.inception_bank or (torch.zeros(0, 2048), torch.zeros(0, dtype=torch.long))
            keep = ~torch.isin(digests, torch.cat([self.held, ids[ids != 0]]))
            why = "Inception's weights are not to be had: put " + FILE_NAMES[0] + " into the folder FEATVIS_WEIGHTS"
            if self.inception is not None:
                why = TOO_FEW
            if self.inception is None or int(keep.sum()) < 2:
                text = {"text": f"{label}: {label_text(cls)} over torch-fidelity's InceptionV3."}
                found.append(Measurement(name, label, "fid", None, None, 0, False, text, why))
                continue
            what = (
                f"{int(keep.sum())} images of the same classes, short side to 299: {self.plan.sets['frechet']['name']}"
            )
            facts = {"extractor": "InceptionV3 (torch-fidelity), 2048", "resize": FID_SEEN, "reference": what}
            metric = cls(features[keep], facts=facts)
            for p in pictures:
                metric.update(inception_features(self.inception, to_tensor(_fid_view(p))[None]).cpu())
            found.append(_named(name, label, "fid", metric.result()))
        return found

    def _inception_bank(self, source: ImageSet | None) -> tuple[Tensor, Tensor] | None:
        """Inception's features of the data's images of the units' classes; no bank is embedded for it."""
        if self.inception is None or source is None or not self.wants("frechet"):
            return None
        return references.inception_bank(source, self.inception, self.classes.tolist(), self.cache)

    def _no_top1(self, name: str) -> Measurement:
        metric = metrics.Transferability(name)
        found = _named(f"top1_{name}", f"Top-1, {name}", "transferability", metric.result())
        return _absent(found, self.plan.unavailable[name])

    def _top1(self, name: str, labels: Tensor | None, logits: Tensor) -> Measurement:
        network = self.networks[name]
        metric = metrics.Transferability(network.name, facts={"resize": SEEN})
        if labels is not None:
            metric.update(logits, labels)
        found = _named(*self._top1_entry(network), metric.result())
        return found if labels is not None else _absent(found, "the units are not classes")

    def _real_top1(self, name: str) -> Measurement:
        network = self.networks[name]
        bank = self._bank(name, None)
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
        width, height = next(iter(sizes)) if len(sizes) == 1 else (self.plan.canvas[1], self.plan.canvas[0])
        r = resize_spectrum(self.spectra["magnitude"], (height, width))
        metric = metrics.SpectrumDeviation(r, width=width, facts={"reference": self.spectrum_source})
        for p in pictures:
            metric.update(magnitude(to_tensor(fit(p.image, (height, width))))[None])
        return _named("spectrum_deviation", "Spectrum deviation", "spectrum", metric.result())

    def _real_spectrum(self) -> Measurement:
        size = (self.plan.canvas[0], self.plan.canvas[1])
        spectra, bank = self.spectra, self.bank
        metric = metrics.SpectrumDeviation(
            resize_spectrum(spectra["magnitude"], size), width=size[1], facts={"reference": self.spectrum_source}
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


def label_text(cls: type) -> str:
    """What a distance between sets is called in a sentence."""
    return "Fréchet distance" if cls is metrics.FrechetDistance else "squared maximum mean discrepancy"


def _fid_view(picture: Picture) -> Image.Image:
    return fit(picture.image, (SIDE, SIDE)) if picture.photograph else picture.image
