"""The scores of a set of images: pictures and a plan in, measurements out.

Every network sees every image, generated or real, in the same way: resized (antialiased) so that its short side covers
the network's input, and centre-cropped; a square canvas is seen whole. Networks score in float32. What is computed of
that is found by the columns' names: see `benchmark.records.columns` and `benchmark.scoring.evaluators`.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmark.records.columns import wanted
from benchmark.records.record import Measurement
from benchmark.scoring import others, references
from benchmark.scoring.natural import Natural
from benchmark.scoring.plan import Kind, Picture, Plan, Sources
from featvis.data.extractors.inception import load_inception
from featvis.data.files import as_input
from featvis.data.gallery import Rows
from featvis.data.reference import EMBEDDED, Bank, read_bank, read_provenance, read_spectrum
from featvis.data.sets import ImageSet
from featvis.metrics.resampling import prepare
from featvis.networks.classes import Classes
from featvis.networks.classifier import Classifier
from featvis.networks.devices import default_device
from featvis.networks.loading import load
from featvis.networks.names import weights_directory
from featvis.networks.units import class_of, classes_of

BATCH = 16


@dataclass
class Seen:
    """What is known of a row's images once every network has looked at them.

    Attributes:
        features: by network: `logits` (n, c), `pooled` (n, d) and `flat` (n, l) of images that were looked at; of the
            embedded reference, which keeps less: `pooled`, `flat`, `own_logit` (n,), `correct` (n,) and `ids`.
        labels: (n,), the class of each image; None: the units are not classes.
        ids: (n,), digests of the images' files, 0 for none.
        pictures: the images; none where all comes from the embedded reference.
        nearest: `squared` and `cosine` (n,), distances to the nearest real image of the class, where they were measured
            beforehand.
        banked: it is the row `real` or `real_other` of the embedded reference.
        kind: of the row; empty: not known.
        no_sets: why distances between sets say nothing of these images; empty: they do.
    """

    features: dict[str, dict[str, Tensor]]
    labels: Tensor | None
    ids: Tensor
    pictures: Sequence[Picture] = ()
    nearest: dict[str, Tensor] | None = None
    banked: bool = field(default=False)
    kind: str = ""
    no_sets: str = ""

    def __len__(self) -> int:
        return len(self.ids)


class Scorer:
    """The networks and the reference of a plan, each loaded, listed and read once.

    Args:
        plan: what is to be scored.
        sources: its real images, where they are listed already.
        networks: by the plan's names, where they are loaded already; the others are loaded.

    Raises:
        UserError: for networks or a reference that cannot be used.
    """

    def __init__(
        self, plan: Plan, sources: Sources | None = None, networks: Mapping[str, Classifier] | None = None
    ) -> None:
        prepare()
        # As on a CPU: PyTorch leaves the convolutions of NVIDIA's cards to TF32, of ten bits.
        torch.backends.cudnn.allow_tf32 = False
        self.plan, self.wanted = plan, wanted(plan.metrics)
        device, given = default_device(), networks or {}
        asked = dict.fromkeys((plan.model, *plan.classifiers, plan.frechet, *plan.observers, *plan.extractors))
        idle = plan.idle()
        names = [n for n in asked if n not in idle or n in plan.extractors]
        self.networks: dict[str, Classifier] = {
            name: given[name].in_precision("float32").to(device)
            if name in given
            else load(plan.loads(name), "float32", device)
            for name in names
        }
        self.target = self.networks[plan.model]
        self.classes = torch.tensor(classes_of(plan.units), dtype=torch.long)
        self.flat: dict[str, dict[str, Tensor]] = {}
        """Distances to the nearest real image of the class, a row; where they were measured beforehand."""
        self.within: dict[tuple[str, frozenset[int]], float] = {}
        """`KernelDistance.within` of references, by what is left out of them: costly, and the same for most rows."""
        self.cache = Path(plan.cache)
        self.sources = plan.sources(self.target) if sources is None else sources
        directory = weights_directory()
        self.inception = load_inception([directory] if directory else [])
        made = {task: self._made(task) for task in references.passes(plan)}
        results = {(task.kind, task.role, task.model): result for task, result in made.items()}
        self.galleries: dict[str, Rows] = {str(t.model): r for t, r in made.items() if t.kind == "gallery"}
        excited = results.get(("activations", "bank", plan.model))
        self.natural = None if excited is None else Natural(self, excited)
        self.bank: Bank | None = results.get(("bank", "bank", plan.model), self._embedded(plan.model))
        banks = {n: results.get(("bank", "frechet", n), self._embedded(n)) for n in self.networks}
        self.set_banks: dict[str, Bank] = {name: bank for name, bank in banks.items() if bank is not None}
        """By network: the features of the images that sets are compared with."""
        self.inception_bank: tuple[Tensor, Tensor] | None = results.get(("inception", "frechet", None))
        self.spectrum_source, self.spectra = self._read_spectrum(results.get(("spectrum", "spectrum", None)))
        self.real_images = self._pick_real(self.sources.frechet)
        self.other_images: list[Picture] = []
        self.no_sets = ""
        if self.sources.bank is not None and any(row.kind == "real_other" for row in plan.rows):
            self.other_images, self.no_sets = others.photographs(self.sources.bank, self.classes.tolist())
        if self.real_images:
            self.held = torch.tensor([p.digest for p in self.real_images], dtype=torch.long)
        else:
            found = [b.digests[self.held_out(b, self.banked_classes(n))] for n, b in self.set_banks.items()]
            self.held = torch.cat([torch.zeros(0, dtype=torch.long), *found]).unique()

    def _made(self, task: references.Task) -> Any:
        """The result of a pass over real images, made as far as it is missing."""
        if task.kind == "nearest":
            return None  # needs the pictures of the rows: `benchmark.scoring.pictures.flat_distances`
        network = None if task.model is None else self.networks[task.model]
        return references.perform(task, self.sources.of(task.role), network, self.inception)

    def _embedded(self, name: str) -> Bank | None:
        """The embedded bank of a network where it is of these weights, and no data was given."""
        network = self.networks.get(name)
        if network is None or self.sources.bank is not None:
            return None
        bank = read_bank(EMBEDDED, network.name)
        return bank if bank is not None and bank.weights_hash == network.weights_hash else None

    def _pick_real(self, source: ImageSet | None) -> list[Picture]:
        """The row `real`: of each class the first images that can be decoded, as many as a method has pictures of it.

        But no more than half of the class's images, and one at least: sets are compared with what is left.
        """
        if source is None:
            return []
        found = []
        for label in self.classes.tolist():
            units = [unit for unit in self.plan.units if class_of(unit) == label]
            most = max(1, len(source.rows.get(label, [])) // 2)
            decoded = others.decoded(source, label)
            for unit, (image, digest) in zip(units[:most], decoded, strict=False):
                found.append(Picture(image, label, digest, photograph=True, unit=unit))
        return found

    def _read_spectrum(self, folder: Path | None) -> tuple[str, dict[str, Tensor]]:
        if folder is None:
            return str(read_provenance(EMBEDDED).get("source", "embedded")), read_spectrum(EMBEDDED)
        assert self.sources.spectrum is not None
        return self.sources.spectrum.name, read_spectrum(folder)

    def numbers(self, classes: Tensor, name: str) -> Tensor:
        """Classes of the target (n,) by the numbers that they have in a network; -1 for one that it does not have."""
        network = self.networks[name]
        if network is self.target:
            return classes
        own, other = Classes.of(self.target), Classes.of(network)
        found = [own.counterpart(c, other) for c in classes.tolist()]
        return torch.tensor([-1 if c is None else c for c in found], dtype=torch.long)

    def banked_classes(self, name: str) -> Tensor:
        """The units' classes as the bank of a network has them: an embedded one in that network's own numbers."""
        return self.classes if self.sources.bank is not None else self.numbers(self.classes, name)

    def held_out(self, bank: Bank, classes: Tensor) -> Tensor:
        """Rows of an embedded bank that stand in the row `real`: the first image of each of the classes."""
        rows = [int((bank.labels == c).nonzero()[0, 0]) for c in classes if bool((bank.labels == c).any())]
        return torch.tensor(rows, dtype=torch.long)

    def set_reference(self, name: str, exclude: Tensor) -> tuple[Tensor, str]:
        """The features of a network that sets of images are compared with, and what they are.

        The images of the same classes, but for those of the row `real`, where every class has some; else all others.
        Those that are to be scored are left out.
        """
        bank, classes = self.set_banks[name], self.banked_classes(name)
        keep = ~torch.isin(bank.digests, torch.cat([self.held, exclude]))
        same = keep & torch.isin(bank.labels, classes)
        if len(classes) and bool(torch.isin(classes, bank.labels[same]).all()):
            return bank.rows(same.nonzero()[:, 0]), f"{int(same.sum())} images of the same classes"
        whose = "of all classes"
        if len(classes):
            whose = f"of {'all' if bool(same.any()) else 'the other'} classes (a class has too few of its own)"
        what = f"{int(keep.sum())} images {whose}"
        return bank.rows(keep.nonzero()[:, 0]), what

    def look(self, pictures: Sequence[Picture], name: str) -> dict[str, Tensor]:
        """Features of a network for all pictures, on the CPU."""
        network = self.networks[name]
        found = []
        for i in range(0, len(pictures), BATCH):
            views = [as_input(p.image, network.input_size, network.channels) for p in pictures[i : i + BATCH]]
            flat, middle = name == self.plan.model and self.reads_flat(), name in self.galleries
            out = network.features(torch.stack(views).to(network.device), flat=flat, middle=middle)
            found.append({k: v.cpu() for k, v in out.items()})
        return {k: torch.cat([f[k] for f in found]) for k in found[0]}

    def reads_flat(self) -> bool:
        """Whether flattened features, which are large, are read: those of the target, and not where `flat` has it."""
        near = self.wants("plausibility") and not self.flat
        return near or any("flat" in c.reads for c in self.wanted)

    def wants(self, evaluator: str) -> bool:
        """Whether something of an evaluator is asked for."""
        return any(c.evaluator == evaluator for c in self.wanted)

    def score(
        self, pictures: Sequence[Picture], step: Callable[[], Any] = lambda: None, method: str = ""
    ) -> list[Measurement]:
        """All metrics of a set of images; `method` says which of `flat` is theirs."""
        labels = None if any(p.label is None for p in pictures) else torch.tensor([p.label for p in pictures])
        ids = torch.tensor([p.digest for p in pictures])
        features: dict[str, dict[str, Tensor]] = {}
        for name in self.networks:
            features[name] = self.look(pictures, name)
            step()
        no_sets = self.no_sets if method == "real_other" else ""
        found = self.evaluate(Seen(features, labels, ids, pictures, self.flat.get(method), no_sets=no_sets))
        step()
        return found

    def photographs(self, kind: Kind) -> list[Picture] | None:
        """The pictures of a row that real images make; None for a row of other pictures."""
        if kind == "natural":
            return [] if self.natural is None else self.natural.pictures()
        return {"real": self.real_images, "real_other": self.other_images}.get(kind)

    def real(self, step: Callable[[], Any] = lambda: None, kind: Kind = "real") -> tuple[list[Measurement], int]:
        """All metrics of a row of photographs and how many; `real` and `real_other` without data: embedded ones."""
        if self.sources.bank is not None:
            pictures = self.photographs(kind) or []
            return (self.score(pictures, step, kind) if pictures else []), len(pictures)
        seen = self._banked(kind)
        return self.evaluate(seen), len(seen)

    def _banked(self, kind: Kind) -> Seen:
        """The row `real`, or `real_other`, as the embedded banks have it: an image a class, under the unit's label."""
        features: dict[str, dict[str, Tensor]] = {}
        labels, shown, no_sets = self.classes, self.classes, ""
        if kind == "real_other":
            labels, shown, no_sets = self._other_classes()
        for name, own in self.set_banks.items():
            theirs = self.numbers(shown, name)
            there = torch.isin(theirs, own.labels)
            if len(rows := self.held_out(own, theirs[there])):
                correct = own.predictions[rows] == self.numbers(labels, name)[there]
                features[name] = {"correct": correct, "pooled": own.rows(rows), "ids": own.digests[rows]}
        if self.bank is None or self.plan.model not in features:
            nothing = torch.zeros(0, dtype=torch.long)
            return Seen(features, None, nothing, banked=True, kind=kind, no_sets=no_sets)
        there = torch.isin(shown, self.bank.labels)
        rows, of_target = self.held_out(self.bank, shown[there]), features[self.plan.model]
        if bool(torch.isin(rows, self.bank.flat_rows).all()):
            of_target["flat"] = self.bank.flat[torch.searchsorted(self.bank.flat_rows, rows)]
        if kind == "real":
            of_target["own_logit"] = self.bank.logits[rows]
        return Seen(features, labels[there], self.bank.digests[rows], banked=True, kind=kind, no_sets=no_sets)

    def _other_classes(self) -> tuple[Tensor, Tensor, str]:
        """Classes of units, for each another one of which the embedded reference has an image, and `Seen.no_sets`."""
        every = torch.arange(self.target.num_classes)
        known = (every[torch.isin(self.numbers(every, n), bank.labels)] for n, bank in self.set_banks.items())
        found, foreign = others.other_classes(self.classes.tolist(), next(known, every[:0]).tolist())
        pairs = [(c, o) for c, o in zip(self.classes.tolist(), found, strict=True) if o is not None]
        labels, shown = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).unbind(1)
        return labels, shown, "" if foreign else others.OWN_CLASSES

    def evaluate(self, seen: Seen) -> list[Measurement]:
        """What the evaluators of the wanted columns say, in the columns' order."""
        found: list[Measurement] = []
        for name in dict.fromkeys(c.evaluator for c in self.wanted):
            found += importlib.import_module(f"benchmark.scoring.evaluators.{name}").evaluate(self, seen)
        return [self._by_unit(m, seen) for m in found if any(c.fits(m.name) for c in self.wanted)]

    def _by_unit(self, measurement: Measurement, seen: Seen) -> Measurement:
        """The same, its values put in the order of the plan's units."""
        units = [p.unit for p in seen.pictures]
        values = measurement.values
        if values is None or len(values) != len(units):
            return dataclasses.replace(measurement, values=None)
        known: dict[str | None, list[float]] = {}
        for unit, value in zip(units, values, strict=True):
            if value is not None:
                known.setdefault(unit, []).append(value)
        means = {unit: sum(found) / len(found) for unit, found in known.items()}
        return dataclasses.replace(measurement, values=tuple(means.get(unit) for unit in self.plan.units))
