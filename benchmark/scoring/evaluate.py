"""Scoring: folders of images in, records out. Reads images only; anyone's folder will do."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

import featvis
from benchmark import launch
from benchmark.records import record as records
from benchmark.records.record import Record
from benchmark.scoring.classes import settle
from benchmark.scoring.others import table_rows
from benchmark.scoring.pictures import flat_distances, folder_of, pictures_of
from benchmark.scoring.plan import Picture, Plan, Row, Sources
from benchmark.scoring.recording import definition, failures, of_row
from benchmark.scoring.scorer import Scorer
from featvis.data.files import digest, open_rgb
from featvis.data.sets import FolderImages
from featvis.errors import UserError
from featvis.networks.classifier import Classifier
from featvis.networks.loading import load
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
    )


def evaluate_row(plan: Plan, row: Row, scorer: Scorer, step: Callable[[], Any]) -> Record:
    """The record of a row."""
    if row.kind in ("real", "real_other"):
        found, n = scorer.real(step, row.kind)
        return of_row(plan, row, scorer.target, metrics=found, n=n)
    folder = folder_of(plan, row)
    pictures = pictures_of(folder, plan.units, row.transparency)
    if not pictures:
        raise UserError(plan.failed.get(row.method, f"there is no finished image in {folder}"))
    return of_row(
        plan,
        row,
        scorer.target,
        metrics=scorer.score(pictures, step, row.method),
        failed=list(failures(folder, plan.units).values()),
        folder=folder,
        out=Path(plan.out),
        error=plan.failed.get(row.method),
    )


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
                text = " ".join(str(error).split()) or type(error).__name__
                print(f"featvis: {row.method} cannot be scored: {text}", file=sys.stderr)
                record = of_row(plan, row, scorer.target, error=text)
            failed = failed or record.status == "failed"
            record.write(record_path(plan, row))
    return 1 if failed else 0


def folder_plan(folder: Path, target: Classifier, sources: Sources, **options: Any) -> tuple[Plan, list[Picture]]:
    """The plan and the pictures of anyone's folder: images that have a class, by their names or a label file.

    Args:
        folder: of the images.
        target: the network.
        sources: the real images, listed.
        options: further fields of the `Plan`.

    Raises:
        UserError: when the folder is missing, empty, or no image has a class.
    """
    source = FolderImages(folder, target, flag="FOLDER", below=True)
    pictures, skipped = [], []
    for file in source.files:
        try:
            pictures.append(Picture(open_rgb(file.path), file.label, digest(file.path)))
        except OSError as error:
            skipped.append(file.path)
            print(f"featvis: {file.path} cannot be decoded and is skipped ({error})", file=sys.stderr)
    if skipped or source.left:
        left = f"; left out: {source.left}" if source.left else ""
        print(
            f"featvis: {len(skipped)} images skipped as broken, {source.unlabelled} without a class{left}",
            file=sys.stderr,
        )
    if not pictures:
        raise UserError(f"none of the {len(source)} images in {folder} can be decoded")
    classes = list(dict.fromkeys(p.label for p in pictures if p.label is not None))
    sizes = {p.image.size for p in pictures}
    canvas = [*next(iter(sizes))][::-1] if len(sizes) == 1 else [256, 256]
    method = re.sub(r"[^A-Za-z0-9_.+-]", "_", folder.resolve().name).strip("_.-") or "folder"
    if method in records.REFERENCES:
        method = f"{method}_images"
    units = [str(c) for c in classes]
    plan = Plan(
        model=target.alias,
        given=target.given,
        channels=target.channels,
        seed=0,
        units=units,
        labels=[target.labels[c] for c in classes],
        canvas=canvas,
        rows=table_rows([Row(method, "folder", str(folder))], units, sources.bank),
        **options,
    )
    return plan, pictures


def evaluate_folder(folder: Path, target: Classifier, sources: Sources, **options: Any) -> tuple[Plan, list[Record]]:
    """Score anyone's folder beside photographs and noise of the same classes; the plan and the records, also written.

    Args:
        folder: of the images.
        target: the network, loaded.
        sources: the real images, listed.
        options: further fields of the `Plan`.
    """
    plan, pictures = folder_plan(folder, target, sources, **options)
    networks = {plan.model: target, target.given: target}
    for name in dict.fromkeys((*plan.classifiers, plan.frechet, *plan.observers)):
        networks[name] = networks.get(name) or load(name, "float32")
    settle(plan, networks)
    scorer, found = Scorer(plan, sources, networks), []
    given = {row.method: pictures for row in plan.rows if row.kind == "folder"}
    scorer.flat = flat_distances(plan, scorer, {"devices": 1}, given)
    with tqdm(total=len(plan.rows) * (len(scorer.networks) + 1), desc="scores", unit="step") as bar:
        for row in plan.rows:
            if row.kind == "folder":
                measured = scorer.score(pictures, lambda: bar.update(1), row.method)
                record = of_row(plan, row, scorer.target, metrics=measured, n=len(pictures))
            else:
                record = evaluate_row(plan, row, scorer, lambda: bar.update(1))
            record.write(record_path(plan, row))
            found.append(record)
    return plan, found


def read_plan(path: Path) -> Plan:
    """A plan from the file that the run wrote.

    Raises:
        UserError: for a plan of another version of featvis.
    """
    try:
        data = json.loads(path.read_text())
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
