"""The commands beyond the benchmark's own: looking into layers, images, concepts and adversarial examples.

As in `benchmark.cli`, each is a typed function, from which its flags and its help are made.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from benchmark.arguments import command_line, split
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
    """
    from benchmark import probe as prober
    from benchmark.cli import check_out
    from featvis.models import load

    budget = {"steps": steps, "views": crops, "canvas": canvas}
    options = prober.Options(
        tuple(split(layers)), channels, method, tuple(split(compare)), budget, seed, batch_size
    )  # fmt: skip
    if channels < 1:
        raise UserError(f"--channels must be at least 1, not {channels}")
    if not 1 <= batch_size <= 4096:
        raise UserError(f"--batch-size must be between 1 and 4096, not {batch_size}")
    if not split(model):
        raise UserError("MODEL is empty; name one, for example efficientnet_lite0")
    check_out(Path(out), prober.SUITE)
    probes = {name: prober.prepare(load(name, flag="MODEL"), options) for name in split(model)}
    for name, found in probes.items():
        for preset in (options.method, *options.compare):
            prober.generator(preset, found.network, name, options)
    flags = {
        "layers": layers, "channels": channels, "method": method, "compare": compare, "steps": steps, "crops": crops,
        "canvas": canvas, "batch_size": batch_size, "seed": seed,
    }  # fmt: skip
    return prober.run(probes, options, Path(out), command_line("probe", flags, model))


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
    """
    from benchmark import invert as inverter
    from benchmark.cli import check_out
    from featvis.inversion import Inversion
    from featvis.models import load

    if images is None:
        raise UserError("--images is missing; name a folder of images, or one image")
    if not 1 <= batch_size <= 4096:
        raise UserError(f"--batch-size must be between 1 and 4096, not {batch_size}")
    if limit is not None and limit < 1:
        raise UserError(f"--limit must be at least 1, not {limit}")
    check_out(Path(out), inverter.SUITE)
    network = load(model, flag="MODEL")
    layers, paths = inverter.find(network, split(layer), Path(images), limit)
    made = Inversion(model=model, domain=domain, seed=seed, steps=steps, canvas=canvas or network.input_size)
    made.classifier = network
    flags = {
        "images": Path(images).name, "layer": layer, "domain": domain, "steps": steps, "canvas": canvas, "limit": limit,
        "batch_size": batch_size, "seed": seed,
    }  # fmt: skip
    return inverter.run(made, layers, paths, batch_size, Path(out), command_line("invert", flags, model))


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
) -> int:
    """Find the concepts of classes in a layer (CRAFT), order them by importance, and visualize each. Resumes.

    Writes <out>/<model>/<layer>/<class>/concepts.safetensors, whose concepts are units (direction:FILE:0-9), the
    visualizations, mosaics of the patches that fire most, a page, a sheet and records.

    Args:
        model: network, by alias (`featvis models`), full timm tag, or file in the folder FEATVIS_WEIGHTS.
        classes: `301,323` or names, `ladybug`.
        data: real images of them: a folder (one folder a class), hfds/NAME:SPLIT or wds/FOLDER:SPLIT.
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
    """
    from benchmark import concepts as finder
    from benchmark import launch, suite
    from benchmark.cli import check_out
    from featvis.imagesets import open_images
    from featvis.models import load

    launch.quiet()
    for flag, value, example in (
        ("--classes", classes, "ladybug,301"),
        ("--data", data, "a folder of a folder a class"),
    ):
        if value is None:
            raise UserError(f"{flag} is missing; name some, for example {example}")
    assert classes is not None
    assert data is not None
    check_out(Path(out))
    classifier = load(model, "float32", flag="MODEL")
    options = finder.Options(concepts, patch, pool, images, seed, batch_size, objective)
    options.check(classifier)
    row = suite.Suite(model=model, units=classes, methods={}, seed=seed)
    generator, preset, _ = suite.build(method, {}, row, {"steps": steps, "views": crops, "canvas": canvas})
    generator.load_classifier()
    generator.check_transforms()
    labels = finder.classes(classes, classifier)
    source = open_images(data, classifier.synsets)
    chosen = [finder.choose(source, classifier, label, options) for label in labels]
    flags = {
        "classes": classes, "data": data, "concepts": concepts, "patch": patch, "pool": pool, "images": images,
        "method": method, "objective": objective,
        "steps": steps, "crops": crops, "canvas": canvas, "batch_size": batch_size, "seed": seed,
    }  # fmt: skip
    print(source.describe())
    return finder.run(classifier, generator, preset, source, chosen, layer, options, Path(out), flags)


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
    """
    from benchmark.attacks import job, report, run
    from benchmark.cli import check_out

    overrides = {"lr": alpha, "tv": tv, "steps": steps, "sign": sign, "seed": seed or None}
    asked = job.settings(preset, split(epsilon), overrides)
    if images is None:
        raise UserError("--images is missing; name a folder of images, or one image")
    if not 1 <= batch_size <= 4096:
        raise UserError(f"--batch-size must be between 1 and 4096, not {batch_size}")
    check_out(Path(out), run.SUITE)
    networks, judges = job.find_networks(split(model), split(others))
    pairs = job.find_pairs(Path(images), targets, next(iter(networks.values())), limit, seed)
    flags = {
        "images": Path(images).name, "targets": targets, "preset": preset, "epsilon": epsilon, "alpha": alpha, "tv": tv,
        "steps": steps, "sign": sign, "others": others, "limit": limit, "seed": seed or None,
    }  # fmt: skip
    command = command_line("attack", flags, model)
    code = run.run(job.Job(Path(out), networks, judges, asked, pairs, batch_size, command))
    report.everything(Path(out))
    return code


