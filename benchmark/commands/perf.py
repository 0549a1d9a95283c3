"""The commands `featvis perf` and `featvis perf-peers`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from benchmark.arguments import WandbMode, check_out, command_line, split, wandb_mode
from benchmark.checks import check_budget, check_method, check_networks
from featvis.errors import UserError


def parse_batches(text: str, flag: str) -> list[tuple[int, int]]:
    """`8x4,8x1` as pairs of units and views.

    Raises:
        UserError: for anything else.
    """
    found = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        match = re.fullmatch(r"(\d+)x(\d+)", part)
        if match is None or not (1 <= int(match[1]) <= 4096 and 1 <= int(match[2]) <= 4096):
            raise UserError(f"{flag} {part} is no batch; write units x views, both from 1 to 4096, for example 8x4")
        found.append((int(match[1]), int(match[2])))
    return found


def perf(
    models: str = (
        "efficientnet_lite0,mobilenetv1_100.ra4_e3600_r224_in1k,vit_small_patch16_224.augreg_in21k_ft_in1k,flexivit"
    ),
    methods: str = "maco,fourier,cbr,am_lucid",
    batches: str = "8x4,8x1,2x16",
    memory: str = "8x4,8x32,64x32",
    parts: str = "8x4",
    canvas: int = 512,
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    seconds: float = 4.0,
    processes: bool = True,
    out: str = "runs/perf",
    wandb: WandbMode | None = None,
) -> int:
    """Measure what a step costs above the network's own forward and input gradient, taken apart; memory; processes.

    Networks whose weights are not on this machine get random ones, which changes no time. Prints the tables and writes
    perf-DEVICE.json and .md.

    Args:
        models: networks, separated by commas.
        methods: presets of configs/generator, separated by commas.
        batches: units x views, separated by commas.
        memory: batches whose peak memory is measured, each in a process of its own; an empty text leaves it out.
        parts: batches for which each part of the engine is switched off in turn, with the first network; an empty text
            leaves it out.
        canvas: side of the canvas in pixels.
        precision: of the networks.
        seconds: a row takes about four times this, and so does a part of the engine; a row whose step takes
            longer than this is left out.
        processes: also compare one process of one thread with two (on a CPU).
        out: folder of the record.
        wandb: offline, online or disabled logging; default: what WANDB_MODE says, else offline.
    """
    flags = {
        "models": models, "methods": methods, "batches": batches, "memory": memory, "parts": parts,
        "canvas": canvas, "precision": precision, "seconds": seconds, "processes": processes,
    }  # fmt: skip
    check_budget(canvas=canvas)
    if not 0 < seconds < 3600:
        raise UserError(f"--seconds must be between 0 and 3600, not {seconds}")
    for name, given in (("models", models), ("methods", methods), ("batches", batches)):
        if not split(given):
            raise UserError(f"--{name} is empty")
    sizes, remembered = parse_batches(batches, "--batches"), parse_batches(memory, "--memory")
    check_networks(split(models), "--models")
    for method in split(methods):
        check_method(method)
    check_out(Path(out))
    mode = wandb_mode(wandb)

    from benchmark.perf import run

    return run.run(
        split(models), split(methods), sizes, remembered, parse_batches(parts, "--parts"), canvas, precision, seconds,
        processes, Path(out), command_line("perf", flags), mode,
    )  # fmt: skip


def perf_peers(
    model: str = "efficientnet_lite0",
    classifiers: str = "efficientnet_lite1,efficientnet_lite2",
    units: str = "ladybug,monarch,pineapple,flamingo,zebra,pizza,giant panda,tiger,strawberry,daisy",
    crops: int = 4,
    canvas: int = 512,
    steps: int = 64,
    rounds: int = 7,
    folder: str = ".peers",
    out: str = "runs/perf",
    wandb: WandbMode | None = None,
) -> int:
    """Compare MACO's speed, and its pictures, with those of the libraries horama and dreamlens on the same work.

    `make perf-peers` installs them into a folder of their own. Prints the tables; writes peers-DEVICE.json and .md, the
    pictures and a contact sheet.

    Args:
        model: network.
        classifiers: networks that judge the pictures too, separated by commas.
        units: classes, as in `featvis run`.
        crops: views a step.
        canvas: side of the canvas in pixels.
        steps: of the pictures; 0 draws none.
        rounds: in which everything is timed once.
        folder: of the libraries.
        out: folder of the record.
        wandb: offline, online or disabled logging; default: what WANDB_MODE says, else offline.
    """
    for name, value, low, high in (
        ("crops", crops, 1, 1024),
        ("canvas", canvas, 16, 8192),
        ("steps", steps, 0, 100_000),
        ("rounds", rounds, 1, 1000),
    ):
        if not low <= value <= high:
            raise UserError(f"--{name} must be between {low} and {high}, not {value}")
    check_networks([model], "--model")
    check_networks(split(classifiers), "--classifiers")
    check_out(Path(out))
    mode = wandb_mode(wandb)

    from benchmark.perf import run

    flags = {
        "model": model, "classifiers": classifiers, "units": units, "crops": crops, "canvas": canvas, "steps": steps,
        "rounds": rounds,
    }  # fmt: skip
    return run.run_peers(
        model, split(classifiers), units, crops, canvas, steps, rounds, Path(folder), Path(out),
        command_line("perf-peers", flags), mode,
    )  # fmt: skip
