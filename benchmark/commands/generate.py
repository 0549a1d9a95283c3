"""The command `featvis generate`."""

from __future__ import annotations

import importlib.util
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmark.arguments import WandbMode, check_out, wandb_mode
from benchmark.checks import check_class, check_networks
from benchmark.suites.presets import constructor_arguments, own_methods, presets
from featvis.errors import UserError, nearest
from featvis.limits import check_limit
from featvis.paths import CONFIGS, PACKAGE

HELP = """usage: featvis generate --model METHOD [--model.ARGUMENT VALUE ...] [--data.units UNITS] --out OUT

One cell: a generator, units and a folder in, one PNG a unit out (Lightning's LightningCLI). Run again, it resumes.

    featvis generate --model MACO --model.model efficientnet_lite0 --data.units ladybug,323 --out pictures
    featvis generate --config {configs}/maco.yaml --data.units first:10 --out pictures

options:
  --config FILE           a YAML with any of these options, as --print_config writes it; a preset is one ({presets})
  --model METHOD          {methods}, or a class of your own by its path: my_file.Mine
  --model.model NETWORK   alias (`featvis models`), full timm tag, file in the folder FEATVIS_WEIGHTS, or wrap:FILE
  --model.steps N         optimisation steps
  --model.views N         views a step (`--crops` of `featvis run`)
  --model.canvas N        side of the canvas in pixels, or [height, width]
  --model.seed N          of all random streams
  --model.ARGUMENT VALUE  any other argument of the method; --model.help METHOD lists them
  --data.units UNITS      classes `301,323`, names `ladybug`, channels `blocks.2:0-31`, or `first:20`
  --data.batch_size N     units optimised together
  --out OUT               folder of the images
  --wandb MODE            offline, online or disabled logging; default: what WANDB_MODE says, else disabled; --name,
                          --group and --logs say where
  --trainer.devices N     GPUs, or processes where there is none; --trainer.ARGUMENT is any of Lightning's Trainer
  --print_config          print every option with its value as a YAML
  --help                  this; --help-all lists every option of the Trainer too, and takes as long as torch
"""
"""What `--help` prints; a test holds its options against those of the parser."""


def generate(*args: str) -> int:
    """One cell: a generator, units and a folder in, one PNG a unit out (LightningCLI; `featvis generate --help`)."""
    given = list(args)
    if "--help" in given or "-h" in given:
        text = {"configs": CONFIGS / "generator", "presets": ", ".join(presets()), "methods": ", ".join(own_methods())}
        print(HELP.format(**text), end="")
        return 0
    check_generate(given)

    from benchmark.running.generate import main as generate_main

    return generate_main(["--help" if a == "--help-all" else a for a in given])


def check_generate(args: Sequence[str]) -> None:
    """Refuse what is wrong with the options, as far as can be known before torch is imported."""
    given = options_of(args)
    check_options(given)
    if (config := given.get("config")) is not None and not Path(config).is_file():
        raise UserError(f"--config {config} is not a file; name a YAML that --print_config has written")
    if (method := given.get("model")) is not None and not Path(method).is_file():
        check_generator(method)
    if (network := given.get("model.model")) is not None:
        check_networks([network], "--model.model")
    for key in ("model.steps", "model.views", "model.canvas", "data.batch_size"):
        check_number(given, key)
    modes = typing.get_args(WandbMode)
    if (mode := given.get("wandb")) is not None and mode not in modes:
        raise UserError(f"--wandb must be {', '.join(modes[:-1])} or {modes[-1]}, not {mode}")
    if mode is None:
        wandb_mode(None)
    asks = any(key == "help_all" or key == "print_config" or key.endswith(".help") for key in given)
    if (out := given.get("out")) is not None:
        check_out(Path(out))
    elif config is None and not asks:
        raise UserError("--out is missing; see --help")


def options_of(args: Sequence[str]) -> dict[str, str]:
    """The options of a command line by their names, `--name value` and `--name=value` alike; "" where there is none."""
    found: dict[str, str] = {}
    for i, word in enumerate(args):
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            follows = i + 1 < len(args) and not args[i + 1].startswith("--")
            found[name if "." in name else name.replace("-", "_")] = value if equals or not follows else args[i + 1]
    return found


def check_options(given: Mapping[str, str]) -> None:
    """Refuse an option that neither the method, nor the units, nor Lightning's Trainer has."""
    groups = {"model": generator_arguments(given.get("model", "")), "data": batch_arguments(), "trainer": trainer()}
    own = ["config", "help_all", "print_config", "seed_everything", "out", "wandb", "name", "group", "logs", *groups]
    own += ["optimizer", "lr_scheduler"]
    for key in given:
        group, dot, rest = key.partition(".")
        name = rest.partition(".")[0].rstrip("+")
        if group not in own:
            raise UserError(f"unknown option --{key}: {nearest(f'--{key}', [f'--{name}' for name in own])}")
        known = groups.get(group)
        if dot and known and name not in (*known, "help", "class_path", "init_args"):
            if group == "model":
                raise UserError(f"unknown option --{key}: {nearest(name, known)}")
            raise UserError(f"unknown option --{key}: {nearest(f'--{key}', [f'--{group}.{k}' for k in known])}")


def generator_arguments(method: str) -> list[str]:
    """The arguments of featvis's own methods; empty where the method is somebody else's and may have any."""
    if "." in method and not method.startswith("featvis.generators."):
        return []
    return constructor_arguments(*sorted((PACKAGE / "generators").rglob("*.py")))


def batch_arguments() -> list[str]:
    """The arguments of the units."""
    return constructor_arguments(PACKAGE / "generators" / "batches.py")


def trainer() -> list[str]:
    """The arguments of Lightning's Trainer; empty where they cannot be read without importing it."""
    found = importlib.util.find_spec("lightning")
    for folder in (found.submodule_search_locations or ()) if found is not None else ():
        path = Path(folder) / "pytorch" / "trainer" / "trainer.py"
        if path.is_file():
            return constructor_arguments(path)
    return []


def check_generator(method: str) -> None:
    """Refuse a method that is neither one of featvis's own nor the path of a class whose package is there."""
    if "." in method:
        check_class(method, "--model")
    elif method not in own_methods():
        raise UserError(
            f"unknown --model {method}, which is the method here (the network is --model.model; a class of your "
            f"own is named by its class path): {nearest(method, own_methods())}"
        )


def check_number(given: Mapping[str, str], key: str) -> None:
    """Refuse a number that is none, or out of range; a canvas may be two, which the parser reads."""
    value = given.get(key)
    if value is None or value.startswith("["):
        return
    if not value.removeprefix("-").isdecimal():
        raise UserError(f"--{key} must be a whole number, not {value or 'empty text'}")
    check_limit(key.partition(".")[2], int(value), f"--{key}")
