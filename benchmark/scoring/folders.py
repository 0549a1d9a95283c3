"""Anyone's folder of pictures, of classes or of units: their names or a table say which; a plan and records out."""

from __future__ import annotations

import csv
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmark.records import record as records
from benchmark.records.columns import scores_units
from benchmark.records.record import Record
from benchmark.records.schema import as_file_name
from benchmark.scoring import extractors
from benchmark.scoring.classes import settle
from benchmark.scoring.evaluate import evaluate_row, record_path
from benchmark.scoring.others import table_rows
from benchmark.scoring.pictures import flat_distances
from benchmark.scoring.plan import Picture, Plan, Row, Sources
from benchmark.scoring.recording import of_row, weights_of
from benchmark.scoring.scorer import Scorer
from featvis.data.files import digest, find_images, open_rgb
from featvis.data.sets import FolderImages
from featvis.errors import UserError
from featvis.networks.classifier import Classifier
from featvis.networks.loading import load
from featvis.networks.objectives import LOGITS
from featvis.networks.units import Unit, class_of, classes_of, parse_units, unit_of
from featvis.storage import images
from featvis.storage.locks import held

TABLE = "units.csv"
"""The file of a folder that says which unit each of its pictures is of: a file's name and a unit a line."""


def folder_plan(folder: Path, target: Classifier, sources: Sources, **options: Any) -> tuple[Plan, list[Picture]]:
    """The plan and the pictures of anyone's folder.

    Pictures are of units where their names say so (`blocks.4_7.png`, `blocks.4-7@1.png`) or a `units.csv` does; else of
    classes, by their names or a label file.

    Args:
        folder: of the images.
        target: the network.
        sources: the real images, listed.
        options: further fields of the `Plan`.

    Raises:
        UserError: when the folder is missing, empty, or no image has a unit or a class; or when a picture was made
            from a real image that it would be scored against.
    """
    named = _units_of(folder, target)
    pictures, units = _of_units(named) if named else _of_classes(folder, target)
    if not pictures:
        raise UserError(f"none of the images in {folder} can be decoded")
    _check_overlap(folder, units, sources)
    sizes = {p.image.size for p in pictures}
    canvas = [*next(iter(sizes))][::-1] if len(sizes) == 1 else [256, 256]
    method = as_file_name(folder.resolve().name, "folder")
    if method in records.REFERENCES:
        method = f"{method}_images"
    ids = [unit.id for unit in units]
    plan = Plan(
        model=target.alias,
        given=target.given,
        channels=target.channels,
        seed=0,
        units=ids,
        labels=[unit.label for unit in units],
        texts=[unit.text for unit in units],
        canvas=canvas,
        rows=table_rows([Row(method, "folder", str(folder))], ids, sources.bank, scores_units(options.get("metrics"))),
        **options,
    )
    return plan, pictures


def _check_overlap(folder: Path, units: Sequence[Unit], sources: Sources) -> None:
    """Raise a UserError where the pictures' own files say that they were made from images to be scored against."""
    seen = set().union(*(_seen(path) for path in find_images(folder, "FOLDER").paths))
    if both := sources.overlap(seen, classes_of(unit.id for unit in units)):
        raise UserError(
            f"FOLDER {folder}: what made its pictures saw {len(both)} of the images that they would be scored against "
            f"({both[0]} is one); name another --data"
        )


def _seen(path: Path) -> set[int]:
    """The digests of the images that a picture's own file says it was made from."""
    said = images.facts(path).get("seen", [])
    try:
        if isinstance(said, list):
            return {int(digest, 16) for digest in said}
    except (TypeError, ValueError):
        pass
    raise UserError(
        f"FOLDER {path} does not say in digests which images it was made from (its fact 'seen'), so nobody can tell "
        "whether it is scored against them; make it again, or leave it out"
    )


def _of_classes(folder: Path, target: Classifier) -> tuple[list[Picture], list[Unit]]:
    """The pictures of a folder that have a class, and their units: a class each, numbered where it has several."""
    source = FolderImages(folder, target, flag="FOLDER", below=True)
    named = {f.path: Unit(LOGITS, f.label, target.labels[f.label]) for f in source.files if f.label is not None}
    pictures, units = _of_units(named)
    if len(pictures) < len(source.files) or source.left:
        left = f"; left out: {source.left}" if source.left else ""
        broken = len(source.files) - len(pictures)
        print(f"featvis: {broken} images skipped as broken, {source.unlabelled} without a class{left}", file=sys.stderr)
    return pictures, units


