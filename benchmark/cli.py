"""featvis's commands: arguments in, exit code out. 0 done; 1 some cell failed; 2 bad input, nothing written.

Each command is a typed function, from which its flags and its help are made.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from jsonargparse import auto_cli

from benchmark.arguments import OneSentenceParser, command_line, split
from benchmark.commands import attack, concepts, invert, perf, perf_peers, probe
from featvis.errors import UserError, full_disk, nearest
from featvis.interrupt import WORKER, Stopped, stoppable

WandbMode = Literal["offline", "online", "disabled"]


def check_out(out: Path, suite: str | None = None) -> None:
    """Find out, writing nothing, whether a folder can be written and holds no other suite's records.

    Args:
        out: the folder, there or not.
        suite: whose records may be there; None: anything may.

    Raises:
        UserError: when it cannot.
    """
    there = next(p for p in (out, *out.absolute().parents) if p.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        reason = "is not a folder" if not there.is_dir() else "may not be written"
        raise UserError(f"--out {out} cannot be written ({there} {reason}); name a folder that can")
    if suite is not None and (out / "records").is_dir():
        from benchmark import records

        others = {r.suite for r in records.load_all(out / "records")} - {suite}
        if others:
            raise UserError(
                f"--out {out} holds the run of another suite ({', '.join(sorted(others))}); name another folder"
            )


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
    devices: int = 1,
    data: str | None = None,
    frechet_data: str | None = None,
    spectrum_data: str | None = None,
    tokens: Literal["all", "patches"] | None = None,
    out: str | None = None,
    wandb: WandbMode = "offline",
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
        devices: GPUs, or processes where there is none. Under torchrun or srun the launcher says it.
        data: real images to compare with: a folder (one folder a class, or flat with a label file, or with the splits
            train and val), hfds/NAME:SPLIT, or wds/FOLDER:SPLIT; default: the embedded reference.
        frechet_data: those that sets of images are compared with; default: the data, its validation split.
        spectrum_data: those whose spectrum MACO keeps; default: the embedded spectrum.
        tokens: over which tokens of a transformer a unit is averaged that does not say it: all, CLS and registers
            included, or patches.
        out: folder of the run; default: runs/<suite>. What is computed of the data is kept in the folder reference
            beside it, for other runs.
        wandb: offline writes a run that `wandb sync` can send later; no account is needed.
        dry_run: print the plan, its cost and the time expected after timing three steps; write nothing.
    """
    from benchmark import launch, report, runner
    from benchmark import suite as suites

    suites.check_devices(devices)
    flags = {
        "model": model, "methods": methods, "units": units, "steps": steps, "crops": crops, "canvas": canvas,
        "batch_size": batch_size, "seed": seed, "classifiers": classifiers, "data": data, "frechet_data": frechet_data,
        "spectrum_data": spectrum_data, "tokens": tokens,
    }  # fmt: skip
    job = suites.from_flags(suite, flags, out, {"wandb": wandb})
    folder = job.out
    if launch.rank() == 0:
        for text in suites.findings(job):
            print(text, flush=True)
    if dry_run:
        print(report.plan(job, runner.timing(job)))
        if job.plan.data is not None:
            print(f"\n{report.passes(runner.passes(job))}")
        return 0
    code = runner.run(job, devices, wandb)
    if launch.rank() == 0 and (folder / "records").is_dir():
        report.everything(folder)
    return code


def generate(*args: str) -> int:
    """One cell: a generator, units and a folder in, one PNG a unit out (LightningCLI; `featvis generate --help`)."""
    from benchmark.generate import main as generate_main

    return generate_main(list(args))


def evaluate(
    folder: str,
    model: str = "efficientnet_lite0",
    classifiers: str = "efficientnet_lite1,efficientnet_lite2",
    frechet: str = "efficientnet_lite1",
    metrics: str | None = None,
    data: str | None = None,
    frechet_data: str | None = None,
    out: str = "runs/evaluate",
    wandb: WandbMode = "disabled",
) -> int:
    """Score anyone's folder of images beside real images and noise of the same classes. Reads images only.

    Args:
        folder: images whose names, or whose folders', carry a class: its index (301.png) or synset (n02165456_1.png).
        model: the target network, whose features the plausibility is measured in.
        classifiers: networks of the transferability score, separated by commas.
        frechet: the network whose features stand in where Inception's weights are not to be had.
        metrics: groups, separated by commas: plausibility, frechet, transferability, logit, spectrum; default: all.
        data: real images to compare with (see `featvis run --help`); default: the embedded reference.
        frechet_data: those that sets of images are compared with; default: the data, its validation split.
        out: folder of the records.
        wandb: whether the table is logged.
    """
    from benchmark import suite as suites
    from benchmark import tables
    from benchmark.evaluate import evaluate_folder
    from featvis.models import check, load

    groups = split(metrics)
    for group in groups:
        if group not in suites.METRIC_GROUPS:
            raise UserError(f"unknown --metrics {group}: {nearest(group, suites.METRIC_GROUPS)}")
    check_out(Path(out), "evaluate")
    for flag, names in (("--model", [model]), ("--classifiers", split(classifiers)), ("--frechet", [frechet])):
        for name in names:
            check(name, flag)
    sets = suites.find_sets(data, frechet_data, None, load(model, "float32").synsets if data else [])
    flags = {"model": model, "classifiers": classifiers, "frechet": frechet, "metrics": metrics}
    found = evaluate_folder(
        Path(folder), model, out=out, suite="evaluate", frechet=frechet, data=data, frechet_data=frechet_data,
        wandb=wandb, metrics=groups, classifiers=split(classifiers), sets=suites.said_of(sets),
        cache=str(Path(out).parent / "reference"),
        command=command_line("evaluate", {"data": data, "frechet_data": frechet_data} | flags, Path(folder).name),
    )  # fmt: skip
    print(tables.text_block(found))
    return 0


