"""One cell: a generator, units and a folder in; one PNG a unit out. A LightningCLI that only predicts."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from featvis.callbacks import ImageWriter, RunLogger, StepProgress
from featvis.data import Units
from featvis.errors import UserError
from featvis.generators import Generator

WandbMode = Literal["offline", "online", "disabled"]


class GenerateCLI(LightningCLI):
    """`featvis generate`: every argument of the generator (`--model.*`), of the units (`--data.*`), of the Trainer."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Where the images go, and what is logged."""
        parser.add_argument("--out", type=str, required=True, help="folder of this configuration's images")
        parser.add_argument("--wandb", type=WandbMode, default="disabled", help="Weights & Biases")
        parser.add_argument("--name", type=str, default="featvis", help="name of the run in Weights & Biases")
        parser.add_argument("--group", type=str, default="featvis", help="group of the run in Weights & Biases")
        parser.add_argument("--logs", type=str, default=".", help="folder of the offline runs of Weights & Biases")


def main(args: list[str] | None = None) -> int:
    """Run one cell; 0 done, 1 when the optimisation of some unit was not finite."""
    quiet()
    from benchmark.cli import OneSentenceParser

    class Parser(OneSentenceParser, LightningArgumentParser):
        """LightningCLI's parser with featvis's errors."""

    cli = GenerateCLI(
        Generator,
        Units,
        subclass_mode_model=True,
        args=args,
        run=False,
        save_config_callback=None,
        seed_everything_default=False,
        parser_class=Parser,
        parser_kwargs={"description": (main.__doc__ or "") + GenerateCLI.__doc__},  # type: ignore[operator]
        trainer_defaults={
            "accelerator": "auto",
            "devices": 1,
            "logger": False,
            "enable_checkpointing": False,
            "enable_model_summary": False,
        },
    )
    out = Path(cli.config["out"])
    return predict(cli.trainer, cli.model, cli.datamodule, out, logger(cli.config, out))


def predict(trainer: Trainer, generator: Generator, units: Units, out: Path, log: Any) -> int:
    """Generate what is missing in `out`, and say what there was to do."""
    writer = ImageWriter(str(out))
    trainer.callbacks += [writer, StepProgress(), *([RunLogger()] if log else [])]
    trainer.callbacks = [c for c in trainer.callbacks if type(c).__name__ != "TQDMProgressBar"]
    trainer.loggers = [log] if log else []
    if torch.device(trainer.strategy.root_device).type == "cpu" and "OMP_NUM_THREADS" in os.environ:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    trainer.predict(generator, datamodule=units, return_predictions=False)
    failed = sorted(p.name.removesuffix(".failed.json") for p in out.glob("*.failed.json"))
    ours = [u.id for u in units.units if u.id in failed]
    if trainer.is_global_zero:
        print(f"{len(units.units) - len(ours)} images in {out} ({len(units.finished)} were there before)")
        for unit in ours:
            print(f"featvis: unit {unit} failed: {(out / f'{unit}.failed.json').read_text()}", file=sys.stderr)
    return 1 if ours else 0


def logger(config: Any, out: Path) -> Any:
    """The WandbLogger of a cell, or None."""
    if config["wandb"] == "disabled":
        return None
    return wandb_logger(config["wandb"], config["name"], config["group"], Path(config["logs"]), "generate")


def wandb_logger(mode: str, name: str, group: str, folder: Path, job_type: str) -> Any:
    """Lightning's WandbLogger, offline unless told otherwise; works without an account.

    Raises:
        UserError: when Weights & Biases cannot start.
    """
    from lightning.pytorch.loggers import WandbLogger

    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        log = WandbLogger(
            name=name, group=group, job_type=job_type, project="featvis", save_dir=folder, offline=mode == "offline"
        )
        _ = log.experiment
    except Exception as error:
        raise UserError(f"--wandb {mode}: Weights & Biases cannot start ({error}); use offline or disabled") from error
    return log


def quiet() -> None:
    """Keep the Trainer's advice about loaders and loggers off the terminal; our own bars and errors stay."""
    for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning.*")
    warnings.filterwarnings("ignore", message=".*(does not have many workers|overridden `transfer_batch|infer the batch indices).*")


if __name__ == "__main__":
    sys.exit(main())
