"""What a Trainer does around a generator: writes the images, shows the steps, logs curves and pictures."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import safetensors
import safetensors.torch
import yaml
from jaxtyping import Float
from lightning.pytorch.callbacks import BasePredictionWriter, Callback, TQDMProgressBar
from torch import Tensor

from featvis.canvas.color import transparency
from featvis.canvas.montage import repeated, to_picture
from featvis.errors import UserError
from featvis.generators.base import Generator
from featvis.generators.batches import Units, unfinished
from featvis.generators.state import Optimisation, Visualizations
from featvis.networks.devices import device_text
from featvis.networks.objectives import LOGITS
from featvis.networks.units import Unit, groups
from featvis.storage import images
from featvis.storage.images import append_line
from featvis.storage.interrupt import check_starter, uninterrupted
from featvis.storage.locks import held
from featvis.storage.versions import versions

WRITERS = min(8, os.cpu_count() or 1)
"""Images compressed at once."""
PATIENCE = 60.0
"""Seconds to wait for a folder that another process holds."""


def claim(folder: Path, config: dict[str, Any], config_hash: str) -> None:
    """Make a folder the one of a configuration: create it, and put `config.yaml` into it.

    Raises:
        UserError: when it cannot be written, or holds another configuration's run.
    """
    path = folder / "config.yaml"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            found = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("config_hash")
            if found != config_hash:
                raise UserError(
                    f"--out {folder} holds the run of another configuration ({found}, this one is {config_hash}); "
                    "name another folder, or remove that one"
                )
        elif any(folder.glob("*.png")):
            raise UserError(f"--out {folder} holds images but no config.yaml; name an empty or a new folder")
        else:
            text = yaml.safe_dump({"config_hash": config_hash, **config}, sort_keys=False)
            images.write_atomic(path, text.encode())
    except OSError as error:
        raise UserError(f"--out {folder} cannot be written ({error.strerror}); name a folder that can") from error


def image_of(
    generator: Generator, config_hash: str, prediction: Visualizations, i: int
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """What is written of a batch's i-th unit: RGB (H, W, 3) and alpha (H, W), uint8, and the facts."""
    return with_facts(prediction, i, facts_of(generator, config_hash, prediction, i))


