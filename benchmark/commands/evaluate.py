"""The command `featvis evaluate`."""

from __future__ import annotations

from pathlib import Path

from benchmark.arguments import WandbMode, check_out, command_line, split, wandb_mode, weights_line
from benchmark.checks import check_apart, check_images, check_metrics, check_networks
from featvis.networks.names import unprefixed


def evaluate(
    folder: str,
    model: str = "efficientnet_lite0",
    classifiers: str = "efficientnet_lite1,efficientnet_lite2",
    frechet: str = "efficientnet_lite1",
    observers: str | None = None,
    metrics: str | None = None,
    data: str | None = None,
    frechet_data: str | None = None,
    out: str = "runs/evaluate",
    wandb: WandbMode | None = None,
) -> int:
    """Score anyone's folder of images beside real images and noise of the same classes. Reads images only.

    Args:
        folder: images whose names, or whose folders', carry a class: its index (301.png), synset (n02165456_1.png) or,
            of a folder, label; or with a label file. Or images of units: blocks.4_7.png, or a file units.csv, of which
            a line is a file's name and a unit (blocks.4:7).
        model: the target network, whose features the plausibility is measured in.
        classifiers: networks of the transferability score, separated by commas.
        frechet: the network whose features stand in where Inception's weights are missing.
        observers: networks in whose features units are told apart and sets compared, separated by commas; default: the
            classifiers.
        metrics: groups, separated by commas: plausibility, frechet, transferability, logit, spectrum, sphere, units;
            default: all of these. Asked for by name also dinov2 and clip, whose weights are large.
        data: real images to compare with (see `featvis run --help`), none of which may be one that made the pictures;
            default: the embedded reference.
        frechet_data: those that sets of images are compared with; default: the data, its validation split.
        out: folder of the records, not in that of the images.
        wandb: offline, online or disabled logging; default: what WANDB_MODE says, else offline.
    """
    groups = split(metrics)
    named = (
        ("--model", [model]),
        ("--classifiers", split(classifiers)),
        ("--frechet", [frechet]),
        ("--observers", split(observers)),
    )
    check_metrics(groups)
    for flag, names in named:
        check_networks(names, flag)
    watching = [unprefixed(name) for name in split(classifiers if observers is None else observers)]
    judges, frechet = [unprefixed(name) for name in split(classifiers)], unprefixed(frechet)
    for flag, spec in (("FOLDER", folder), ("--data", data), ("--frechet-data", frechet_data)):
        check_images(spec, flag)
    check_out(Path(out), "evaluate")
    mode = wandb_mode(wandb)
    check_apart(folder, out)

    from benchmark.report import tables
    from benchmark.scoring.folders import evaluate_folder
    from benchmark.scoring.plan import Sources
    from benchmark.tracking import log_scores
    from featvis.data.files import find_images
    from featvis.networks.loading import check, load

    # A misspelt judge is found before anything is loaded.
    for flag, names in named:
        for name in names:
            check(name, flag)
    target = load(model, "float32")
    print(weights_line(target))
    sources = Sources.open(data, frechet_data, None, target)
    flags = {"model": model, "classifiers": classifiers, "frechet": frechet, "observers": observers, "metrics": metrics}
    plan, found = evaluate_folder(
        Path(folder), target, sources, out=out, suite="evaluate", frechet=frechet, data=data, frechet_data=frechet_data,
        wandb=mode, metrics=groups, classifiers=judges, observers=watching, sets=sources.facts(),
        cache=str(Path(out).parent / "reference"),
        command=command_line("evaluate", {"data": data, "frechet_data": frechet_data} | flags, Path(folder).name),
    )  # fmt: skip
    print(tables.text_block(found))
    if mode != "disabled":
        paths = find_images(Path(folder), "FOLDER").paths
        log_scores(plan, figures={p.relative_to(folder).as_posix(): p for p in paths})
    return 0
