"""The commands over records and runs that there are: `featvis tables`, `agree`, `path`, `verify` and `rerun`."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmark.arguments import check_out, split
from benchmark.checks import check_images, check_networks
from featvis.errors import UserError


def tables(records: str = "results/records", out: str = "results") -> int:
    """Rebuild the tables (Markdown, CSV, LaTeX) and figures of a folder of records, and the README's block.

    Args:
        records: folder of record files.
        out: where `tables/` and `figures/` go.
    """
    if not Path(records).is_dir():
        raise UserError(
            f"--records {records} is not a folder; name one that holds records (`featvis run` makes <out>/records)"
        )
    check_out(Path(out))

    from benchmark.report import report

    report.published(Path(records), Path(out))
    return 0


def agree(records: str = "results/records", suite: str | None = None, out: str = "runs/agree") -> int:
    """Say which columns of a table to believe (they bracket: real images best, noise worst), and whether they agree.

    Args:
        records: folder of record files, or the folder of a run. A table of at least three methods can be judged: which
            columns have every method between real images and noise, and which are monotone in the logit, so that they
            say nothing of their own about the order of the methods.
        suite: look at this one alone; default: all that there are.
        out: where `tables/` and `figures/` go: the verdicts, the mean rank of the methods over the columns that
            bracket (never over all) with its interval, and the rank correlations between columns, over the methods,
            over the units within a method (where records keep the scores of units) and over suites.
    """
    folder = Path(records)
    if not folder.is_dir():
        raise UserError(
            f"--records {records} is not a folder; name one that holds records, or the folder of a run "
            "(`featvis run` prints it)"
        )
    check_out(Path(out))

    from benchmark.report import report

    report.agreement_of(folder / "records" if (folder / "records").is_dir() else folder, suite, Path(out))
    return 0


def path(
    run: str,
    data: str | None = None,
    layers: str | None = None,
    each: int = 20,
    model: str | None = None,
    out: str | None = None,
) -> int:
    """Where in the network a run's pictures are taken as photographs of their class are: a curve over its layers.

    Args:
        run: folder of a run whose units are classes.
        data: photographs, several of a class, as `featvis run --data` takes them; 0 on the curve is as near to the own
            class as to others, 1 as much nearer as photographs are to each other (Geirhos et al. 2023).
        layers: names, separated by commas (`featvis layers MODEL`); default: up to twelve blocks from early to late,
            and the logits.
        each: at most so many photographs of a class.
        model: where the file of a network of your own lies, wrap:FILE; default: where the run had it.
        out: where `tables/` and `figures/` go; default: the run's folder, whose page then shows the figure.
    """
    if not (Path(run) / "records").is_dir():
        raise UserError(f"RUN {run} is not the folder of a run; `featvis run` prints it")
    if data is None:
        raise UserError("--data is missing; name a folder of photographs (one folder a class), or imagenette")
    if each < 2:
        raise UserError(f"--each must be at least 2, not {each}: photographs are compared with each other")
    check_images(data, "--data")
    if model is not None:
        check_networks([model], "--model")
    check_out(Path(out or run))

    from benchmark import launch
    from benchmark.studies import path as paths

    launch.quiet()
    paths.run(Path(run), data, split(layers), each, Path(out or run), model)
    return 0


def verify(
    run: str,
    data: str | None = None,
    frechet_data: str | None = None,
    spectrum_data: str | None = None,
    model: str | None = None,
    files_only: bool = False,
) -> int:
    """Check a run: every image against its facts, every record against its images, every number by scoring them anew.

    Args:
        run: folder of a run, or one that somebody sent: records and images.
        data: the real images that it was scored with, where it was; they are compared with the record's fingerprint.
        frechet_data: as given to the run.
        spectrum_data: as given to the run.
        model: where the file of a network of your own lies, wrap:FILE; default: where the run had it.
        files_only: check the files alone, without any network.
    """
    if not Path(run).is_dir():
        raise UserError(f"RUN {run} is not a folder; name the folder of a run (`featvis run` prints it)")
    for flag, spec in (("--data", data), ("--frechet-data", frechet_data), ("--spectrum-data", spectrum_data)):
        check_images(spec, flag)
    if model is not None:
        check_networks([model], "--model")

    from benchmark import launch
    from benchmark.audit import verify as verifier

    launch.quiet()
    sets = {"data": data, "frechet_data": frechet_data, "spectrum_data": spectrum_data}
    report = verifier.verify(Path(run), sets, files_only, model)
    for text in report.unchecked:
        print(f"not checked: {text}")
    for text in report.problems:
        print(f"featvis: {text}", file=sys.stderr)
    print(f"{report.images} images and {report.numbers} numbers checked, {len(report.problems)} problems")
    if report.idle:
        text = "no number of the run was checked, for the reasons above; --files-only checks the files alone"
        print(f"featvis: {text}", file=sys.stderr)
    return 1 if report.problems or report.idle else 0


def rerun(
    record: str,
    data: str | None = None,
    frechet_data: str | None = None,
    spectrum_data: str | None = None,
    seen_data: str | None = None,
) -> int:
    """Print the command that makes a record anew, and in what its run would differ from the record.

    Args:
        record: the file.
        data: where its real images lie here.
        frechet_data: as given to the run.
        spectrum_data: as given to the run.
        seen_data: as given to the run.
    """
    if not Path(record).is_file():
        raise UserError(f"RECORD {record} is not a file; name one of results/records, or of a run's folder records")
    sets = {"data": data, "frechet_data": frechet_data, "spectrum_data": spectrum_data, "seen_data": seen_data}
    for key, spec in sets.items():
        check_images(spec, f"--{key.replace('_', '-')}")

    from benchmark.audit import rerun as reruns

    command, differences, notes = reruns.check(reruns.read(Path(record)), sets)
    print(command)
    for text in notes:
        print(f"note: {text}")
    for text in differences:
        print(f"featvis: {text}", file=sys.stderr)
    return 1 if differences else 0
