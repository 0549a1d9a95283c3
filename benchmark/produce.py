"""Images outside of suites: a generator and units in; what was missing of a folder made, in this process."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import lightning

from benchmark.launch import quiet
from featvis import images
from featvis.callbacks import ImageWriter, StepProgress
from featvis.data import GivenUnits
from featvis.generators import Generator
from featvis.models import default_device
from featvis.units import Unit


def folder_of(generator: Generator, out: Path, method: str) -> Path:
    """`<out>/<alias>/<method>/<config hash>`, where a generator's images go."""
    alias = generator.load_classifier().alias
    return out / alias / method / generator.config_hash(default_device())


def missing(generator: Generator, units: Sequence[Unit], folder: Path) -> list[Unit]:
    """The units without a finished image."""
    expected = generator.config_hash(default_device())
    return [u for u in units if images.verify(folder / f"{u.id}.png", expected) is not None]


def produce(generator: Generator, units: Sequence[Unit], folder: Path, batch_size: int = 16) -> dict[str, str]:
    """Make the images that a folder lacks, whole batches together, one progress bar for all.

    Args:
        generator: the method, its network named or loaded.
        units: in their order, which says what shares a batch.
        folder: see `folder_of`; another process's work in it is refused.
        batch_size: units optimised together.

    Returns:
        Why, by id, for each unit whose optimisation stopped being finite; it has no image.

    Raises:
        UserError: when the folder cannot be written, or another process or configuration holds it.
    """
    generator.load_classifier()
    generator.check_transforms()
    if missing(generator, units, folder):
        quiet()
        trainer = lightning.Trainer(
            accelerator="auto",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            inference_mode=False,
            callbacks=[ImageWriter(str(folder)), StepProgress()],
        )
        trainer.predict(generator, datamodule=GivenUnits(units, batch_size), return_predictions=False)
    failed = {}
    for unit in units:
        marker = folder / f"{unit.id}.failed.json"
        if marker.is_file():
            fact = json.loads(marker.read_text())
            failed[unit.id] = f"step {fact['step']}: {fact['reason']}"
            print(f"featvis: unit {unit.id} failed at {failed[unit.id]}", file=sys.stderr)
    return failed
