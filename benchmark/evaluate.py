"""Scoring: folders of images in, records out. Reads images only; anyone's folder will do."""

from __future__ import annotations

import functools
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from benchmark import launch, records
from benchmark import reference as references
from benchmark.records import Budget, FailedUnit, Record
from benchmark.scores import Picture, Plan, Row, Scorer
from benchmark.tracking import log_scores
from featvis import images
from featvis.callbacks import to_bytes, versions
from featvis.data import digest, list_images, open_rgb
from featvis.errors import UserError
from featvis.interrupt import check_starter
from featvis.models import Classifier, load
from featvis.parametrizations import Phase
from featvis.reference import natural_spectrum
from featvis.units import class_of, stream_seed


def definition(plan: Plan, row: Row) -> dict[str, Any]:
    """What the scores of a row depend on besides the images."""
    return {
        "classifiers": plan.classifiers,
        "frechet": plan.frechet,
        "data": plan.sets or None,
        "metrics": plan.metrics,
        "seed": plan.seed,
        "transparency": row.transparency,
        "unavailable": sorted(plan.unavailable),
    }


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


def noise_folder(plan: Plan) -> Path:
    """The images of the row `noise`: the natural magnitude spectrum with random phases, not optimised; made once."""
    size = (plan.canvas[0], plan.canvas[1])
    config = {"canvas": list(size), "seed": plan.seed, "phases": "U(-pi, pi)"}
    config_hash = records.config_hash(config)
    folder = Path(plan.out) / plan.model / "noise" / config_hash
    phase = Phase(size, natural_spectrum(size), phase_std=None)
    for unit, label in zip(plan.units, plan.labels, strict=True):
        path = folder / f"{unit}.png"
        if images.verify(path, config_hash) is None:
            continue
        stream = torch.Generator().manual_seed(stream_seed(plan.seed, unit))
        canvas = phase.decode(*phase.init([stream]))[0]
        facts = {"unit": unit, "label": label, "seed": plan.seed, "config_hash": config_hash, "steps": 0, "views": 0}
        images.write(path, to_bytes(canvas), np.full(size, 255, np.uint8), facts)
    return folder


def pictures_of(folder: Path, units: Sequence[str], transparent: bool = False) -> list[Picture]:
    """The finished images of a run's folder, in the order of the units: RGB only, or blended by their transparency."""
    found = []
    for unit in units:
        path = folder / f"{unit}.png"
        if path.is_file():
            found.append(Picture(images.over_grey(path) if transparent else open_rgb(path), class_of(unit)))
    return found


def flat_distances(
    plan: Plan, scorer: Scorer, trainer: dict[str, Any], given: Mapping[str, Sequence[Picture]] | None = None
) -> dict[str, Tensor]:
    """Squared distances of each row's images to the nearest real one of their class, in the flattened last block.

    Each real image passes the target network once, for all rows together; nothing is kept of it.

    Args:
        plan: whose rows.
        scorer: with its networks and real images.
        trainer: arguments of Lightning's Trainer.
        given: the pictures of rows whose folder is not one of a run.

    Returns:
        For each row, one number an image in the order of `pictures_of`; empty without data, classes or need.
    """
    source = plan.images("bank", scorer.target.synsets)
    if source is None or not scorer.wants("plausibility") or any(class_of(u) is None for u in plan.units):
        return {}
    openers: dict[int, list[Callable[[], tuple[Any, int]]]] = {}
    places: dict[str, list[tuple[int, int]]] = {}
    said = hashlib.sha256()

    def add(method: str, label: int, said_of_it: str, opener: Callable[[], tuple[Any, int]]) -> None:
        said.update(f"{method} {label} {said_of_it}\n".encode())
        here = openers.setdefault(label, [])
        places.setdefault(method, []).append((label, len(here)))
        here.append(opener)

    for row in plan.rows:
        real = row.method == "real" and row.folder is None
        pictures = scorer.real_images if real else (given or {}).get(row.method)
        for p in pictures or ():
            add(row.method, int(str(p.label)), str(p.digest), functools.partial(lambda p: (p.image, p.digest), p))
        if pictures is not None:
            continue
        made_here = row.method == "noise" and row.folder is None
        folder = noise_folder(plan) if made_here else Path(plan.out) / str(row.folder)
        show = images.over_grey if row.transparency else open_rgb
        for unit in plan.units:
            path = folder / f"{unit}.png"
            if path.is_file():
                opener = functools.partial(lambda show, path: (show(path), 0), show, path)
                add(row.method, int(str(class_of(unit))), f"{unit} {row.transparency} {digest(path)}", opener)
    squared = references.nearest(
        source, scorer.target, openers, said.hexdigest(), Path(plan.out) / plan.model / "nearest", trainer
    )
    return {m: torch.stack([squared[label][i] for label, i in at]) for m, at in places.items()}


