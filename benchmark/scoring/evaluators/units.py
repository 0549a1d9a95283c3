"""Scores of units: whether pictures tell a class, a channel or a direction from the others of its layer.

Real images say what excites a unit, observers what is alike; each observer has columns of its own, for they do not
agree. Units of whole objects are compared by what an observer knows at its end, earlier ones by what it sees halfway.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from benchmark.records.columns import COLUMNS
from benchmark.records.record import Measurement
from benchmark.scoring.evaluators import absent, give_data, marked, measured
from featvis import metrics
from featvis.data.gallery import NATURAL, QUERIES, Excited, Rows
from featvis.metrics.functional import units as functional
from featvis.metrics.units import PerUnit
from featvis.networks.classes import Classes
from featvis.networks.own.wrap import alias_of

if TYPE_CHECKING:
    from benchmark.scoring.natural import Natural
    from benchmark.scoring.scorer import Scorer, Seen

Key = Literal["pooled", "middle"]
PER_OBSERVER = ("identification", "afc_easy", "afc_hard", "afc_graded", "transfer_percentile", "diversity")
FEW = "the real images are too few for queries that do not overlap"
PART = 256
"""Pictures that are compared at once."""


def evaluate(scorer: Scorer, seen: Seen) -> list[Measurement]:
    """One measurement a score and, where it needs one, an observer; nothing where nobody gave or asked for anything."""
    natural = scorer.natural
    if natural is None or not len(seen.pictures):
        asked = {c.name for c in COLUMNS if c.evaluator == "units"} | {"units"} | {
            c.group for c in COLUMNS if c.evaluator == "units"
        }  # fmt: skip
        return _nothing(scorer) if asked & set(scorer.plan.metrics) else []
    numbers = torch.tensor([natural.number(picture.unit) for picture in seen.pictures], dtype=torch.long)
    found = _of_target(natural, seen, numbers)
    for name in dict.fromkeys(scorer.plan.observers):
        found += _of_observer(scorer, natural, seen, numbers, name)
    order = [c.name for c in COLUMNS]
    return sorted(found, key=lambda m: next(i for i, c in enumerate(order) if m.name.startswith(c.partition("{")[0])))


def _nothing(scorer: Scorer) -> list[Measurement]:
    why = f"nobody knows what excites the units; {give_data(scorer)}"
    found = [absent(name, "Scores of units need real images.", why) for name in ("excess_activation", "dead_share")]
    for name in dict.fromkeys(scorer.plan.observers):
        short = _called(scorer, name)
        found += [absent(f"{n}_{short}", "Scores of units need real images.", why, short) for n in PER_OBSERVER]
    return found


def _called(scorer: Scorer, name: str) -> str:
    network = scorer.networks.get(name)
    return alias_of(name) if network is None else network.alias


def _finish(name: str, metric: PerUnit, which: Tensor, numbers: Tensor, heading: str = "") -> Measurement:
    """The entry of a metric whose rows were of units `which`, the values laid out by the pictures' units."""
    result = metric.result()
    known = dict(zip(which.tolist(), result["values"], strict=True))
    return measured(name, result | {"values": [known.get(n, torch.nan) for n in numbers.tolist()]}, heading)


# --- In the target ---------------------------------------------------------------------------------------------------


def _of_target(natural: Natural, seen: Seen, numbers: Tensor) -> list[Measurement]:
    """How strongly the pictures excite their units, beside the real images."""
    activation, known = natural.activations(seen.pictures, numbers), numbers >= 0
    of = [natural.excited[n] for n in numbers[known].tolist()]
    median, maximum = (torch.tensor([getattr(e, key) for e in of]) for key in ("median", "maximum"))
    facts = {"network": natural.scorer.target.name, "images": len(natural.rows)}
    excess, dead = metrics.ExcessActivation(facts=facts), metrics.DeadShare(facts=dict(facts))
    for metric in (excess, dead):
        metric.update(activation[known], median, maximum, numbers[known])
    result = dead.result()
    named = [n for n, value in zip(numbers[known].tolist(), result["values"], strict=True) if value == 1]
    dead.facts["dead"] = [natural.units[n].id for n in dict.fromkeys(named)]
    if still := [natural.units[n].id for n in range(len(natural.units)) if not natural.excited[n].alive]:
        excess.facts["without_an_exciting_image"] = still
    both = (("excess_activation", excess), ("dead_share", dead))
    return [_finish(name, metric, numbers[known], numbers) for name, metric in both]


# --- In an observer --------------------------------------------------------------------------------------------------