def with_facts(
    prediction: Visualizations, i: int, facts: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:  # fmt: skip
    """What is written of a batch's i-th unit whose facts are noted."""
    canvas, (alpha, scale) = prediction.canvas[i], transparency(prediction.alpha[i])
    return to_picture(canvas), repeated(alpha, len(canvas)), {**facts, "alpha_scale": scale}


def facts_of(generator: Generator, config_hash: str, prediction: Visualizations, i: int) -> dict[str, Any]:
    """What is known of a batch's i-th unit while the generator is still as it was when it made it."""
    unit, canvas, value = prediction.units[i], prediction.canvas[i], float(prediction.activations[i])
    # Of another objective, as VITAL's, the value is no activation.
    own = generator.maximises(unit)
    facts = {
        "unit": unit.id,
        "label": unit.label,
        "seed": generator.seed,
        "config_hash": config_hash,
        "score": float(prediction.scores[-1, i]) if len(prediction.scores) else value,
        "logit": value if own and unit.layer == LOGITS else None,
        "activation": value if own else None,
        "steps": generator.steps,
        "views": generator.views,
        "versions": versions(),
        **generator.about(unit),
    }
    if generator.together is not None:
        members = next(g for g in groups(prediction.units, generator.together) if unit in g)
        facts["group"] = [member.id for member in members]
    if len(canvas) != 3:
        facts["channels"] = len(canvas)
    if i in prediction.silent:
        facts["silent"] = True
    return facts


class ImageWriter(BasePredictionWriter):
    """Writes one PNG a unit as soon as its batch is done, and skips what is already there.

    Beside the images lie `config.yaml`, `timings.jsonl` (seconds and device of each batch) and, for a unit whose
    optimisation stopped being finite, `<unit>.failed.json`. A batch that takes long is put down now and then, in a
    hidden file that goes when the batch is done: a killed run takes it up from there, and its images have the bytes of
    an undisturbed one, with as many threads.

    Args:
        folder: of this one configuration.
        every: seconds of work after which a batch is put down.
    """

    def __init__(self, folder: str, every: float = 30.0) -> None:
        super().__init__(write_interval="batch")
        self.folder, self.every = Path(folder), every
        self._put_down = 0.0
        self._held = ExitStack()

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Claim the folder, and tell the data module which units are finished."""
        assert isinstance(pl_module, Generator)
        self.config_hash, config = pl_module.config_hash(), pl_module.config()
        self.device = device_text(pl_module.device, config["precision"])
        if trainer.is_global_zero:
            claim(self.folder, config, self.config_hash)
            # A process whose run was killed stops at its next step, and gives the folder back.
            self._held.enter_context(held(self.folder, wait=PATIENCE))
            for stale in self.folder.glob(".*.tmp"):
                stale.unlink(missing_ok=True)
        data = trainer.datamodule  # type: ignore[attr-defined]
        if isinstance(data, Units):
            # The first process decides what is finished, so that all deal out the same batches.
            done: set[str] = set()
            if trainer.is_global_zero:
                missing = unfinished(data.units, self.folder, self.config_hash, pl_module.together)
                done = {u.id for u in data.units} - {u.id for u in missing}
            data.finished = trainer.strategy.broadcast(done)

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Give the folder back."""
        self._held.close()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Give the folder back, for the next try of the same process (a notebook, say)."""
        self._held.close()

    def on_optimization_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, state: Optimisation
    ) -> None:
        """Take a batch up from where a run that was killed put it down."""
        self._put_down = time.monotonic()
        try:
            with safetensors.safe_open(self.unfinished(state.units), framework="pt") as file:
                facts, here = file.metadata() or {}, state.alpha.device.type
                kept = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 -- no mapping
        except (OSError, safetensors.SafetensorError):
            # There is none, as a rule; and one that cannot be read costs a batch from its beginning.
            return
        # Random numbers go on only on the kind of device that they began on. Files of before do not say which.
        if facts.get("config_hash") == self.config_hash and facts.get("device", here) == here and state.fits(kept):
            state.restore(kept)

    def on_optimization_step(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        step: int,
        score: Float[Tensor, b],
        state: Optimisation,
    ) -> None:
        """Stop if nobody waits for the images any more; put the batch down when it is time."""
        check_starter()
        if time.monotonic() - self._put_down < self.every or not self.every:
            return
        facts = {"config_hash": self.config_hash, "device": state.alpha.device.type}
        data = safetensors.torch.save(state.tensors(), metadata=facts)
        try:
            with uninterrupted():
                images.write_atomic(self.unfinished(state.units), data)
        except OSError:
            # Going on matters more than being able to take it up here; a full disk is told of with the next image.
            pass
        self._put_down = time.monotonic()

    def unfinished(self, units: Sequence[Unit]) -> Path:
        """Where a batch is put down."""
        digest = hashlib.sha256("\n".join(u.id for u in units).encode()).hexdigest()[:12]
        return self.folder / f".batch-{digest}.safetensors"

    def path(self, unit: Unit) -> Path:
        """Where a unit's image lies."""
        return self.folder / f"{unit.id}.png"

    def write_on_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        prediction: Visualizations,
        batch_indices: Sequence[int] | None,
        batch: list[Unit],
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Write the images of a batch.

        Raises:
            UserError: when the disk is full or the folder cannot be written; what is finished stays.
        """
        assert isinstance(pl_module, Generator)
        try:
            # Compressing takes longer than a step; it leaves Python to other threads.
            with uninterrupted(), ThreadPoolExecutor(WRITERS) as pool:
                work = [self._write(pl_module, prediction, i, unit) for i, unit in enumerate(prediction.units)]
                for _ in pool.map(lambda write: write(), work):
                    pass
                timing = {
                    "units": [u.id for u in batch],
                    "seconds": round(prediction.seconds, 3),
                    "rank": trainer.global_rank,
                    "device": self.device,
                }
                append_line(self.folder / "timings.jsonl", json.dumps(timing))
                self.unfinished(batch).unlink(missing_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot write into {self.folder} ({error.strerror}); the finished images are safe: "
                "make room and run the same command again"
            ) from error

    def _write(self, generator: Generator, prediction: Visualizations, i: int, unit: Unit) -> Callable[[], None]:
        """What writes a unit's image, or why there is none."""
        marker = self.folder / f"{unit.id}.failed.json"
        if i in prediction.failed:
            reason = "the score or its gradient was not finite"
            fact = {"unit": unit.id, "step": prediction.failed[i], "reason": reason, "config_hash": self.config_hash}
            return partial(images.write_atomic, marker, json.dumps(fact).encode())
        path, what = self.path(unit), image_of(generator, self.config_hash, prediction, i)

        def write() -> None:
            images.write(path, *what)
            marker.unlink(missing_ok=True)

        return write


class StepProgress(TQDMProgressBar):
    """Lightning's progress bar, counting optimisation steps instead of batches."""

    def on_predict_batch_start(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Set the total to batches times steps."""
        if batch_idx == 0:
            super().on_predict_batch_start(trainer, pl_module, batch, batch_idx, dataloader_idx)
            batches = self.total_predict_batches_current_dataloader
            self.predict_progress_bar.total = int(batches) * int(getattr(pl_module, "steps", 1))
            self.predict_progress_bar.set_description(type(pl_module).__name__)

    def on_optimization_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, state: Optimisation
    ) -> None:
        """Count the steps that an earlier process has done."""
        self.predict_progress_bar.update(state.step)

    def on_optimization_step(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        step: int,
        score: Float[Tensor, b],
        state: Optimisation,
    ) -> None:
        """One step of a batch is done."""
        if step % 8 == 7:
            self.predict_progress_bar.set_postfix(score=f"{float(score.nanmean()):.2f}", refresh=False)
        self.predict_progress_bar.update(1)

    def on_predict_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """The steps have been counted one by one."""


class RunLogger(Callback):
    """Logs each unit's score curve and its picture to whatever loggers the Trainer has."""

    def on_predict_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Log the configuration."""
        assert isinstance(pl_module, Generator)
        for logger in trainer.loggers:
            logger.log_hyperparams(pl_module.config())

    def on_predict_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: list[Unit],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Log a batch."""
        assert isinstance(outputs, Visualizations)
        for logger in trainer.loggers:
            for step, row in enumerate(outputs.scores.tolist()):
                curves = {f"score/{u.id} {u.label}": v for u, v in zip(outputs.units, row, strict=True)}
                logger.log_metrics(curves, step)
            if hasattr(logger, "log_image"):
                kept = [i for i in range(len(outputs.units)) if i not in outputs.failed]
                logger.log_image(
                    "visualizations",
                    [to_picture(outputs.canvas[i]) for i in kept],
                    caption=[f"{outputs.units[i].id} {outputs.units[i].label}" for i in kept],
                )
