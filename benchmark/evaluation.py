"""Scores from Python: a folder of pictures and a network, live or by name, in; a table of numbers out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from benchmark.checks import check_apart, check_images, check_metrics
from benchmark.report.tables.numbers import frame
from benchmark.scoring.folders import evaluate_folder
from benchmark.scoring.plan import Sources
from featvis.visualization import classifier


def evaluate(
    folder: str | Path,
    net: str | nn.Module,
    classifiers: Sequence[str] = ("efficientnet_lite1", "efficientnet_lite2"),
    metrics: Sequence[str] = (),
    observers: Sequence[str] | None = None,
    data: str | None = None,
    frechet: str = "efficientnet_lite1",
    out: str | Path = "runs/evaluate",
    **about: Any,
) -> pd.DataFrame:
    """Score pictures of classes beside real images and noise, as `featvis evaluate` does.

    Args:
        folder: of pictures whose names carry a class (`Pictures.save` writes such), see `featvis evaluate --help`.
        net: the target: any `torch.nn.Module`, a timm name, an alias, `wrap:FILE`.
        classifiers: networks of the transferability score, by name.
        observers: networks in whose features units are told apart and sets compared; None: the classifiers.
        metrics: groups or columns; empty: all.
        data: real images to compare with; None: the embedded reference.
        frechet: the network whose features stand in where Inception's weights are missing.
        out: folder of the records, not in that of the pictures.
        about: `mean`, `std`, `input_size`, `labels`, `preprocess` of a module, see `featvis.visualize`.

    Returns:
        A row a number: `method`, `metric`, `value`, `low`, `high`, and in `absent` the reason where there is none; the
        columns of `benchmark.report.tables.numbers.frame`.

    Raises:
        UserError: for a folder without pictures of classes, a network or metric that is not known, or an `out` that
            lies in the folder or is in use.
    """
    check_metrics(list(metrics))
    check_images(str(folder), "folder")
    check_images(data, "data")
    check_apart(str(folder), str(out))
    target = classifier(net, "float32", **about)
    sources = Sources.open(data, None, None, target)
    _, records = evaluate_folder(
        Path(folder), target, sources, out=str(out), suite="evaluate", frechet=frechet, data=data,
        metrics=list(metrics), classifiers=list(classifiers),
        observers=list(classifiers if observers is None else observers), sets=sources.facts(),
        cache=str(Path(out).parent / "reference"),
    )  # fmt: skip
    return frame(records)