def _of_observer(scorer: Scorer, natural: Natural, seen: Seen, numbers: Tensor, name: str) -> list[Measurement]:
    short, network, gallery = _called(scorer, name), scorer.networks.get(name), scorer.galleries.get(name)
    if network is None or gallery is None:
        why = scorer.plan.unavailable.get(name, f"there is nothing that {short} sees")
        return [absent(f"{n}_{short}", f"Needs {short}.", why, short) for n in PER_OBSERVER]
    heading = marked(scorer, short, network)
    observer = Observer(natural, gallery, seen, numbers, seen.features[name])
    facts = {"observer": network.name, "images": len(gallery), "same_family": heading != short}
    found = [observer.identification(f"identification_{short}", heading, facts)]
    found += observer.choices(short, heading, facts)
    if network is scorer.target or Classes.of(network).same(Classes.of(scorer.target)):
        found.append(observer.percentile(f"transfer_percentile_{short}", heading, facts, seen, network.name))
    else:
        why = f"{short} has other classes than {scorer.target.alias}, or no names to tell"
        text = metrics.TransferPercentile(network.name).text
        found.append(absent(f"transfer_percentile_{short}", text, why, heading))
    return [*found, observer.diversity(f"diversity_{short}", heading, facts)]


class Observer:
    """What one network sees in the pictures and in the real images.

    Args:
        natural: which real images excite the units.
        gallery: what the network sees in them.
        seen: the pictures.
        numbers: their units.
        features: of the network for the pictures.
    """

    def __init__(
        self, natural: Natural, gallery: Rows, seen: Seen, numbers: Tensor, features: dict[str, Tensor]
    ) -> None:
        self.natural, self.gallery, self.numbers, self.features = natural, gallery, numbers, features
        self.digests = seen.ids
        self.count = len(natural.units)
        # A network without rows and columns sees everything at its end.
        late = natural.late if "middle" in features else torch.ones_like(natural.late)
        self.keys: list[tuple[Key, Tensor]] = [("pooled", late), ("middle", ~late)]

    def _parts(self) -> Iterator[tuple[Key, Tensor, Tensor, Tensor]]:
        """For each kind of features: which units and pictures it is of, and the mean over the real images."""
        for key, units in self.keys:
            pictures = (self.numbers >= 0) & units[self.numbers.clamp(min=0)]
            if bool(pictures.any()):
                yield key, units.nonzero()[:, 0], pictures.nonzero()[:, 0], self.gallery.mean(key)

    def identification(self, name: str, heading: str, facts: dict[str, Any]) -> Measurement:
        """Whether the pictures resemble their own unit's natural images more than other units'."""
        matrix = torch.full((len(self.numbers), self.count), torch.nan, dtype=torch.float64)
        for key, units, pictures, mean in self._parts():
            top = torch.stack([self.natural.excited[n].natural for n in units.tolist()])
            images = functional.directions(self.gallery.take(key, top), mean)
            images[[not self.natural.excited[n].alive for n in units.tolist()]] = torch.nan
            shown = self.natural.digests[top]
            for part in pictures.split(PART):
                x = functional.directions(self.features[key][part], mean)
                same = (shown[None] == self.digests[part][:, None, None]) & (shown[None] != 0)
                found = functional.similarity(x, images, same)
                group = self.natural.groups[units][None] == self.natural.groups[self.numbers[part]][:, None]
                matrix[part[:, None], units[None]] = found.masked_fill(~group, torch.nan)
        known = self.numbers >= 0
        metric = metrics.Identification(self.count, facts=facts | {"natural": NATURAL})
        metric.update(matrix[known], self.numbers[known])
        return _finish(name, metric, self.numbers[known], self.numbers, heading)

    def choices(self, short: str, heading: str, facts: dict[str, Any]) -> list[Measurement]:
        """The two-alternative forced choices: easy, hard, and easy with an observer who is not always sure."""
        units = [self._apart(n) for n in range(self.count)]
        pairs = self._queries(self._shown(), units)
        known = self.numbers[self.numbers >= 0]
        shown = {"pictures_a_unit": int(torch.bincount(known).max()) if len(known) else 0}
        slopes = self._slopes(short)
        found = []
        for word, level in (("easy", "easy"), ("hard", "hard"), ("graded", "easy")):
            name, (which, positive, negative) = f"afc_{word}_{short}", pairs[level]
            graded = word == "graded"
            metric = metrics.TwoAlternatives(
                QUERIES, 1.0 if graded else None, facts=facts | shown | {"queries": QUERIES}
            )
            if graded and len(which):
                # A slope a layer: each unit's differences are in units of its own.
                steep = torch.tensor([slopes[int(self.natural.groups[n])] for n in which.tolist()], dtype=torch.float64)
                positive, negative = positive * steep[:, None], negative * steep[:, None]
                which, positive, negative = (x[steep.isfinite()] for x in (which, positive, negative))
                layers = {int(self.natural.groups[n]): self.natural.units[n].layer for n in which.tolist()}
                metric.facts["slope"] = {layer: round(slopes[group], 4) for group, layer in layers.items()}
            if not len(pairs[level][0]):
                few = any(e.easy is None for e in units)
                why = FEW if few else "fewer than two units of a group have pictures"
                found.append(absent(name, metric.text, why, heading))
            elif not len(which):
                why = f"{short} does not see what excites these units: nine natural images do not get .9"
                found.append(absent(name, metric.text, why, heading))
            else:
                metric.update(positive, negative, which)
                found.append(_finish(name, metric, which, self.numbers, heading))
        return found

    def _slopes(self, short: str) -> dict[int, float]:
        """Of the graded choices, by group, for those that there are pictures of; each is found once for all rows."""
        known = self.natural.slopes.setdefault(short, {})
        here = set(self.natural.groups[self.numbers[self.numbers >= 0]].tolist())
        if here - set(known):
            which, positive, negative = self._queries(self._natural(), self.natural.excited)["easy"]
            groups = self.natural.groups[which]
            for group in here - set(known):
                mine = groups == group
                known[group] = functional.slope_for(positive[mine], negative[mine])
        return known

    def _shown(self) -> Iterator[tuple[Key, Tensor, Tensor]]:
        """For each kind of features, the mean over it and the mean direction of each unit's pictures."""
        for key, _, pictures, mean in self._parts():
            x = functional.directions(self.features[key][pictures], mean)
            yield key, mean, functional.by_unit(x, self.numbers[pictures], self.count)

    def _natural(self) -> Iterator[tuple[Key, Tensor, Tensor]]:
        """The same of the nine natural images of each unit."""
        for key, units, _, mean in self._parts():
            x = torch.full((self.count, len(mean)), torch.nan, dtype=torch.float64)
            for n in units.tolist():
                if self.natural.excited[n].alive:
                    natural = self.gallery.take(key, self.natural.excited[n].natural)
                    x[n] = functional.directions(natural, mean).nanmean(0)
            yield key, mean, x

    def _apart(self, number: int) -> Excited:
        """A unit whose queries are none of its own pictures, which would be compared with themselves."""
        whole = self.natural.excited[number]
        own = self.digests[(self.numbers == number) & (self.digests != 0)]
        queries = [side for pair in (whole.easy, whole.hard) if pair is not None for side in pair]
        if not queries or not bool(torch.isin(self.natural.digests[torch.cat(queries)], own).any()):
            return whole
        return self.natural.without(number, own)

    def _queries(
        self, shown: Iterator[tuple[Key, Tensor, Tensor]], units: Sequence[Excited]
    ) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
        """By difficulty: numbers of units, and the similarity of their queries of either side to what is shown."""
        found: dict[str, tuple[list[int], list[Tensor], list[Tensor]]] = {k: ([], [], []) for k in ("easy", "hard")}
        for key, mean, x in shown:
            told_apart = functional.contrast(x, self.natural.groups)
            for n in told_apart.isfinite().all(1).nonzero()[:, 0].tolist():
                excited = units[n]
                if not excited.alive:
                    continue
                pairs = {level: pair for level in found if (pair := _pair(excited, level)) is not None}
                if not pairs:
                    continue
                images = self.gallery.take(key, torch.cat([side for pair in pairs.values() for side in pair]))
                sides = functional.cosines(images, mean, told_apart[n]).split(QUERIES)
                for i, level in enumerate(pairs):
                    which, positive, negative = found[level]
                    which.append(n)
                    positive.append(sides[2 * i])
                    negative.append(sides[2 * i + 1])
        empty = torch.zeros(0, QUERIES, dtype=torch.float64)
        return {
            level: (
                torch.tensor(which, dtype=torch.long),
                torch.stack(positive) if positive else empty,
                torch.stack(negative) if negative else empty,
            )
            for level, (which, positive, negative) in found.items()
        }

    def percentile(
        self, name: str, heading: str, facts: dict[str, Any], seen: Seen, classifier: str
    ) -> Measurement:  # fmt: skip
        """Where the pictures lie among the other real images of their class."""
        metric = metrics.TransferPercentile(classifier, facts=facts)
        of = [i for i, p in enumerate(seen.pictures) if p.label is not None and self.numbers[i] >= 0]
        if not of or "logits" not in self.features:
            return absent(name, metric.text, "the units are not classes", heading)
        labels = torch.tensor([int(str(seen.pictures[i].label)) for i in of])
        score = self.features["logits"][of].log_softmax(1)[torch.arange(len(of)), labels].double()
        own, real = self.gallery.all("own"), self.natural.labels
        # A photograph is none of its own others: the two passes that saw it differ by rounding.
        among = [own[(real == n) & (self.natural.digests != i)] for n, i in zip(labels, seen.ids[of], strict=True)]
        padded = torch.nn.utils.rnn.pad_sequence(among, batch_first=True, padding_value=torch.nan)
        metric.update(score, padded if padded.ndim == 2 else padded.reshape(len(of), 0), self.numbers[of])
        return _finish(name, metric, self.numbers[of], self.numbers, heading)

    def diversity(self, name: str, heading: str, facts: dict[str, Any]) -> Measurement:
        """How different the seeds of a unit are."""
        known = (self.numbers >= 0).nonzero()[:, 0]
        x = functional.directions(self.features["pooled"][known], self.gallery.mean("pooled"))
        metric = metrics.SeedDiversity(x.shape[1], facts=facts)
        metric.update(x, self.numbers[known])
        return _finish(name, metric, self.numbers[known], self.numbers, heading)


def _pair(excited: Excited, level: str) -> tuple[Tensor, Tensor] | None:
    return excited.easy if level == "easy" else excited.hard