def _of_units(named: dict[Path, Unit]) -> tuple[list[Picture], list[Unit]]:
    """The pictures that can be decoded, and their units; several of one unit are its seeds."""
    times: Counter[str] = Counter()
    units = {}
    for path, unit in named.items():
        same = replace(unit, repeat=0).id
        units[path] = replace(unit, repeat=times[same])
        times[same] += 1
    pictures = _opened([(path, class_of(unit.id), unit.id) for path, unit in units.items()])
    there = {p.unit for p in pictures}
    return pictures, [unit for unit in units.values() if unit.id in there]


def _opened(files: Sequence[tuple[Path, int | None, str | None]]) -> list[Picture]:
    pictures = []
    for path, label, unit in files:
        try:
            pictures.append(Picture(open_rgb(path), label, digest(path), unit=unit))
        except OSError as error:
            print(f"featvis: {path} cannot be decoded and is skipped ({error})", file=sys.stderr)
    return pictures


def _units_of(folder: Path, target: Classifier) -> dict[Path, Unit]:
    """The images of a folder that are of units of a layer, by their names or the folder's table; empty for none."""
    paths = find_images(folder, "FOLDER").paths
    if (folder / TABLE).is_file():
        return _by_table(folder, paths, target)
    found, wrong = {}, []
    for path in paths:
        try:
            unit = unit_of(path.stem, target)
        except UserError as error:
            wrong.append(f"{path.name}: {error}")
            continue
        if unit is not None:
            found[path] = unit
    # An index alone may be the number of a picture of a class that its folder names.
    if all(unit.layer == LOGITS for unit in found.values()):
        return {}
    for text in wrong:
        print(f"featvis: {text}; it is left out", file=sys.stderr)
    if left := len(paths) - len(found) - len(wrong):
        print(f"featvis: {left} images without a unit in their name are left out", file=sys.stderr)
    return found


def _by_table(folder: Path, paths: Sequence[Path], target: Classifier) -> dict[Path, Unit]:
    known = {path.relative_to(folder).as_posix(): path for path in paths}
    found, strange = {}, list[str]()
    try:
        with (folder / TABLE).open(newline="", encoding="utf-8-sig") as file:
            lines = [[cell.strip() for cell in line] for line in csv.reader(file) if line]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"FOLDER: {folder / TABLE} cannot be read ({error})") from error
    for i, line in enumerate(lines):
        path = known.get(line[0])
        if path is None and (i or Path(line[0]).suffix):  # else a heading
            strange.append(line[0])
        if path is None or len(line) < 2:
            continue
        found[path] = parse_units(",".join(line[1:]), target, f"FOLDER: {TABLE}, {line[0]}:")[0]
    if not found:
        raise UserError(
            f"FOLDER: {folder / TABLE} names none of the {len(paths)} images; a line is a file's name and a unit"
        )
    if strange:
        print(
            f"featvis: {len(strange)} lines of {TABLE} name no image of {folder} ({strange[0]} is one) and are left "
            "out; a name is as in sub/7.png",
            file=sys.stderr,
        )
    if left := [name for name, path in known.items() if path not in found]:
        print(f"featvis: {len(left)} images without a unit in {TABLE} are left out ({left[0]} is one)", file=sys.stderr)
    return found


def evaluate_folder(folder: Path, target: Classifier, sources: Sources, **options: Any) -> tuple[Plan, list[Record]]:
    """Score anyone's folder beside `real`, `noise` and others of its units; the plan and the records, also written.

    Args:
        folder: of the images.
        target: the network, loaded.
        sources: the real images, listed.
        options: further fields of the `Plan`.

    Raises:
        UserError: see `folder_plan`; or when another process holds the plan's folder, or it cannot be written.
    """
    plan, pictures = folder_plan(folder, target, sources, **options)
    with held(Path(plan.out)):
        return plan, _scores(plan, pictures, target, sources)


def _scores(plan: Plan, pictures: list[Picture], target: Classifier, sources: Sources) -> list[Record]:
    networks = {plan.model: target, target.given: target}
    for name in plan.networks():
        networks[name] = networks.get(name) or load(name, "float32")
    settle(plan, networks)
    hashes, missing = extractors.find(plan.metrics)
    plan.extractors, plan.unavailable = list(hashes), plan.unavailable | missing
    plan.weights = weights_of(plan, networks, hashes)
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
    return found
