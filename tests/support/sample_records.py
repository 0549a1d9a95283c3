"""Made-up records for the tests of everything that reads records: their numbers are chosen to be checked by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from benchmark.records.record import Budget, Measurement, Record, units_hash

TOP1 = "top1_vgg16.tv_in1k"


def metric(name: str, value: float | None, half: float | None = None, **changes: Any) -> Measurement:
    group = {"plausibility_flat": "plausibility", TOP1: "transferability"}.get(name, name)
    facts: dict[str, Any] = {
        "name": name,
        "label": {"plausibility_flat": "Plausibility, flat", TOP1: "Top-1, vgg16_tv"}.get(name, name),
        "group": group,
        "value": value,
        "interval": None if value is None or half is None else (value - half, value + half),
        "n": 4,
        "higher_is_better": group in ("transferability", "logit"),
        "definition": {"text": f"What {name} means."},
        "absent": "no weights" if value is None else None,
    }
    return Measurement(**(facts | changes))


def record(method: str, *metrics: Measurement, **changes: Any) -> Record:
    units = changes.pop("units", ("301", "323"))
    optimised = method not in ("real", "noise")
    facts: dict[str, Any] = {
        "suite": "quick",
        "model": "flexivit_base.1200ep_in1k",
        "alias": "flexivit",
        "method": method,
        "preset": method if optimised else None,
        "config": {"steps": 96},
        "config_hash": "0123456789ab" if optimised else None,
        "units": units,
        "labels": tuple({"301": "ladybug", "323": "monarch"}.get(unit, f"unit {unit}") for unit in units),
        "units_hash": units_hash(units),
        "n": 4,
        "budget": Budget(96, 4, 384, (24, 32)) if optimised else None,
        "failed_units": (),
        "images": None if method == "real" else f"flexivit/{method}/0123456789ab",
        "metrics": metrics,
        "seconds_per_image": 10.1 if optimised else None,
        "git_commit": "a1b2c3d",
        "versions": {"torch": "2.14.1"},
        "device": "cpu (2 threads, bfloat16)",
        "status": "done",
        "error": None,
        "created": "2026-11-21T03:00:00+00:00",
    }
    return Record(**(facts | changes))


def write_images(record: Record, out: Path, facts: dict[str, Any] | None = None) -> None:
    """A flat picture a unit, 24 high, 32 wide: RGB (200, 40, 90), half transparent left, wholly transparent right."""
    for unit in record.units:
        rgba = np.empty((24, 32, 4), dtype=np.uint8)
        rgba[...] = (200, 40, 90, 128)
        rgba[:, 16:, 3] = 0
        chunk = PngImagePlugin.PngInfo()
        if facts is not None:
            chunk.add_text("featvis", json.dumps(facts))
        path = out / str(record.images) / f"{unit}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rgba, "RGBA").save(path, pnginfo=chunk)
