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
from benchmark.scoring import references
from benchmark.scoring.natural import Natural
from benchmark.scoring.plan import Kind, Picture, Plan, Sources
from featvis.data.classes import Classes
from featvis.data.extractors.inception import load_inception
from featvis.data.files import as_input
from featvis.data.gallery import Rows
from featvis.data.reference import EMBEDDED, Bank, read_bank, read_provenance, read_spectrum
from featvis.data.sets import ImageSet
from featvis.metrics.resampling import prepare
from featvis.networks.classifier import Classifier
from featvis.networks.devices import default_device
from featvis.networks.loading import load
from featvis.networks.names import weights_directory
from featvis.networks.units import classes_of

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
        squared: (n,), squared distances to the nearest real image of the class, where they were measured beforehand.
        banked: it is the row `real` of the embedded reference.
    """

    features: dict[str, dict[str, Tensor]]
    labels: Tensor | None
    ids: Tensor
    pictures: Sequence[Picture] = ()
    squared: Tensor | None = None
    banked: bool = field(default=False)

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
        self.plan, self.wanted = plan, wanted(plan.metrics)
        device, given = default_device(), networks or {}
        asked = dict.fromkeys((plan.model, *plan.classifiers, plan.frechet, *plan.observers, *plan.extractors))
        names = [n for n in asked if n not in plan.unavailable or n in plan.extractors]
        self.networks: dict[str, Classifier] = {
            name: given[name].in_precision("float32").to(device)
            if name in given
            else load(plan.loads(name), "float32", device)
            for name in names
        }
        self.target = self.networks[plan.model]
        self.classes = torch.tensor(classes_of(plan.units), dtype=torch.long)
        self.flat: dict[str, Tensor] = {}
        """Squared distances to the nearest real image of the class, a row; where they were measured beforehand."""
        self.cache = Path(plan.cache)
        self.sources = plan.sources(self.target) if sources is None else sources
        directory = weights_directory()
        self.inception = load_inception([directory] if directory else [])
        made = {task: self._made(task) for task in references.passes(plan)}
        results = {(task.kind, task.role): result for task, result in made.items()}
        self.galleries: dict[str, Rows] = {str(t.model): r for t, r in made.items() if t.kind == "gallery"}
        self.natural = None if ("activations", "bank") not in results else Natural(self, results["activations", "bank"])
        self.banks: dict[str, Bank] = {
            str(task.model): result for task, result in made.items() if (task.kind, task.role) == ("bank", "frechet")
        }
        """Of the images that sets are compared with, by network."""
        self.bank: Bank | None = results.get(("bank", "bank"), self._embedded(plan.model))
        self.frechet_bank: Bank | None = self.banks.get(plan.frechet, self._embedded(plan.frechet))
        self.inception_bank: tuple[Tensor, Tensor] | None = results.get(("inception", "frechet"))
        self.spectrum_source, self.spectra = self._read_spectrum(results.get(("spectrum", "spectrum")))
        self.real_images = self._pick_real(self.sources.frechet)
        if self.real_images:
            self.held = torch.tensor([p.digest for p in self.real_images], dtype=torch.long)
        else:
            bank = self.frechet_bank
            held = None if bank is None else bank.digests[self.held_out(bank, self.banked_classes(plan.frechet))]
            self.held = torch.zeros(0, dtype=torch.long) if held is None else held

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
                found.append(Picture(image, label, digest, photograph=True, unit=str(label)))
                break
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

    def frechet_reference(self, bank: Bank, exclude: Tensor) -> tuple[Tensor, str]:
        """The features that sets of images are compared with, and what they are.

        The images of the same classes, but for those of the row `real`, where every class has some; else all others.
        """
        keep = ~torch.isin(bank.digests, torch.cat([self.held, exclude]))
        classes = self.banked_classes(self.plan.frechet)
        same = keep & torch.isin(bank.labels, classes)
        if len(classes) and bool(torch.isin(classes, bank.labels[same]).all()):
            return bank.rows(same.nonzero()[:, 0]), f"{int(same.sum())} images of the same classes"
        what = f"{int(keep.sum())} images of the other classes (a class has too few of its own)"
        return bank.rows(keep.nonzero()[:, 0]), what

    def look(self, pictures: Sequence[Picture], name: str) -> dict[str, Tensor]:
        """Features of a network for all pictures, on the CPU."""
        network = self.networks[name]
        found = []
        for i in range(0, len(pictures), BATCH):
            views = [as_input(p.image, network.input_size, network.channels) for p in pictures[i : i + BATCH]]
            # Flattened features are large, and read of the target alone.
            flat, middle = name == self.plan.model, name in self.galleries
            out = network.features(torch.stack(views).to(network.device), flat=flat, middle=middle)
            found.append({k: v.cpu() for k, v in out.items()})
        return {k: torch.cat([f[k] for f in found]) for k in found[0]}

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
        found = self.evaluate(Seen(features, labels, ids, pictures, self.flat.get(method)))
        step()
        return found

    def photographs(self, kind: Kind) -> list[Picture] | None:
        """The pictures of a row that real images make; None for a row of other pictures."""
        if kind == "natural":
            return [] if self.natural is None else self.natural.pictures()
        return self.real_images if kind == "real" else None

    def real(self, step: Callable[[], Any] = lambda: None) -> tuple[list[Measurement], int]:
        """All metrics of the row `real` and its number of images; from the embedded banks where there is no data."""
        if self.sources.bank is not None:
            return (self.score(self.real_images, step, "real") if self.real_images else []), len(self.real_images)
        seen = self._banked()
        return self.evaluate(seen), len(seen)

    def _banked(self) -> Seen:
        """The row `real` as the embedded banks have it."""
        features: dict[str, dict[str, Tensor]] = {}
        bank, other = self.bank, self.frechet_bank
        rows = torch.zeros(0, dtype=torch.long) if bank is None else self.held_out(bank, self.classes)
        for name in self.networks:
            own = self._embedded(name)
            if own is not None and len(held := self.held_out(own, self.numbers(self.classes, name))):
                features[name] = {"correct": own.predictions[held] == own.labels[held]}
        if other is not None and len(held := self.held_out(other, self.banked_classes(self.plan.frechet))):
            features.setdefault(self.plan.frechet, {}).update(pooled=other.rows(held), ids=other.digests[held])
        if bank is None or not len(rows):
            return Seen(features, None, torch.zeros(0, dtype=torch.long), banked=True)
        features.setdefault(self.plan.model, {}).update(
            pooled=bank.rows(rows), flat=bank.flat[torch.isin(bank.flat_rows, rows)], own_logit=bank.logits[rows]
        )
        return Seen(features, bank.labels[rows], bank.digests[rows], banked=True)

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
