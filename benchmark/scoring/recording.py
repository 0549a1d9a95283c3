"""The only maker of records."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmark.records import record as records
from benchmark.records.record import Budget, Record
from benchmark.scoring.plan import Plan, Row
from featvis.networks.classifier import Classifier
from featvis.storage.versions import versions


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


def seconds_per_image(folder: Path) -> float | None:
    """Median over the batches of a folder of the seconds that an image took."""
    path = folder / "timings.jsonl"
    if not path.is_file():
        return None
    lines = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    return float(np.median([t["seconds"] / len(t["units"]) for t in lines])) if lines else None


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
