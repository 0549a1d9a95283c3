"""A study without a network: coloured squares as photographs, trials of two networks, the page beside them."""

from __future__ import annotations

import functools
import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.study.answers import Participation
from benchmark.study.config import Study, checked
from benchmark.study.taking.publish import publish
from benchmark.study.trials import Trial, Trials, write

STUDY = {
    "models": ["near", "far"],
    "units": "0-3",
    "conditions": {"maco": {"folder": "."}, "olah": {"folder": "."}, "none": {}},
    "data": "photographs",
    "practice": 2,
    "code": "C0DE",
    "contact": "lab@example.org",
}


def picture(folder: Path, name: str, rng: np.random.Generator) -> str:
    """A picture of four coloured fields, so that people (and tests) can tell one from another."""
    small = rng.integers(0, 255, (2, 2, 3), dtype=np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(small).resize((64, 64), Image.Resampling.NEAREST).save(folder / f"{name}.webp", lossless=True)
    return f"{name}.webp"


def small_study(out: Path, units: int = 4, seed: int = 0) -> tuple[Study, Trials]:
    """The study, its folder with trials and page: a copy of one that is made once a process."""
    study, trials, folder = _made(units, seed)
    shutil.copytree(folder.name, out, dirs_exist_ok=True)
    return study, trials


@functools.cache
def _made(units: int, seed: int) -> tuple[Study, Trials, tempfile.TemporaryDirectory[str]]:
    place = tempfile.TemporaryDirectory("small-study")
    out = Path(place.name)
    study = checked(STUDY | {"seed": seed}, "small")
    rng = np.random.default_rng(seed)
    folder = out / "page" / "pictures"
    trials = []
    for model in study.models:
        kinds = ["trial"] * units + ["catch"] * 2
        kinds += ["practice", "practice", "example"] if model == "near" else []
        for i, kind in enumerate(kinds):
            name = f"{model}{i}"
            shown = {c: (picture(folder, f"{name}-{c}", rng),) * 3 for c in ("maco", "olah")}
            trials.append(
                Trial(
                    id=f"t{model}{i}", kind=kind, model=model, unit=str(i), label=f"unit {i}", image=name,
                    digest="0" * 16, side=8, most=(0, 0), least=(4, 4),
                    activation={"whole": 1.0, "most": 1.0, "least": 0.0}, gap=1.0,
                    percentile=0.5, left="most" if i % 2 else "least",
                    pictures={key: picture(folder, f"{name}-{key}", rng) for key in ("image", "most", "least")},
                    references=shown,
                )
            )  # fmt: skip
    made = Trials(
        study="small", seed=seed, conditions={"maco": "MACO", "olah": "Olah", "none": "nothing"},
        models={m: {"name": m, "weights": "0" * 8} for m in study.models}, trials=tuple(trials),
        exclude={
            "instructions_under": 20.0, "total_under": 90.0, "total_over": 900.0, "catch_under": 0.6,
            "practice_over": 5, "one_side": True,
        },
        left_out={}, made={"study": {}},
    )  # fmt: skip
    written = write(made, out)
    publish(study, written, out)
    return study, written, place


def participation(trials: Trials, who: str, condition: str = "maco", share: float = 1.0) -> dict:
    """What the page sends of somebody who gets this share of the answers right, as plain data."""
    known = {t.id: t for t in trials.shown()}
    answers = []
    for i, name in enumerate(trials.order(who)):
        side = trials.right(known[name], who)
        if i >= share * len(known):
            side = "left" if side == "right" else "right"
        answers.append({"trial": name, "choice": side, "confidence": 1 + i % 3, "ms": 2500.0 + i})
    return {
        "study": trials.study, "hash": trials.hash, "participant": who, "condition": condition,
        "instructions_ms": 30000.0, "total_ms": 200000.0, "practice_rounds": 1, "answers": answers,
    }  # fmt: skip


def choices(given: Participation) -> list[tuple[str, int]]:
    """Side and confidence of each answer."""
    return [(answer.choice, answer.confidence) for answer in given.answers]
