"""The command `featvis run`."""

from __future__ import annotations

from typing import Literal

from benchmark.arguments import WandbMode, wandb_mode
from benchmark.checks import check_run


def run(
    suite: str = "quick",
    model: str | None = None,
    methods: str | None = None,
    units: str | None = None,
    steps: int | None = None,
    crops: int | None = None,
    canvas: int | None = None,
    batch_size: int | None = None,
    seed: int | None = None,
    classifiers: str | None = None,
    observers: str | None = None,
    devices: int = 1,
    data: str | None = None,
    frechet_data: str | None = None,
    spectrum_data: str | None = None,
    seen_data: str | None = None,
    tokens: Literal["all", "patches"] | None = None,
    out: str | None = None,
    wandb: WandbMode | None = None,
    dry_run: bool = False,
) -> int:
    """Generate, score and report a suite: images, records, tables, figures and a page. Run again, it resumes.

    Args:
        suite: a YAML, or the name of one in configs/suite. The flags below change what it says.
        model: network, by alias (`featvis models`), full timm tag, file in the folder FEATVIS_WEIGHTS, or wrap:FILE for
            your own (`featvis layers --help`).
        methods: rows of the table, separated by commas: rows of the suite, presets (configs/generator), or class paths.
        units: classes `301,323`, names `ladybug`, channels `blocks.2:0-31`, or `first:20` of the fixed permutation.
        steps: optimisation steps, for every method.
        crops: views a step, for every method.
        canvas: side of the canvas in pixels, for every method.
        batch_size: units optimised together.
        seed: of all random streams.
        classifiers: networks of the transferability score, separated by commas.
        observers: networks in whose features units are told apart and sets compared, separated by commas; default: the
            classifiers.
        devices: GPUs, or processes where there is none. Under torchrun or srun the launcher says it.
        data: real images to compare with: a folder (one folder a class, or with a label file, or with the splits train
            and val), hfds/NAME:SPLIT, wds/FOLDER:SPLIT, or imagenette: ten of ImageNet's classes, which are fetched
            once (FEATVIS_IMAGENETTE names a mirror); default: the embedded reference.
        frechet_data: those that sets of images are compared with; default: the data, its validation split.
        spectrum_data: those whose spectrum MACO keeps; default: the embedded spectrum.
        seen_data: those that methods which see images of the class are given, none of which may be in the data;
            default: those of their presets.
        tokens: over which tokens of a transformer a unit is averaged that does not say it: all, CLS and registers
            included, or patches.
        out: folder of the run; default: runs/<suite>, and with options that change the suite
            runs/<suite>-<network>-<digits>, which the run says. What is computed of the data is kept in the folder
            reference beside it, for other runs.
        wandb: offline, online or disabled logging; default: what WANDB_MODE says, else offline, which needs no account
            and writes what `wandb sync` can send later. WANDB_PROJECT, WANDB_ENTITY and WANDB_DIR hold too.
        dry_run: print the plan, its cost and the time expected after timing three steps; write nothing.
    """
    flags = {
        "model": model, "methods": methods, "units": units, "steps": steps, "crops": crops, "canvas": canvas,
        "batch_size": batch_size, "seed": seed, "classifiers": classifiers, "data": data, "frechet_data": frechet_data,
        "spectrum_data": spectrum_data, "seen_data": seen_data, "tokens": tokens, "observers": observers,
    }  # fmt: skip
    check_run(suite, flags, devices, out)
    mode = wandb_mode(wandb)

    from benchmark import launch
    from benchmark.report import report
    from benchmark.running import dry_run as dry_run_
    from benchmark.running import runner
    from benchmark.suites import job as jobs

    jobs.check_devices(devices)
    job = jobs.from_flags(suite, flags, out, {"wandb": mode})
    folder = job.out
    if launch.rank() == 0:
        for text in jobs.findings(job):
            print(text, flush=True)
    if dry_run:
        print(dry_run_.plan_text(job, dry_run_.timing(job)))
        if job.plan.data is not None:
            print(f"\n{dry_run_.passes_text(dry_run_.passes(job))}")
        return 0
    code = runner.run(job, devices, mode)
    if launch.rank() == 0 and (folder / "records").is_dir():
        report.everything(folder)
    return code