def git_commit() -> str | None:
    """The commit of the checkout that this runs from, or None where it is no checkout."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=Path(__file__).parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout.strip() or None


def device_text(target: Classifier, config: dict[str, Any] | None) -> str:
    """The device that a row was made on, in words."""
    precision = (config or {}).get("precision", "float32")
    if target.device.type == "cuda":
        return f"{torch.cuda.get_device_name()} ({precision})"
    return f"{target.device.type} ({torch.get_num_threads()} threads, {precision})"


def to_record(plan: Plan, row: Row, target: Classifier, **facts: Any) -> Record:
    """A record with all that does not depend on whether the row could be scored."""
    arguments = (row.config or {}).get("init_args", {})
    budget = None
    if row.config is not None:
        steps, views = int(arguments.get("steps", 0)), int(arguments.get("views", 0))
        canvas = arguments.get("canvas", plan.canvas)
        size = (canvas, canvas) if isinstance(canvas, int) else (canvas[0], canvas[1])
        budget = Budget(steps, views, steps * views, size)
    base: dict[str, Any] = {
        "suite": plan.suite,
        "model": target.name,
        "alias": target.alias,
        "method": row.method,
        "preset": row.preset,
        "config": {"generator": row.config, "evaluation": definition(plan, row)},
        "config_hash": row.config_hash,
        "units": tuple(plan.units),
        "labels": tuple(plan.labels),
        "units_hash": records.units_hash(plan.units),
        "n": 0,
        "budget": budget,
        "failed_units": (),
        "images": None,
        "images_sha256": None,
        "command": plan.command,
        "metrics": (),
        "seconds_per_image": None,
        "git_commit": git_commit(),
        "versions": versions() | versions(("torchmetrics", "faiss-cpu", "torch-fidelity")),
        "device": device_text(target, row.config),
        "status": "done",
        "error": None,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return Record(**(base | facts))


def evaluate_row(plan: Plan, row: Row, scorer: Scorer, step: Callable[[], Any]) -> Record:
    """The record of a row."""
    if row.method == "real" and row.folder is None:
        found, n = scorer.real(step)
        return to_record(plan, row, scorer.target, metrics=tuple(found), n=n)
    out = Path(plan.out)
    folder = noise_folder(plan) if row.method == "noise" and row.folder is None else out / str(row.folder)
    pictures = pictures_of(folder, plan.units, row.transparency)
    failures = tuple(
        FailedUnit(unit=f["unit"], step=f["step"], reason=f["reason"])
        for f in (json.loads(p.read_text()) for p in sorted(folder.glob("*.failed.json")))
        if f["unit"] in plan.units
    )
    if not pictures:
        raise UserError(plan.failed.get(row.method, f"there is no finished image in {folder}"))
    found = scorer.score(pictures, step, row.method)
    error = plan.failed.get(row.method)
    return to_record(
        plan,
        row,
        scorer.target,
        metrics=tuple(found),
        n=len(pictures),
        failed_units=failures,
        images=folder.relative_to(out).as_posix(),
        images_sha256=images.pixels_hash([p for u in plan.units if (p := folder / f"{u}.png").is_file()]),
        seconds_per_image=seconds_per_image(folder),
        status="failed" if error else "done",
        error=error,
    )


def seconds_per_image(folder: Path) -> float | None:
    """Median over the batches of a folder of the seconds that an image took."""
    path = folder / "timings.jsonl"
    if not path.is_file():
        return None
    lines = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    return float(np.median([t["seconds"] / len(t["units"]) for t in lines])) if lines else None


def evaluate(plan: Plan) -> int:
    """Score what lacks a record; 1 when some row failed."""
    todo = [row for row in plan.rows if not scored(plan, row)]
    if not todo:
        return 0
    scorer, failed = Scorer(plan), False
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
                record = to_record(plan, row, scorer.target, status="failed", error=text)
            failed = failed or record.status == "failed"
            record.write(record_path(plan, row))
    log_scores(plan)
    return 1 if failed else 0


def folder_plan(folder: Path, model: str, **options: Any) -> tuple[Plan, list[Picture]]:
    """The plan and the pictures of anyone's folder: images whose names carry a class.

    Raises:
        UserError: when the folder is missing, empty, or no name carries a class.
    """
    target = load(model, "float32")
    files = list_images(folder, target.synsets or [str(i) for i in range(target.num_classes)], flag="FOLDER")
    named = [f for f in files if f.label is not None]
    if not named:
        raise UserError(
            f"FOLDER {folder} holds no image with a class in its name; "
            "name them by index (301.png) or synset (n02165456_1.png)"
        )
    pictures, skipped = [], []
    for file in named:
        try:
            pictures.append(Picture(open_rgb(file.path), file.label, digest(file.path)))
        except OSError as error:
            skipped.append(file.path)
            print(f"featvis: {file.path} cannot be decoded and is skipped ({error})", file=sys.stderr)
    unnamed = len(files) - len(named)
    if skipped or unnamed:
        print(
            f"featvis: {len(skipped)} images skipped as broken, {unnamed} without a class in their names",
            file=sys.stderr,
        )
    if not pictures:
        raise UserError(f"none of the {len(named)} images in {folder} can be decoded")
    classes = list(dict.fromkeys(p.label for p in pictures if p.label is not None))
    sizes = {p.image.size for p in pictures}
    canvas = [*next(iter(sizes))][::-1] if len(sizes) == 1 else [256, 256]
    method = re.sub(r"[^A-Za-z0-9_.+-]", "_", folder.resolve().name).strip("_.-") or "folder"
    if method in records.REFERENCES:
        method = f"{method}_images"
    plan = Plan(
        model=target.alias,
        seed=0,
        units=[str(c) for c in classes],
        labels=[target.labels[c] for c in classes],
        canvas=canvas,
        rows=[Row("real"), Row(method, str(folder)), Row("noise")],
        **options,
    )
    return plan, pictures


def evaluate_folder(folder: Path, model: str, **options: Any) -> list[Record]:
    """Score anyone's folder beside `real` and `noise` of the same classes; the records, also written."""
    plan, pictures = folder_plan(folder, model, **options)
    scorer, found = Scorer(plan), []
    given = {row.method: pictures for row in plan.rows if row.folder is not None}
    scorer.flat = flat_distances(plan, scorer, {"devices": 1}, given)
    with tqdm(total=2 * (len(scorer.networks) + 1), desc="scores", unit="step") as bar:
        for row in plan.rows:
            if row.folder is None:
                record = evaluate_row(plan, row, scorer, lambda: bar.update(1))
            else:
                measured = scorer.score(pictures, lambda: bar.update(1), row.method)
                record = to_record(plan, row, scorer.target, metrics=tuple(measured), n=len(pictures))
            record.write(record_path(plan, row))
            found.append(record)
    log_scores(plan)
    return found


def read_plan(path: Path) -> Plan:
    """A plan from the file that the run wrote."""
    data = json.loads(path.read_text())
    data["rows"] = [Row(**row) for row in data["rows"]]
    return Plan(**data)


def main(arguments: Sequence[str]) -> int:
    """Score a plan, `plan.json`; or, `plan.json 4`, only measure how near its images are, on 4 devices."""
    plan = read_plan(Path(arguments[0]))
    if len(arguments) > 1:
        flat_distances(plan, Scorer(plan), launch.trainer(int(arguments[1])))
        return 0
    return evaluate(plan)


if __name__ == "__main__":
    launch.end(lambda: main(sys.argv[1:]))
