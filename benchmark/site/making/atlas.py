"""The atlas of a network: pages in, all of their concepts and units in two dimensions out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmark.site.making.embedding import embed
from benchmark.site.making.options import Subject
from benchmark.site.model import Atlas, ClassPage, LayerPage, Point, Reference
from benchmark.site.pictures import FOLDER
from featvis.data.files import as_seen

BATCH = 32


def atlas(subject: Subject, classes: Sequence[ClassPage], layers: Sequence[LayerPage], out: Path, seed: int) -> Atlas:
    """Place all concepts and units of a network by what it sees in their pictures.

    Args:
        subject: the network.
        classes: its pages of classes.
        layers: its pages of layers.
        out: the site's folder, with the pictures.
        seed: of the embedding.
    """
    shown = list(_shown(subject.alias, classes, layers))
    if not shown:
        return Atlas(subject.alias, "There is nothing to place: no concept and no unit has a picture.", ())
    rows = []
    for start in range(0, len(shown), BATCH):
        files = [out / FOLDER / f"{r.picture.file}.webp" for r in shown[start : start + BATCH] if r.picture]
        views = torch.stack([as_seen(path, subject.exact.input_size) for path in files])
        rows.append(subject.exact.features(views.to(subject.exact.device), flat=False)["pooled"].cpu().numpy())
    places, how = embed(np.concatenate(rows).astype(np.float64), 2, seed)
    text = f"Near each other is what {subject.alias} sees as alike: its features before the head, by {how}."
    points = (Point(round(float(x), 5), round(float(y), 5), r) for r, (x, y) in zip(shown, places, strict=True))
    return Atlas(subject.alias, text, tuple(points))


def _shown(alias: str, classes: Sequence[ClassPage], layers: Sequence[LayerPage]) -> Iterator[Reference]:
    for page in classes:
        for c in page.concepts:
            name = f"{page.name}, concept {c.number}"
            here = Reference("concept", alias, page.key, name, part=c.number)
            if c.visualization is not None:
                yield replace(here, picture=c.visualization)
    for sheet in layers:
        for tile in sheet.tiles:
            if tile.picture is not None:
                yield Reference("unit", alias, tile.key, f"{sheet.name}:{tile.index}", picture=tile.picture)