def tables(records: str = "results/records", out: str = "results") -> int:
    """Rebuild the tables (Markdown, CSV, LaTeX) and figures of a folder of records, and the README's block.

    Args:
        records: folder of record files.
        out: where `tables/` and `figures/` go.
    """
    from benchmark import report

    if not Path(records).is_dir():
        raise UserError(
            f"--records {records} is not a folder; name one that holds records (`featvis run` makes <out>/records)"
        )
    check_out(Path(out))
    report.published(Path(records), Path(out))
    return 0


def verify(
    run: str,
    data: str | None = None,
    frechet_data: str | None = None,
    spectrum_data: str | None = None,
    files_only: bool = False,
) -> int:
    """Check a run: every image against its facts, every record against its images, every number by scoring them anew.

    Args:
        run: folder of a run, or one that somebody sent: records and images.
        data: the real images that it was scored with, where it was; they are compared with the record's fingerprint.
        frechet_data: as given to the run.
        spectrum_data: as given to the run.
        files_only: check the files alone, without any network.
    """
    from benchmark import launch
    from benchmark import verify as verifier

    if not Path(run).is_dir():
        raise UserError(f"RUN {run} is not a folder; name the folder of a run (`featvis run` prints it)")
    launch.quiet()
    sets = {"data": data, "frechet_data": frechet_data, "spectrum_data": spectrum_data}
    report = verifier.verify(Path(run), sets, files_only)
    for text in report.unchecked:
        print(f"not checked: {text}")
    for text in report.problems:
        print(f"featvis: {text}", file=sys.stderr)
    print(f"{report.images} images and {report.numbers} numbers checked, {len(report.problems)} problems")
    return 1 if report.problems else 0


def rerun(
    record: str, data: str | None = None, frechet_data: str | None = None, spectrum_data: str | None = None
) -> int:
    """Print the command that makes a record anew, and in what its run would differ from the record.

    Args:
        record: the file.
        data: where its real images lie here.
        frechet_data: as given to the run.
        spectrum_data: as given to the run.
    """
    from benchmark import rerun as reruns

    sets = {"data": data, "frechet_data": frechet_data, "spectrum_data": spectrum_data}
    command, differences, notes = reruns.check(reruns.read(Path(record)), sets)
    print(command)
    for text in notes:
        print(f"note: {text}")
    for text in differences:
        print(f"featvis: {text}", file=sys.stderr)
    return 1 if differences else 0


