"""Units for a Trainer: a text, or units at hand, in; batches, cut before they are dealt to devices, out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

from featvis.errors import UserError
from featvis.networks.units import Together, Unit, cut, groups, parse_units
from featvis.storage import images


def _as_is(batch: list[Unit]) -> list[Unit]:
    return batch


def unfinished(units: Sequence[Unit], folder: Path, config_hash: str, together: Together = None) -> list[Unit]:
    """The units without a finished image: a whole one, of the configuration, made in the group asked for.

    Args:
        units: all of them, which says who is in a group.
        folder: of the images.
        config_hash: of the generator.
        together: of the generator, see `featvis.networks.units.groups`.
    """
    found = set()
    for group in groups(units, together):
        members = None if together is None else [unit.id for unit in group]
        for unit in group:
            path = folder / f"{unit.id}.png"
            if images.verify(path, config_hash) is not None or (members and images.facts(path)["group"] != members):
                found.add(unit.id)
    return [unit for unit in units if unit.id in found]


class Share(DistributedSampler[Any]):
    """Every `world`-th item from `rank` on; none, where there are fewer items than processes.

    Lightning's own sampler stops a process that gets none.
    """

    def __init__(self, count: int, rank: int, world: int) -> None:
        self.items = range(rank, count, world)

    def __iter__(self) -> Iterator[int]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def set_epoch(self, epoch: int) -> None:
        """Nothing is shuffled."""


class Units(lightning.LightningDataModule):
    """Batches of units for `Trainer.predict`.

    Args:
        units: which ones, see `featvis.networks.units`.
        batch_size: units optimised together.
    """

    def __init__(self, units: str = "first:10", batch_size: int = 5) -> None:
        super().__init__()
        # There may be fewer batches than devices.
        self.allow_zero_length_dataloader_with_multiple_devices = True
        if not 1 <= batch_size <= 4096:
            raise UserError(f"--batch-size must be between 1 and 4096, not {batch_size}")
        self.text, self.batch_size = units, batch_size
        self.units: list[Unit] = []
        self.together: Together = None
        self.finished: set[str] = set()
        """Ids of the units that need no work; the ImageWriter fills it in from the files that verify."""

    def setup(self, stage: str) -> None:
        """Read the units' text, with the network of the generator that the trainer runs."""
        assert self.trainer is not None
        module: Any = self.trainer.lightning_module
        self.units = parse_units(self.text, module.load_classifier())
        self.together = module.together
        module.check_units(self.units)

    def pending(self) -> list[list[Unit]]:
        """The batches of which a unit is missing; each is redone whole, so that a resumed image has the same bytes."""
        return [b for b in cut(self.units, self.batch_size, self.together) if any(u.id not in self.finished for u in b)]

    def predict_dataloader(self) -> DataLoader:
        """Whole batches, one an item, dealt to the devices in turn."""
        batches, trainer = self.pending(), self.trainer
        share = None
        if trainer is not None and trainer.world_size > 1:
            share = Share(len(batches), trainer.global_rank, trainer.world_size)
        return DataLoader(batches, batch_size=None, sampler=share, collate_fn=_as_is)  # type: ignore[arg-type]


class GivenUnits(Units):
    """Units that are at hand already, such as pairs of an image and a target.

    Args:
        units: in their order.
        batch_size: units optimised together.
    """

    def __init__(self, units: Sequence[Unit], batch_size: int = 16) -> None:
        super().__init__("", batch_size)
        self.units = list(units)

    def setup(self, stage: str) -> None:
        """Nothing is to be read but which units the generator takes together."""
        assert self.trainer is not None
        module: Any = self.trainer.lightning_module
        self.together = module.together
        module.check_units(self.units)
