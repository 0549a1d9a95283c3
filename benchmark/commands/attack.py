"""The command `featvis attack`."""

from __future__ import annotations

from pathlib import Path

from benchmark.arguments import WandbMode, command_line, split, wandb_mode, weights_line
from benchmark.checks import check_networks, check_photographs
from benchmark.suites.presets import presets
from featvis.errors import UserError, nearest


def attack(
    model: str,
    images: str | None = None,
    targets: str = "random",
    preset: str = "sign",
    epsilon: str | None = None,
    alpha: float | None = None,
    tv: float | None = None,
    steps: int | None = None,
    sign: bool | None = None,
    others: str | None = None,
    limit: int | None = None,
    batch_size: int = 16,
    seed: int = 0,
    out: str = "runs/attack",
    wandb: WandbMode | None = None,
) -> int:
    """Targeted adversarial examples: small changes to images, after which a network sees another class.

    Every example is judged as it is read back from its file, by the network that it was made with and by the others.
    Started again, the command makes what is missing; other settings add rows to the tables.

    Args:
        model: network that is attacked, or several with commas, for a matrix of attacking and judging networks.
        images: folder of images, or one image.
        targets: `random` (one a picture, never its own class), or classes for every image: `301,ladybug`.
        preset: a file of configs/attack: sign (steps by the sign of the gradient), resnet50v2 and vit (Table 2 of the
            paper); the flags below change what it says.
        epsilon: largest change of a value in [0, 1], or several with commas: `0.05` or `2/255,4/255`.
        alpha: step size.
        tv: weight of the perturbation's total variation.
        steps: optimisation steps.
        sign: step by the sign of the gradient; --sign false for the gradient itself.
        others: networks that judge the examples too, separated by commas.
        limit: at most so many images, the first ones.
        batch_size: images optimised together.
        seed: of the random targets.
        out: folder of everything.
        wandb: offline, online or disabled logging; default: what WANDB_MODE says, else offline.
    """
    if preset not in presets("attack"):
        raise UserError(f"unknown --preset {preset}: {nearest(preset, presets('attack'))}")
    folder = check_photographs(images, limit, model, out, "attack", steps=steps, batch_size=batch_size)
    check_networks(split(others), "--others")
    mode = wandb_mode(wandb)

    from benchmark.studies.attacks import job, report, run
    from benchmark.tracking import log_study

    overrides = {"lr": alpha, "tv": tv, "steps": steps, "sign": sign, "seed": seed or None}
    asked = job.settings(preset, split(epsilon), overrides)
    networks, judges = job.find_networks(split(model), split(others))
    pairs = job.find_pairs(folder, targets, next(iter(networks.values())), limit, seed)
    flags = {
        "images": folder.name, "targets": targets, "preset": preset, "epsilon": epsilon, "alpha": alpha, "tv": tv,
        "steps": steps, "sign": sign, "others": others, "limit": limit, "seed": seed or None,
    }  # fmt: skip
    command = command_line("attack", flags, model)
    for network in judges.values():
        print(weights_line(network))
    code = run.run(job.Job(Path(out), networks, judges, asked, pairs, batch_size, command))
    report.everything(Path(out))
    log_study(mode, Path(out), run.SUITE, list(networks))
    return code
