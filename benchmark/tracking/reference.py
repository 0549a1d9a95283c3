"""What was computed of a set of real images, logged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmark.tracking.content import Content, log_command
from featvis.data.reference import Bank, read_spectrum
from featvis.data.sets import ImageSet


def log_reference(mode: str, out: Path, source: ImageSet, made: Mapping[str, Bank | Path]) -> None:
    """Log what was computed of a set of real images; nothing when W&B is disabled.

    Args:
        mode: see `start`.
        out: the cache.
        source: the images.
        made: the features of each network, and the folder of the spectrum, as `benchmark.scoring.references` gives
            them.
    """
    rows: list[dict[str, Any]] = []
    numbers: dict[str, Any] = {"images": len(source)}
    figures: dict[str, Path | np.ndarray] = {}
    for name, found in made.items():
        if isinstance(found, Path):
            # Zero frequency in the middle of the left edge, as `rfft2` has the columns.
            height = np.log(np.fft.fftshift(read_spectrum(found)["magnitude"][0].numpy(), axes=0) + 1e-9)
            figures["log-magnitude of the natural spectrum"] = _grey(height)
            continue
        known = found.labels >= 0
        facts: dict[str, Any] = {
            "network": found.network, "images": len(found.labels), "features": found.blocks[0].shape[1],
            "top1": float((found.predictions == found.labels)[known].double().mean()),
            "logit": float(found.logits[known].double().mean()),
        }  # fmt: skip
        rows.append(facts)
        numbers |= {f"{name}/{k}": facts[k] for k in ("features", "top1", "logit")}
    config = {"data": source.name, "classes": source.how, "fingerprint": source.fingerprint, "made": list(made)}
    tables = {"networks": pd.DataFrame(rows)} if rows else {}
    log_command(mode, out, "reference", source.name, Content(config, numbers, tables, figures))


def _grey(values: np.ndarray) -> np.ndarray:
    """Any (H, W) as grey levels from its least to its largest value."""
    span = float(values.max() - values.min()) or 1.0
    return (255 * (values - values.min()) / span).round().astype(np.uint8)
