"""The command `featvis accentuate`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from benchmark.arguments import WandbMode, command_line, wandb_mode, weights_line
from benchmark.checks import check_photographs
from featvis.errors import UserError


def accentuate(
    model: str,
    images: str | None = None,
    units: str | None = None,
    mode: Literal["accentuate", "caricature"] = "accentuate",
    layer: str | None = None,
    weight: float = 10.0,
    steps: int = 40,
    crops: int = 4,
    canvas: int | None = None,
    limit: int | None = None,
    batch_size: int = 16,
    seed: int = 0,
    out: str = "runs/accentuate",
    wandb: WandbMode | None = None,
) -> int:
    """Bring out in an image what of it excites a unit (Hamblin et al. 2024), or a caricature of the image. Resumes.

    Args:
        model: network, by alias, full timm tag, file in the folder FEATVIS_WEIGHTS, or wrap:FILE.
        images: folder of images, or one image.
        units: which units, such as tabby or blocks.4:7; a caricature needs none.
        mode: accentuate, or caricature: what a layer sees of the image, exaggerated.
        layer: where the canvas is kept near the image, or which sees the caricature; default: an early or a late one.
        weight: of keeping near.
        steps: optimisation steps.
        crops: views a step.
        canvas: side of the canvas in pixels; default: the network's input.
        limit: at most so many images, the first ones.
        batch_size: images optimised together.
        seed: of all random streams.
        out: folder of everything.
        wandb: offline, online or disabled logging; default: what WANDB_MODE says, else offline.
    """
    folder = check_photographs(
        images, limit, model, out, "accentuate", steps=steps, canvas=canvas, batch_size=batch_size
    )
    if units is None and mode == "accentuate":
        raise UserError("--units is missing; name what to bring out, for example --units tabby")
    logged = wandb_mode(wandb)

    from benchmark.studies import accentuate as accentuator
    from benchmark.tracking import log_study
    from featvis.generators import Accentuation
    from featvis.networks.loading import load
    from featvis.networks.units import Unit, parse_units

    network = load(model, flag="MODEL")
    size = canvas or network.input_size
    made = Accentuation(
        model=model, mode=mode, layer=layer, weight=weight, steps=steps, views=crops, canvas=size, seed=seed
    )
    made.classifier = network
    named = [Unit(made.layer(), 0, mode)] if mode == "caricature" else parse_units(str(units), network)
    found = accentuator.find(folder, named, limit, network)
    made.check_units(found)
    print(weights_line(network))
    flags = {
        "images": folder.name, "units": units, "mode": mode, "layer": layer, "weight": weight, "steps": steps,
        "crops": crops, "canvas": canvas, "limit": limit, "batch_size": batch_size, "seed": seed,
    }  # fmt: skip
    code = accentuator.run(made, found, batch_size, Path(out), command_line("accentuate", flags, model))
    log_study(logged, Path(out), accentuator.SUITE, [network.alias])
    return code
