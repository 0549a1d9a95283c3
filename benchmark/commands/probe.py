"""The command `featvis probe`."""

from __future__ import annotations

from pathlib import Path

from benchmark.arguments import WandbMode, check_out, command_line, split, wandb_mode, weights_line
from benchmark.checks import check_budget, check_method, check_models
from featvis.errors import UserError


def probe(
    model: str,
    layers: str | None = None,
    channels: int = 6,
    method: str = "am_lucid",
    compare: str = "am_pixel,am_literal,am_lucid",
    steps: int | None = 256,
    crops: int | None = None,
    canvas: int | None = None,
    batch_size: int = 16,
    seed: int = 0,
    out: str = "runs/probe",
    wandb: WandbMode | None = None,
) -> int:
    """Show channels from early to late layers, and what ascending frequencies instead of pixels changes. Resumes.

    Writes the pictures, a figure of the hierarchy (networks side by side), a comparison with the spectra and the share
    of fine detail, records, and a page.

    Args:
        model: network, or several with commas: efficientnet_lite0,vit.
        layers: names, separated by commas (`featvis layers MODEL`); default: five blocks from early to late.
        channels: how many of each layer.
        method: of the hierarchy, a preset of configs/generator.
        compare: presets, separated by commas, for the first channel of each layer; an empty text leaves it out.
        steps: optimisation steps; the paper's are 1000.
        crops: views a step.
        canvas: side of the canvas in pixels; default: the preset's, 224.
        batch_size: channels optimised together.
        seed: of all random streams.
        out: folder of everything.
        wandb: offline, online or disabled logging; default: what WANDB_MODE says, else offline.
    """
    if channels < 1:
        raise UserError(f"--channels must be at least 1, not {channels}")
    check_budget(steps=steps, views=crops, canvas=canvas, batch_size=batch_size)
    check_models(model)
    for preset in (method, *split(compare)):
        check_method(preset)
    check_out(Path(out), "probe")
    mode = wandb_mode(wandb)

    from benchmark.studies import probe as prober
    from benchmark.tracking import log_study
    from featvis.networks.loading import load

    budget = {"steps": steps, "views": crops, "canvas": canvas}
    options = prober.Options(
        tuple(split(layers)), channels, method, tuple(split(compare)), budget, seed, batch_size
    )  # fmt: skip
    probes = {name: prober.prepare(load(name, flag="MODEL"), options) for name in split(model)}
    for name, found in probes.items():
        for preset in (options.method, *options.compare):
            prober.generator(preset, found.network, name, options)
        print(weights_line(found.network))
    flags = {
        "layers": layers, "channels": channels, "method": method, "compare": compare, "steps": steps, "crops": crops,
        "canvas": canvas, "batch_size": batch_size, "seed": seed,
    }  # fmt: skip
    code = prober.run(probes, options, Path(out), command_line("probe", flags, model))
    aliases = [found.network.alias for found in probes.values()]
    log_study(mode, Path(out), prober.SUITE, aliases)
    return code
