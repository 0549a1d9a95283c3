"""A generation, logged by Lightning's callbacks: score curves and pictures as they come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger

from benchmark.tracking.runs import PICTURES, Guard, start
from featvis.generators.callbacks import RunLogger


class LenientLogger(WandbLogger):
    """Lightning's logger on a run that has started; its failures stay its own, and its pictures are limited."""

    def __init__(self, run: Any, guard: Guard) -> None:
        super().__init__(experiment=run)
        self.guard, self.left = guard, PICTURES

    def log_hyperparams(self, params: Any) -> None:
        """As Lightning does."""
        self.guard(super().log_hyperparams, params)

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """As Lightning does."""
        self.guard(super().log_metrics, metrics, step)

    def log_image(self, key: str, images: list[Any], step: int | None = None, **kwargs: Any) -> None:
        """As Lightning does, until the limit is reached."""
        n = min(self.left, len(images))
        self.left -= n
        if n:
            self.guard(super().log_image, key, images[:n], step, **{k: v[:n] for k, v in kwargs.items()})


class Logged(RunLogger):
    """Logs a generation, from the first process; starts when its folder is claimed: bad input leaves nothing behind."""

    def __init__(self, config: Any) -> None:
        self.config, self.guard, self.run = config, Guard(config["name"]), None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the Trainer its logger."""
        if not trainer.is_global_zero:
            return
        c, key = self.config, pl_module.config_hash()  # type: ignore[operator]
        run = self.guard(start, c["wandb"], Path(c["logs"]), Path(c["out"]), c["name"], c["group"], "generate", key)
        if run is None:
            return
        self.run, trainer.loggers = run, [LenientLogger(run, self.guard)]
        self.guard(run.define_metric, "*", step_metric="trainer/global_step", step_sync=True)
        self.guard(run.config.update, {"pictures": f"at most {PICTURES}"}, allow_val_change=True)

    def teardown(self, trainer: Any, pl_module: Any, stage: str, code: int = 0) -> None:
        """End the run."""
        run, self.run = self.run, None
        if run is not None:
            self.guard(run.finish, exit_code=code)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """End the run as a failed one."""
        self.teardown(trainer, pl_module, "predict", code=1)
