"""The images of a plan's rows, opened once they are needed, and how near they are to real ones."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmark.scoring import references
from benchmark.scoring.plan import Picture, Plan, Row
from benchmark.scoring.scorer import Scorer
from featvis.canvas.montage import to_picture
from featvis.canvas.parametrizations import Phase
from featvis.data.files import digest, open_rgb
from featvis.data.reference import natural_spectrum
from featvis.errors import UserError
from featvis.networks.units import class_of, stream_seed
from featvis.storage import images
from featvis.storage.hashing import config_hash


def noise_folder(plan: Plan) -> Path:
    """The images of the row `noise`: the natural magnitude spectrum with random phases, not optimised; made once."""
    size = (plan.canvas[0], plan.canvas[1])
    config = {"canvas": list(size), "seed": plan.seed, "phases": "U(-pi, pi)"}
    config |= {} if plan.channels == 3 else {"channels": plan.channels}
    digest_of_config = config_hash(config)
    folder = Path(plan.out) / plan.model / "noise" / digest_of_config
    phase = Phase(size, natural_spectrum(size, channels=plan.channels), phase_std=None)
    for unit, label in zip(plan.units, plan.labels, strict=True):
        path = folder / f"{unit}.png"
        if images.verify(path, digest_of_config) is None:
            continue
        stream = torch.Generator().manual_seed(stream_seed(plan.seed, unit))
        canvas = phase.decode(*phase.init([stream]))[0]
        facts = {
            "unit": unit,
            "label": label,
            "seed": plan.seed,
            "config_hash": digest_of_config,
            "steps": 0,
            "views": 0,
        }
        facts |= {} if plan.channels == 3 else {"channels": plan.channels}
        picture = to_picture(canvas)
        images.write(path, picture, np.full(picture.shape[:2], 255, np.uint8), facts)
    return folder


def folder_of(plan: Plan, row: Row) -> Path:
    """The folder of a row's images; that of the noise is made."""
    return noise_folder(plan) if row.kind == "noise" else Path(plan.out) / str(row.folder)


def pictures_of(folder: Path, units: Sequence[str], transparent: bool = False) -> list[Picture]:
    """The finished images of a run's folder, in the order of the units: RGB only, or blended by their transparency."""
    found = []
    for unit in units:
        path = folder / f"{unit}.png"
        if path.is_file():
            found.append(Picture(images.over_grey(path) if transparent else open_rgb(path), class_of(unit), unit=unit))
    return found


def flat_distances(
    plan: Plan,
    scorer: Scorer,
    trainer: dict[str, Any],
    given: Mapping[str, Sequence[Picture]] | None = None,
    name: str = "nearest",
) -> dict[str, dict[str, Tensor]]:
    """How near each row's images are to the nearest real one of their class, in the flattened last block.

    Each real image passes the target network once, for all rows together; nothing is kept of it.

    Args:
        plan: whose rows.
        scorer: with its networks and real images.
        trainer: arguments of Lightning's Trainer.
        given: the pictures of rows whose folder is not one of a run.
        name: of the folder that keeps them, beside those of the methods.

    Returns:
        For each row `squared` and `cosine` (see `references.nearest`), a number an image in the order of `pictures_of`;
        empty without data, classes, maps to flatten or need. A row with an image that cannot be opened has none.

    Raises:
        UserError: see `references.nearest`.
    """
    source = scorer.sources.bank
    wanted = any(task.kind == "nearest" for task in references.passes(plan))
    if source is None or not wanted or not scorer.target.last_block():
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
        photographs = scorer.photographs(row.kind)
        pictures = (given or {}).get(row.method) if photographs is None else photographs
        for p in pictures or ():
            add(row.method, int(str(p.label)), str(p.digest), functools.partial(lambda p: (p.image, p.digest), p))
        if pictures is not None:
            continue
        folder = folder_of(plan, row)
        show = images.over_grey if row.transparency else open_rgb
        there = [(unit, path) for unit in plan.units if (path := folder / f"{unit}.png").is_file()]
        try:
            for _, path in there:
                show(path)
        except (OSError, UserError):  # who scores the row says so; here it would take all the others with it
            continue
        for unit, path in there:
            opener = functools.partial(lambda show, path: (show(path), 0), show, path)
            add(row.method, int(str(class_of(unit))), f"{unit} {row.transparency} {digest(path)}", opener)
    found = references.nearest(
        source, scorer.target, openers, said.hexdigest(), Path(plan.out) / plan.model / name, trainer
    )
    return {
        m: {key: torch.stack([found[label][key][i] for label, i in at]) for key in ("squared", "cosine")}
        for m, at in places.items()
    }
