"""What a run of Weights & Biases holds: config, numbers, tables, pictures and files in; one run that has ended out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmark.tracking.runs import PICTURES, Guard, start

Figures = Mapping[str, Path | np.ndarray]
"""Files of pictures, or arrays (H, W) or (H, W, 3), uint8, by what they show."""


@dataclass(frozen=True)
class Content:
    """What a run of W&B holds.

    Attributes:
        config: what was asked for, and what it ran on.
        numbers: the final ones, for the summary.
        tables: by their names.
        figures: files or arrays (H, W) or (H, W, 3), uint8, by what they show; at most `PICTURES` are logged.
        files: kept as they are, in an artifact.
    """

    config: Mapping[str, Any]
    numbers: Mapping[str, float | int | None] = field(default_factory=dict)
    tables: Mapping[str, Any] = field(default_factory=dict)
    figures: Figures = field(default_factory=dict)
    files: Sequence[Path] = ()


def log_command(mode: str, out: Path, command: str, name: str, content: Content) -> None:
    """Log a command that leaves no records as one run; nothing when W&B is disabled.

    Args:
        mode: see `start`.
        out: the command's folder.
        command: its name.
        name: of what it was about: a device, a set of images.
        content: what is logged.
    """
    if mode == "disabled":
        return
    guard = Guard(f"{command} of {name}")
    run = guard(start, mode, out, out, f"{command}/{name}", command, command)
    guard(fill, run, content, f"{command}-{name}", command)


def fill(run: Any, content: Content, name: str, kind: str) -> None:
    """Log everything into a run, the files into the artifact `name` of that kind, and end it."""
    import wandb

    run.config.update(dict(content.config), allow_val_change=True)
    logged: dict[str, Any] = {}
    for key, table in content.tables.items():
        if isinstance(table, pd.DataFrame):
            plain = table.astype(object)
            table = wandb.Table(dataframe=plain.where(plain.notna(), None))
        logged[key] = table
    pictures = [_picture(figure, caption) for caption, figure in list(content.figures.items())[:PICTURES]]
    if shown := [p for p in pictures if p is not None]:
        logged["figures"] = shown
    if logged:
        run.log(logged)
    # Into the summary and not the history, of which W&B would make a curve of one point.
    run.summary.update(dict(content.numbers))
    if content.files:
        artifact = wandb.Artifact(re.sub(r"[^\w.-]", "_", name), type=kind)
        for path in content.files:
            artifact.add_file(str(path), name=path.name)
        run.log_artifact(artifact)
    run.finish()


def _picture(figure: Path | np.ndarray, caption: str) -> Any:
    """A picture for W&B; None for a file that is none."""
    import wandb

    try:
        return wandb.Image(str(figure) if isinstance(figure, Path) else figure, caption=caption)
    except OSError:
        return None
