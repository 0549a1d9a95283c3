"""Images outside of suites: a generator and units in; what was missing of a folder made, in this process."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import lightning
from PIL import Image

from benchmark.launch import quiet
from benchmark.records.record import Budget, FailedUnit, Measurement, Record
from benchmark.scoring.recording import failures, record_of
from featvis import engine
from featvis.canvas.montage import to_picture
from featvis.data.channels import WITH_ALPHA
from featvis.data.files import as_seen
from featvis.generators import Generator
from featvis.generators.batches import GivenUnits, unfinished
from featvis.generators.callbacks import ImageWriter, StepProgress
from featvis.networks.devices import default_device
from featvis.networks.units import ImageUnit, Unit
from featvis.storage import images


def folder_of(generator: Generator, out: Path, method: str) -> Path:
    """`<out>/<alias>/<method>/<config hash>`, where a generator's images go."""
    alias = generator.load_classifier().alias
    return out / alias / method / generator.config_hash(default_device())


def missing(generator: Generator, units: Sequence[Unit], folder: Path) -> list[Unit]:
    """The units without a finished image."""
    expected = generator.config_hash(default_device())
    return unfinished(units, folder, expected, generator.together)


def produce(generator: Generator, units: Sequence[Unit], folder: Path, batch_size: int = 16) -> dict[str, FailedUnit]:
    """Make the images that a folder lacks, whole batches together, one progress bar for all.

    Args:
        generator: the method, its network named or loaded.
        units: in their order, which says what shares a batch.
        folder: see `folder_of`; another process's work in it is refused.
        batch_size: units optimised together.

    Returns:
        By id, each unit whose optimisation stopped being finite, and why; it has no image.

    Raises:
        UserError: when the folder cannot be written, or another process or configuration holds it.
    """
    generator.load_classifier()
    generator.check_transforms()
    if missing(generator, units, folder):
        quiet()
        engine.prepare()
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
    failed = failures(folder, [unit.id for unit in units])
    for one in failed.values():
        print(f"featvis: unit {one.unit} failed at step {one.step}: {one.reason}", file=sys.stderr)
    return failed


def original_path(out: Path, size: Sequence[int], image: str, channels: int = 3) -> Path:
    """Where an image lies as networks of an input of that size see it."""
    # Those of an alpha of 1, whatever a file has, were put down elsewhere.
    seen = "-alpha" if channels in WITH_ALPHA else ""
    return out / "originals" / f"{size[0]}x{size[1]}{seen}" / f"{image}.png"


def put_down(out: Path, size: tuple[int, int], unit: ImageUnit, channels: int = 3) -> Path:
    """A unit's image as a network of that input sees it, once, as a file: what came before, to the level."""
    path = original_path(out, size, unit.image, channels)
    if not path.is_file():
        buffer = BytesIO()
        Image.fromarray(to_picture(as_seen(unit.path, size, channels))).save(buffer, "PNG")
        images.write_atomic(path, buffer.getvalue())
    return path


def of_images(
    generator: Generator,
    units: Sequence[Unit],
    failed: Mapping[str, FailedUnit],
    metrics: Sequence[Measurement],
    out: Path,
    *,
    method: str,
    folder: Path | None = None,
    about: Mapping[str, Any] | None = None,
    **facts: Any,
) -> Record:
    """The record of what a generator made of units.

    Args:
        generator: the method.
        units: all of them.
        failed: as `produce` gave it.
        metrics: of the others.
        out: the run's folder.
        method: the row.
        folder: of the images; None: `folder_of`.
        about: what the numbers depend on besides the images, for the record's `config`.
        facts: suite, preset, command and packages, as `record_of` takes them.
    """
    config = generator.config(default_device())
    return record_of(
        generator.load_classifier(),
        method=method,
        units=[unit.id for unit in units],
        labels=[unit.label for unit in units],
        config={"generator": config, **(about or {})},
        config_hash=generator.config_hash(default_device()),
        budget=Budget(generator.steps, generator.views, generator.steps * generator.views, generator.size),
        metrics=metrics,
        folder=folder or folder_of(generator, out, method),
        out=out,
        failed=list(failed.values()),
        error=None if len(failed) < len(units) else "the optimisation of no unit stayed finite",
        sees=generator.seen(units),
        **facts,
    )