def perf(
    models: str = (
        "efficientnet_lite0,mobilenetv1_100.ra4_e3600_r224_in1k,vit_small_patch16_224.augreg_in21k_ft_in1k,flexivit"
    ),
    methods: str = "maco,fourier,cbr,am_lucid",
    batches: str = "8x4,8x1,2x16",
    memory: str = "8x4,8x32,64x32",
    canvas: int = 512,
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    seconds: float = 4.0,
    processes: bool = True,
    out: str = "runs/perf",
) -> int:
    """Measure what a step costs above the network's own forward and input gradient, taken apart; memory; processes.

    Networks whose weights are not on this machine get random ones, which changes no time. Prints the tables and writes
    perf-DEVICE.json and .md.

    Args:
        models: networks, separated by commas.
        methods: presets of configs/generator, separated by commas.
        batches: units x views, separated by commas.
        memory: batches whose peak memory is measured, each in a process of its own; an empty text leaves it out.
        canvas: side of the canvas in pixels.
        precision: of the networks.
        seconds: a row takes about four times this; one whose step takes longer than this is left out.
        processes: also compare one process of one thread with two (on a CPU).
        out: folder of the record.
    """
    from benchmark.cli import check_out
    from benchmark.perf import run

    check_out(Path(out))
    flags = {
        "models": models, "methods": methods, "batches": batches, "memory": memory, "canvas": canvas,
        "precision": precision, "seconds": seconds, "processes": processes,
    }  # fmt: skip
    if not 16 <= canvas <= 8192:
        raise UserError(f"--canvas must be between 16 and 8192, not {canvas}")
    if not 0 < seconds < 3600:
        raise UserError(f"--seconds must be between 0 and 3600, not {seconds}")
    for name, given in (("models", models), ("methods", methods), ("batches", batches)):
        if not split(given):
            raise UserError(f"--{name} is empty")
    return run.run(
        split(models), split(methods), run.parse_batches(batches, "--batches"), run.parse_batches(memory, "--memory"),
        canvas, precision, seconds, processes, Path(out), command_line("perf", flags),
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
    """
    from benchmark.cli import check_out
    from benchmark.perf import run

    for name, value, low, high in (
        ("crops", crops, 1, 1024),
        ("canvas", canvas, 16, 8192),
        ("steps", steps, 0, 100_000),
        ("rounds", rounds, 1, 1000),
    ):
        if not low <= value <= high:
            raise UserError(f"--{name} must be between {low} and {high}, not {value}")
    check_out(Path(out))
    flags = {
        "model": model, "classifiers": classifiers, "units": units, "crops": crops, "canvas": canvas, "steps": steps,
        "rounds": rounds,
    }  # fmt: skip
    return run.run_peers(
        model, split(classifiers), units, crops, canvas, steps, rounds, Path(folder), Path(out),
        command_line("perf-peers", flags),
    )  # fmt: skip
