"""Images outside of suites: a generator and units in; what was missing of a folder made, in this process."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import lightning
from PIL import Image

from benchmark.launch import quiet
from benchmark.records.record import Budget, FailedUnit, Measurement, Record, units_hash
from benchmark.scoring.recording import device_text, git_commit, seconds_per_image
from featvis import engine
from featvis.data.files import as_seen
from featvis.generators import Generator
from featvis.generators.batches import GivenUnits
from featvis.generators.callbacks import ImageWriter, StepProgress
from featvis.networks.devices import default_device
from featvis.networks.units import ImageUnit, Unit
from featvis.storage import images
from featvis.storage.versions import versions


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
    failed = {}
    for unit in units:
        marker = folder / f"{unit.id}.failed.json"
        if marker.is_file():
            fact = json.loads(marker.read_text())
            failed[unit.id] = f"step {fact['step']}: {fact['reason']}"
            print(f"featvis: unit {unit.id} failed at {failed[unit.id]}", file=sys.stderr)
    return failed


def original_path(out: Path, size: Sequence[int], image: str) -> Path:
    """Where an image lies as networks of an input of that size see it."""
    return out / "originals" / f"{size[0]}x{size[1]}" / f"{image}.png"


def put_down(out: Path, size: tuple[int, int], unit: ImageUnit) -> Path:
    """A unit's image as a network of that input sees it, once, as a file: what came before, to the level."""
    path = original_path(out, size, unit.image)
    if not path.is_file():
        array = (as_seen(unit.path, size) * 255).round().byte().permute(1, 2, 0).numpy()
        buffer = BytesIO()
        Image.fromarray(array).save(buffer, "PNG")
        images.write_atomic(path, buffer.getvalue())
    return path


def to_record(
    generator: Generator,
    units: Sequence[Unit],
    failed: dict[str, str],
    metrics: Sequence[Measurement],
    out: Path,
    **facts: Any,
) -> Record:
    """The record of what a generator made of units.

    Args:
        generator: the method.
        units: all of them.
        failed: as `produce` gave it.
        metrics: of the others.
        out: the run's folder.
        facts: suite, method, preset and command.
    """
    network = generator.load_classifier()
    names = tuple(unit.id for unit in units)
    folder = folder_of(generator, out, facts["method"])
    done = [name for name in names if name not in failed]
    config = generator.config(default_device())
    return Record(
        model=network.name,
        alias=network.alias,
        config=config,
        config_hash=generator.config_hash(default_device()),
        units=names,
        labels=tuple(unit.label for unit in units),
        units_hash=units_hash(names),
        n=len(done),
        budget=Budget(generator.steps, generator.views, generator.steps * generator.views, generator.size),
        failed_units=tuple(
            FailedUnit(name, int(why.split()[1].rstrip(":")), why.partition(": ")[2]) for name, why in failed.items()
        ),
        images=folder.relative_to(out).as_posix(),
        metrics=tuple(metrics),
        seconds_per_image=seconds_per_image(folder),
        git_commit=git_commit(),
        versions=versions(),
        device=device_text(network, config),
        status="done" if done else "failed",
        error=None if done else "the optimisation of no unit stayed finite",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        images_sha256=images.pixels_hash([folder / f"{name}.png" for name in done]),
        **facts,
    )
