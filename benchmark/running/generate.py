"""One cell: a generator, units and a folder in; one PNG a unit out. A LightningCLI that only predicts."""

from __future__ import annotations

import inspect
import os
import re
import sys
from pathlib import Path
from typing import Any, NoReturn

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from benchmark.arguments import OneSentenceParser, WandbMode, user_error, wandb_mode, weights_line
from benchmark.launch import quiet
from benchmark.scoring.recording import failures, silent
from benchmark.suites.methods import accepted
from benchmark.suites.presets import NO_METHODS
from benchmark.tracking import Logged
from featvis import engine, generators
from featvis.errors import UserError, nearest
from featvis.generators import Generator
from featvis.generators.batches import Units
from featvis.generators.callbacks import ImageWriter, StepProgress
from featvis.networks.classifier import Classifier
from featvis.paths import importable
from featvis.storage.interrupt import WORKER


class GenerateCLI(LightningCLI):
    """`featvis generate`: every argument of the generator (`--model.*`), of the units (`--data.*`), of the Trainer."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Where the images go, and what is logged."""
        parser.add_argument("--out", type=str, required=True, help="folder of this configuration's images")
        parser.add_argument("--wandb", type=WandbMode | None, default=None, help="Weights & Biases")
        parser.add_argument("--name", type=str, default="featvis", help="name of the run in Weights & Biases")
        parser.add_argument("--group", type=str, default="featvis", help="group of the run in Weights & Biases")
        parser.add_argument("--logs", type=str, default=".", help="folder of the offline runs of Weights & Biases")

    def instantiate_classes(self) -> None:
        """As Lightning does; what the generator says of its arguments comes through jsonargparse as it was said."""
        try:
            super().instantiate_classes()
        except (TypeError, ValueError) as error:
            if (cause := user_error(error)) is not None:
                raise in_own_flags(cause) from error
            raise

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """As Lightning does.

        Raises:
            UserError: when Lightning refuses the Trainer's arguments.
        """
        try:
            return super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, RuntimeError, TypeError, ValueError) as error:
            given = self.config["trainer"]
            names = ", ".join(f"--trainer.{k} {given[k]}" for k in ("accelerator", "devices", "strategy"))
            reason = " ".join(str(error).split())
            raise UserError(
                f"the Trainer refuses its arguments ({names}): {reason}; without them it takes one device"
            ) from error


class Parser(OneSentenceParser, LightningArgumentParser):
    """LightningCLI's parser with featvis's errors; options are spelled as LightningCLI spells them."""

    def spell(self, key: str) -> str:
        """An option; jsonargparse reads the generator's own with a parser of this class that knows no Trainer."""
        return f"--{key}" if any(a.dest == "trainer.devices" for a in self._actions) else f"--model.{key}"

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the error that the user's arguments caused."""
        text = " ".join(message.split())
        if (method := re.search(r"Expected a dot import path string: (\S+)", text)) is not None:
            raise UserError(
                f"unknown --model {method[1]}, which is the method here (the network is --model.model; a class of your "
                f"own is named by its class path): {nearest(method[1], METHODS)}"
            ) from ex
        if (option := re.search(r"[Oo]ption '(\w+)' is not accepted", text)) is not None:
            known = dict.fromkeys(name for cls in METHODS.values() for name in accepted(cls))
            raise UserError(f"unknown option --model.{option[1]}: {nearest(option[1], known)}") from ex
        super().error(message, ex)


METHODS = {
    name: cls
    for name, cls in vars(generators).items()
    if inspect.isclass(cls) and issubclass(cls, Generator) and name not in NO_METHODS
}
"""The methods that come with featvis and make an image of a unit alone, without one to begin with."""

OWN_FLAGS = {
    "--units": "--data.units",
    "--batch-size": "--data.batch_size",
    "--steps": "--model.steps",
    "--crops": "--model.views",
    "--canvas": "--model.canvas",
    "--model": "--model.model",
}
"""The options of `featvis run` as `featvis generate` calls them."""


def main(args: list[str] | None = None, networks: dict[str, Classifier] | None = None) -> int:
    """Run one cell; 0 done, 1 when the optimisation of some unit was not finite.

    Args:
        args: of the command.
        networks: those that earlier cells of this process loaded, by name and precision; this one's is added.
    """
    quiet()
    importable(Path.cwd())
    cli = parsed(args)
    cli.config["wandb"] = wandb_mode(cli.config["wandb"], "disabled")
    generator, known = cli.model, {} if networks is None else networks
    key = f"{generator.model} {generator.precision}"
    generator.classifier = known.get(key)
    try:
        known[key] = generator.load_classifier()
        if cli.trainer.is_global_zero and WORKER not in os.environ:
            print(weights_line(known[key]))
        return predict(cli.trainer, cli.model, cli.datamodule, Path(cli.config["out"]), cli.config)
    except UserError as error:
        raise in_own_flags(error) from error


def in_own_flags(error: UserError) -> UserError:
    """A message of the library with the options as this command calls them."""
    return UserError(re.sub(r"--[\w-]+(?![\w.-])", lambda m: OWN_FLAGS.get(m[0], m[0]), str(error)))


def parsed(args: list[str] | None) -> GenerateCLI:
    """The command's arguments, checked, and what is made from them."""
    return GenerateCLI(
        Generator,
        Units,
        subclass_mode_model=True,
        args=args,
        run=False,
        save_config_callback=None,
        seed_everything_default=False,
        parser_class=Parser,
        # An abbreviated option is a typing error more often than a wish.
        parser_kwargs={"description": (main.__doc__ or "") + (GenerateCLI.__doc__ or ""), "allow_abbrev": False},
        trainer_defaults={
            "accelerator": "auto",
            "devices": 1,
            "logger": False,
            "enable_checkpointing": False,
            "enable_model_summary": False,
        },
    )


def predict(trainer: Any, generator: Generator, units: Units, out: Path, config: Any) -> int:
    """Generate what is missing in `out`, and say what there was to do."""
    generator.load_classifier()
    generator.check_transforms()
    trainer.callbacks += [ImageWriter(str(out)), StepProgress()]
    trainer.callbacks += [Logged(config)] if config["wandb"] != "disabled" else []
    trainer.callbacks = [c for c in trainer.callbacks if type(c).__name__ != "TQDMProgressBar"]
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if torch.device(trainer.strategy.root_device).type == "cpu" and threads.isdecimal() and int(threads):
        torch.set_num_threads(int(threads))
    engine.prepare()
    trainer.predict(generator, datamodule=units, return_predictions=False)
    if torch.distributed.is_initialized():
        # What follows looks at all images, and the first process may be done before the others have written theirs.
        torch.distributed.barrier()
    failed = failures(out, [u.id for u in units.units])
    without = [u.id for u in units.units if silent(out / f"{u.id}.png")]
    if trainer.is_global_zero:
        print(f"{len(units.units) - len(failed)} images in {out} ({len(units.finished)} were there before)")
        for one in failed.values():
            print(f"featvis: unit {one.unit} failed at step {one.step}: {one.reason}", file=sys.stderr)
        for unit in without:
            print(f"featvis: unit {unit} is silent: nothing on the canvas changed it at any step", file=sys.stderr)
    return 1 if failed or without else 0


if __name__ == "__main__":
    sys.exit(main())