def reference(
    data: str | None = None,
    models: str | None = None,
    spectrum: bool = False,
    devices: int = 1,
    role: Literal["bank", "frechet", "spectrum"] = "bank",
    flat: str | None = None,
    source: str | None = None,
    pack: str | None = None,
    out: str = "runs/reference",
    dry_run: bool = False,
) -> int:
    """Compute what runs compare with, once: the features of real images in networks, and their natural spectrum.

    A run does the same where it is missing. Killed, the command goes on from where it was.

    Args:
        data: the images: a folder, hfds/NAME:SPLIT or wds/FOLDER:SPLIT (see `featvis run --help`).
        models: networks, separated by commas, whose pooled features, predictions and logits are kept.
        spectrum: compute the mean magnitude spectrum too (decorrelated, canvas of 512).
        devices: GPUs, or processes where there is none. Under torchrun or srun the launcher says it.
        role: what the images are for, which chooses the split where the data has several and none is named.
        flat: classes (301,ladybug) whose flattened last block goes into the pack; a run needs none stored.
        source: what the images are, in words, for the pack.
        pack: folder for a copy small enough to be embedded into a package (a folder of some thousand images).
        out: the cache; the folder `reference` beside the runs.
        dry_run: print how many images there are, and the time and the space expected after timing some; write nothing.
    """
    from benchmark import launch, report
    from benchmark import reference as references
    from benchmark.suite import check_devices
    from featvis.imagesets import check_decodable, open_images
    from featvis.models import load
    from featvis.objectives import LOGITS
    from featvis.units import parse_units

    launch.quiet()
    if data is None:
        raise UserError("--data is missing; name a folder of images, one folder a class")
    check_out(Path(out))
    check_devices(devices)
    networks = [load(m, "float32", flag="--models") for m in split(models)]
    if not networks and not spectrum:
        raise UserError("there is nothing to do; give --models, --spectrum or both")
    if flat is not None and pack is None:
        raise UserError("--flat needs --pack: flattened features are kept in packs alone")
    if flat is not None and not networks:
        raise UserError("--flat needs --models: the classes are theirs")
    units = parse_units(flat, networks[0], "--flat") if flat else []
    if other := [u.id for u in units if u.layer != LOGITS]:
        raise UserError(f"--flat {flat}: {other[0]} is no class; name classes, for example 301,ladybug")
    found = open_images(data, networks[0].synsets if networks else references.imagenet_synsets(), role)
    check_decodable(found)
    if launch.rank() == 0:
        print(found.describe(), flush=True)
    if dry_run:
        print(report.passes(references.costs(found, networks, spectrum)))
        return 0
    tasks = [references.Task("bank", data, role, out, model) for model in split(models)]
    tasks += [references.Task("spectrum", data, role, out)] if spectrum else []
    references.make(tasks, devices)
    if launch.rank() == 0:
        print(f"in {references.folder_of(found, Path(out))}")
        if pack is not None:
            references.pack(Path(data), networks, [u.index for u in units], Path(out), Path(pack), source)
    return 0


def models() -> int:
    """List the networks that can be used here and now, and why the others cannot."""
    from featvis.weights import available

    for spec, weights, note in available():
        print(f"{'yes' if weights else 'no ':3}  {spec.alias:22} {spec.name:45} {note}")
    print("Any other timm classifier works by its full tag, where its weights are to be had.")
    return 0


def layers(model: str) -> int:
    """List the layers of a network that have units, with their shape for one image and what a channel is in each.

    A unit is written layer:index (blocks.2:7), several blocks.2:0-31 or blocks.2:3+7; [patches], [cls], [reg0] or
    [row,column] after it say where it is read.

    Args:
        model: network, by alias, full timm tag, file in the folder FEATVIS_WEIGHTS, or wrap:FILE for a network of your
            own (a YAML with class_path, mean, std, input_size and labels).
    """
    from featvis.models import load

    found = load(model, flag="MODEL").layers()
    width = max(map(len, found), default=0)
    for name, layer in found.items():
        print(f"{name:{width}}  {' x '.join(map(str, layer.shape)):18} {layer.channels:6} channels, {layer.what}")
    return 0


SWITCHES = ("--dry_run", "--spectrum", "--files_only", "--sign")
"""Flags that stand without a value."""

COMMANDS = {
    "run": run,
    "generate": generate,
    "evaluate": evaluate,
    "tables": tables,
    "verify": verify,
    "rerun": rerun,
    "reference": reference,
    "models": models,
    "layers": layers,
    "probe": probe,
    "invert": invert,
    "concepts": concepts,
    "attack": attack,
    "perf": perf,
    "perf-peers": perf_peers,
}


def main(args: Sequence[str] | None = None) -> int:
    """Run one command; its exit code. Errors of the user go to standard error, one sentence each."""
    given = list(sys.argv[1:] if args is None else args)
    try:
        with stoppable():
            return _command(given)
    except UserError as error:
        print(f"featvis: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader of our output (`| head`) has seen enough; Python would complain of it again at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if (text := full_disk(error)) is None:
            raise
        print(f"featvis: {text}", file=sys.stderr)
        return 1
    except (Stopped, KeyboardInterrupt) as error:
        if WORKER not in os.environ and os.environ.get("RANK", "0") == "0":
            print("featvis: stopped; what is finished stays, and the same command goes on from there", file=sys.stderr)
        return error.code if isinstance(error, Stopped) else 130


def _command(given: list[str]) -> int:
    if given[:1] == ["generate"]:
        return generate(*given[1:])
    # Flags are spelled with dashes; both spellings are read.
    given = [re.sub(r"^--[\w-]+", lambda m: "--" + m[0][2:].replace("-", "_"), a) for a in given]
    given = [
        f"{a}=true" if a in SWITCHES and b not in ("true", "false") else a
        for a, b in zip(given, [*given[1:], ""], strict=True)
    ]
    if given and not given[0].startswith("-") and given[0] not in COMMANDS:
        raise UserError(f"unknown command {given[0]}: {nearest(given[0], COMMANDS)}")
    commands: Any = COMMANDS
    result: Any = auto_cli(
        commands, args=given, as_positional=True, parser_class=OneSentenceParser, prog="featvis", allow_abbrev=False
    )
    return int(result or 0)


def entry_point() -> None:
    """The console script."""
    sys.exit(main())
