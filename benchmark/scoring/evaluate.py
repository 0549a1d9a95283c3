"""Scoring: folders of images in, records out. Reads images only; anyone's folder will do."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

import featvis
from benchmark import launch
from benchmark.records.record import Record
from benchmark.scoring.pictures import flat_distances, folder_of, pictures_of
from benchmark.scoring.plan import Plan, Row, Sources
from benchmark.scoring.recording import definition, failures, of_row
from benchmark.scoring.scorer import Scorer
from featvis.errors import UserError
from featvis.networks.classifier import Classifier
from featvis.storage import images
from featvis.storage.interrupt import check_starter


def record_path(plan: Plan, row: Row) -> Path:
    """Where a row's record lies; by alias, as the file names of the run do."""
    return Path(plan.out) / "records" / plan.model / f"{row.method}.json"


def scored(plan: Plan, row: Row) -> bool:
    """Whether a row's finished record is there, of the same images and the same definitions."""
    try:
        record = Record.read(record_path(plan, row))
    except UserError:
        return False
    return (
        record.status == "done"
        and list(record.units) == plan.units
        and record.config_hash == row.config_hash
        and record.config.get("evaluation") == definition(plan, row)
        and (row.config is None or record.config.get("generator") == row.config)
        and _same_images(plan, row, record)
    )


def _same_images(plan: Plan, row: Row, record: Record) -> bool:
    """Whether a row's images are those of its record; they are read only where one is younger than the record."""
    if record.images is None:
        return True
    folder = Path(plan.out) / record.images
    made = [path for unit in plan.units if (path := folder / f"{unit}.png").is_file()]
    if len(made) != record.n:
        return False
    written = record_path(plan, row).stat().st_mtime_ns
    if all(path.stat().st_mtime_ns <= written for path in made):
        return True
    # Made anew after they were cleaned away: on another processor, which rounds otherwise, they are others.
    try:
        return images.pixels_hash(made) == record.images_sha256
    except images.BadImage:
        return False


def evaluate_row(plan: Plan, row: Row, scorer: Scorer, step: Callable[[], Any]) -> Record:
    """The record of a row."""
    if row.kind in ("real", "real_other"):
        found, n = scorer.real(step, row.kind)
        return of_row(plan, row, scorer.target, metrics=found, n=n)
    if (photographs := scorer.photographs(row.kind)) is not None:
        # None, where no real image excites any of the units.
        found = scorer.score(photographs, step, row.method) if photographs else []
        return of_row(plan, row, scorer.target, metrics=found, n=len(photographs))
    folder = folder_of(plan, row)
    pictures = pictures_of(folder, plan.units, row.transparency)
    if not pictures:
        raise UserError(plan.failed.get(row.method, f"there is no finished image in {folder}"))
    failed = failures(folder, plan.units)
    return of_row(
        plan,
        row,
        scorer.target,
        metrics=scorer.score(pictures, step, row.method),
        failed=list(failed.values()),
        folder=folder,
        out=Path(plan.out),
        error=plan.failed.get(row.method, lacking(folder, [u for u in plan.units if u not in failed])),
    )


def lacking(folder: Path, units: Sequence[str]) -> str | None:
    """Why a row is not done whose generation did not fail: images that nobody gave up are not there; None: all are."""
    missing = [u for u in units if not (folder / f"{u}.png").is_file()]
    if not missing:
        return None
    named = ", ".join(missing[:3]) + ", …" * (len(missing) > 3)
    return f"{len(missing)} of {len(units)} images are missing ({named}); the same command makes them"


def evaluate(plan: Plan, sources: Sources | None = None, networks: Mapping[str, Classifier] | None = None) -> int:
    """Score what lacks a record; 1 when some row failed.

    Args:
        plan: what is to be scored.
        sources: its real images, where they are listed already.
        networks: by the plan's names, where they are loaded already.
    """
    todo = [row for row in plan.rows if not scored(plan, row)]
    if not todo:
        return 0
    scorer, failed = Scorer(plan, sources, networks), False
    scorer.flat = flat_distances(plan, scorer, {"devices": 1})
    with tqdm(total=len(todo) * (len(scorer.networks) + 1), desc="scores", unit="step") as bar:

        def step() -> None:
            check_starter()
            bar.update(1)

        for row in todo:
            bar.set_postfix_str(row.method)
            try:
                record = evaluate_row(plan, row, scorer, step)
            except Exception as error:  # one row must not take the others with it; its record says what happened
                if not isinstance(error, UserError | OSError):
                    traceback.print_exc()  # a mistake of ours, which a sentence would hide
                text = " ".join(str(error).split()) or type(error).__name__
                print(f"featvis: {row.method} cannot be scored: {text}", file=sys.stderr)
                record = of_row(plan, row, scorer.target, error=text)
            failed = failed or record.status == "failed"
            record.write(record_path(plan, row))
    return 1 if failed else 0


def read_plan(path: Path) -> Plan:
    """A plan from the file that the run wrote.

    Raises:
        UserError: for a plan of another version of featvis.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data.get("version") == featvis.__version__:
            return Plan(**data | {"rows": [Row(**row) for row in data["rows"]]})
        version = data.get("version", "before 0.2")
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is no plan of a run ({error}); start the run again, which writes a new one") from error
    raise UserError(
        f"{path} is a plan of featvis {version}, and this is {featvis.__version__}; start the run again, which writes "
        "a new one"
    )


def main(arguments: Sequence[str]) -> int:
    """Score a plan, `plan.json`; or, `plan.json 4`, only measure how near its images are, on 4 devices."""
    plan = read_plan(Path(arguments[0]))
    if len(arguments) > 1:
        flat_distances(plan, Scorer(plan), launch.trainer(int(arguments[1])))
        return 0
    return evaluate(plan)


if __name__ == "__main__":
    launch.end(lambda: main(sys.argv[1:]))
