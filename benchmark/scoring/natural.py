"""The units of a plan over its real images: which photographs excite each, and the row `natural` made of them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from benchmark.scoring.plan import Picture
from featvis.data.files import as_input
from featvis.data.gallery import NATURAL, Excited, Rows, activations, excited
from featvis.networks.objectives import LOGITS
from featvis.networks.units import base_of, class_of, read_units

if TYPE_CHECKING:
    from benchmark.scoring.scorer import Scorer

BATCH = 16
LATE = 2 / 3
"""Of the depth: units from here on are of whole objects, and are compared by what an observer knows at its end."""


class Natural:
    """What the real images say of the units.

    Args:
        scorer: with the target network and the images.
        rows: the activations of the plan's units, an image each.
    """

    def __init__(self, scorer: Scorer, rows: Rows) -> None:
        self.scorer, self.rows = scorer, rows
        plan = scorer.plan
        names = dict.fromkeys(base_of(unit) for unit in plan.units)
        self.numbers = {name: i for i, name in enumerate(names)}
        """The place of each unit, by its id without which of its images is meant."""
        self.units = read_units(dict.fromkeys(base_of(text) for text in plan.texts or plan.units), scorer.target)
        layers = [unit.layer for unit in self.units]
        self.groups: Int[Tensor, " u"] = torch.tensor([sorted(set(layers)).index(name) for name in layers])
        """Units of one layer are compared with each other."""
        self.slopes: dict[str, dict[int, float]] = {}
        """Of the graded choices, by observer and group."""
        self.late = torch.tensor([self._depth(name) >= LATE for name in layers])

    def _depth(self, layer: str) -> float:
        names = list(self.scorer.target.layers())
        return 1.0 if layer == LOGITS else names.index(layer) / max(1, len(names) - 1)

    @functools.cached_property
    def excited(self) -> list[Excited]:
        """Which images excite each unit."""
        columns = (self.rows.column("activations", column) for column in range(len(self.units)))
        return [excited(column, ties=self._by_digest) for column in columns]

    def without(self, number: int, digests: Int[Tensor, " k"]) -> Excited:
        """The same of one unit, as if the images of these digests were not there."""
        left = torch.isin(self.digests, digests)
        return excited(self.rows.column("activations", number), left, self._by_digest)

    @functools.cached_property
    def _by_digest(self) -> Int[Tensor, " n"]:
        # Hashes as they are: an order that neither classes nor places of files have a part in.
        return self.digests.argsort(stable=True)

    @functools.cached_property
    def digests(self) -> Int[Tensor, " n"]:
        """Of the images' files."""
        return self.rows.all("digests")

    @functools.cached_property
    def labels(self) -> Int[Tensor, " n"]:
        """The images' classes, in the target's numbers."""
        return self.rows.all("labels")

    def number(self, unit: str | None) -> int:
        """The place of a picture's unit; -1 for a picture of none."""
        return -1 if unit is None else self.numbers.get(base_of(unit), -1)

    def pictures(self) -> list[Picture]:
        """The row `natural`: for a unit's first image the photograph that excites it most, for its second the next."""
        source, places = self.scorer.sources.bank, self.rows.all("rows")
        assert source is not None
        found = []
        for unit in self.scorer.plan.units:
            number, rank = self.number(unit), int(unit.partition("@")[2] or 0)
            if number < 0 or rank >= NATURAL or not self.excited[number].alive:
                continue
            image, digest = source.open(int(places[self.excited[number].natural[rank]]))
            found.append(Picture(image, class_of(unit), digest, photograph=True, unit=unit))
        return found

    def activations(self, pictures: Sequence[Picture], numbers: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
        """How strongly each picture excites its own unit; NaN for a picture of none."""
        target = self.scorer.target
        out = torch.full((len(pictures),), torch.nan)
        known = (numbers >= 0).nonzero()[:, 0]
        for part in known.split(BATCH):
            views = [as_input(pictures[i].image, target.input_size, target.channels) for i in part.tolist()]
            own = numbers[part].tolist()
            wanted = sorted(set(own))
            found = activations(target, [self.units[u] for u in wanted], torch.stack(views).to(target.device)).cpu()
            out[part] = found[torch.arange(len(part)), torch.tensor([wanted.index(u) for u in own])]
        return out
