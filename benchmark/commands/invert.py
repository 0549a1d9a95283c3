"""The command `featvis invert`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from benchmark.arguments import WandbMode, command_line, split, wandb_mode, weights_line
from benchmark.checks import check_photographs


def invert(
    model: str,
    images: str | None = None,
    layer: str | None = None,
    domain: Literal["spectrum", "phase"] = "spectrum",
    steps: int = 256,
    canvas: int | None = None,
    limit: int | None = None,
    batch_size: int = 16,
    seed: int = 0,
    out: str = "runs/invert",
    wandb: WandbMode | None = None,
) -> int:
    """Find the canvas that does to a layer what an image does: what the layer keeps of the image is seen. Resumes.

    Args:
        model: network, by alias, full timm tag, file in the folder FEATVIS_WEIGHTS, or wrap:FILE.
        images: folder of images, or one image.
        layer: one, or several with commas (`featvis layers MODEL`); default: an early and the last block.
        domain: spectrum, scaled by frequency, which can match an early layer closely, or phase (MACO).
        steps: optimisation steps.
        canvas: side of the canvas in pixels; default: the network's input.
        limit: at most so many images, the first ones.
        batch_size: images optimised together.
        seed: of all random streams.
        out: folder of everything.
        wandb: offline, online or disabled logging; default: what WANDB_MODE says, else offline.
    """
    folder = check_photographs(images, limit, model, out, "invert", steps=steps, canvas=canvas, batch_size=batch_size)
    mode = wandb_mode(wandb)

    from benchmark.studies import invert as inverter
    from benchmark.tracking import log_study
    from featvis.generators.inversion import Inversion
    from featvis.networks.loading import load

    network = load(model, flag="MODEL")
    layers, paths = inverter.find(network, split(layer), folder, limit)
    made = Inversion(model=model, domain=domain, seed=seed, steps=steps, canvas=canvas or network.input_size)
    made.classifier = network
    print(weights_line(network))
    flags = {
        "images": folder.name, "layer": layer, "domain": domain, "steps": steps, "canvas": canvas, "limit": limit,
        "batch_size": batch_size, "seed": seed,
    }  # fmt: skip
    code = inverter.run(made, layers, paths, batch_size, Path(out), command_line("invert", flags, model))
    log_study(mode, Path(out), inverter.SUITE, [network.alias])
    return code
