"""The command `featvis concepts`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from benchmark.arguments import WandbMode, check_out, wandb_mode, weights_line
from benchmark.checks import check_budget, check_images, check_method, check_networks
from featvis.errors import UserError


def concepts(
    model: str,
    classes: str | None = None,
    data: str | None = None,
    layer: str | None = None,
    concepts: int = 10,
    patch: int = 64,
    pool: int | None = None,
    images: int = 100,
    method: str = "maco_coarse_to_fine",
    objective: Literal["cosine", "dot"] = "cosine",
    steps: int | None = None,
    crops: int | None = None,
    canvas: int | None = None,
    batch_size: int = 10,
    seed: int = 0,
    out: str = "runs/concepts",
    wandb: WandbMode | None = None,
) -> int:
    """Find the concepts of classes in a layer (CRAFT), order them by importance, and visualize each. Resumes.

    Writes <out>/<model>/<layer>/<class>/concepts.safetensors, whose concepts are units (direction:FILE:0-9), the
    visualizations, mosaics of the patches that fire most, a page, a sheet and records.

    Args:
        model: network, by alias (`featvis models`), full timm tag, file in the folder FEATVIS_WEIGHTS, or wrap:FILE.
        classes: `301,323` or names, `ladybug`.
        data: real images of them: a folder (one folder a class), hfds/NAME:SPLIT, wds/FOLDER:SPLIT, or imagenette.
        layer: whose activations are not negative, as after a ReLU; default: the last one with positions.
        concepts: how many for a class.
        patch: side of the square patches, in pixels of the network's input.
        pool: how many sister classes (the nearest by the network's last weights) add their images; default: as many
            as it takes to have ten images.
        images: at most so many of a class, the first ones.
        method: of the visualizations, a preset of configs/generator.
        objective: of the visualizations: cosine is dot * max(cos, .1)^2, with the whole concept in the picture and not
            its strongest channels alone; dot is the dot product.
        steps: optimisation steps.
        crops: views a step.
        canvas: side of the canvas in pixels.
        batch_size: concepts optimised together.
        seed: of the factorisation, the masks and the visualizations.
        out: folder of the run.
        wandb: offline, online or disabled logging; default: what WANDB_MODE says, else offline.
    """
    for flag, value, example in (
        ("--classes", classes, "ladybug,301"),
        ("--data", data, "a folder of a folder a class, or imagenette, which is fetched"),
    ):
        if value is None:
            raise UserError(f"{flag} is missing; name some, for example {example}")
    assert classes is not None
    assert data is not None
    check_budget(steps=steps, views=crops, canvas=canvas, batch_size=batch_size)
    check_networks([model], "MODEL")
    check_method(method)
    check_images(data, "--data")
    check_out(Path(out))
    mode = wandb_mode(wandb)

    from benchmark import launch
    from benchmark.studies.concepts import run as finder
    from benchmark.suites.methods import build
    from benchmark.suites.suite import Suite
    from benchmark.tracking import log_study
    from featvis.data.sets import open_images
    from featvis.networks.loading import load
    from featvis.networks.units import parse_classes

    launch.quiet()
    classifier = load(model, "float32", flag="MODEL")
    options = finder.Options(concepts, patch, pool, images, seed, batch_size, objective)
    options.check(classifier)
    row = Suite(model=model, units=classes, methods={}, seed=seed)
    generator, preset, _ = build(method, {}, row, {"steps": steps, "views": crops, "canvas": canvas})
    generator.load_classifier()
    generator.check_transforms()
    labels = parse_classes(classes, classifier, "--classes")
    source = open_images(data, classifier)
    chosen = [finder.choose(source, classifier, label, options) for label in labels]
    flags = {
        "classes": classes, "data": data, "concepts": concepts, "patch": patch, "pool": pool, "images": images,
        "method": method, "objective": objective,
        "steps": steps, "crops": crops, "canvas": canvas, "batch_size": batch_size, "seed": seed,
    }  # fmt: skip
    print(source.describe())
    print(weights_line(classifier))
    code = finder.run(classifier, generator, preset, source, chosen, layer, options, Path(out), flags)
    home = Path(out) / classifier.alias
    log_study(mode, Path(out), "concepts", [classifier.alias], [*home.rglob("sheet.png"), *home.rglob("mosaic_*.png")])
    return code
