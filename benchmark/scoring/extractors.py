"""Extractors that people expect, DINOv2 and CLIP: which of them a plan has, why not, and what they compare with.

Their weights are large, and a pass over the real images takes long. So their columns are computed where they are asked
for by name (then the hub is asked too, and what is not to be had is absent with the reason), or where somebody has put
the weights into the folder FEATVIS_WEIGHTS; otherwise they are in nobody's table.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from benchmark.records import columns
from benchmark.scoring.evaluators import give_data, not_finite
from featvis.data.extractors.clip import classes_file, read_classes
from featvis.errors import Unreachable, UserError
from featvis.networks.loading import load
from featvis.networks.names import resolve, weights_directory
from featvis.networks.weights import locate

if TYPE_CHECKING:
    from benchmark.scoring.plan import Plan
    from benchmark.scoring.scorer import Scorer, Seen

EXTRACTORS = {"dinov2": "dinov2_vitl14", "clip": "clip_vitl14_336"}
"""The network of an evaluator: those of FD-DINOv2 (Stein et al. 2023) and CMMD (Jayasumana et al. 2024)."""
OF_SETS = ("fd_dinov2", "kd_dinov2", "cmmd")
"""Columns that compare with real images."""
TOO_FEW = "the reference holds fewer than two images besides those of the row real"


def find(metrics: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Which extractors can be had for what is asked, and why the others cannot.

    Each is loaded once, to see that it can be, and let go of: it would lie in memory while the images are made.

    Args:
        metrics: groups or columns; empty: all, of which these are only part where their weights are in the folder.

    Returns:
        The hash of the weights by the network's name, and reasons by name for those that were asked for in vain.

    Raises:
        UserError: for weights, or classes in words, that are broken or another network's.
    """
    wanted = {c.evaluator for c in columns.wanted(metrics)}
    found, missing = dict[str, str](), dict[str, str]()
    for evaluator, name in EXTRACTORS.items():
        if evaluator not in wanted or not (metrics or _in_folder(name)):
            continue
        try:
            found[name] = load(name, "float32", flag="the extractor").weights_hash
        except Unreachable as error:
            missing[name] = f"{error.reason}: put {name}.safetensors into the folder FEATVIS_WEIGHTS"
            continue
        if evaluator == "clip" and (path := classes_path(name)) is not None:
            read_classes(path)
    return found, missing


def _in_folder(name: str) -> bool:
    try:
        return locate(resolve(name)).kind == "directory"
    except UserError:  # a file that may be its weights or not; who asks for the columns hears of it
        return False


def classes_path(name: str) -> Path | None:
    """The file of CLIP's classes in words, or None."""
    directory = weights_directory()
    path = None if directory is None else directory / classes_file(name)
    return path if path is not None and path.is_file() else None


def compared(plan: Plan) -> list[str]:
    """The extractors of a plan whose features of the real images are needed."""
    wanted = {c.evaluator for c in columns.wanted(plan.metrics) if c.name in OF_SETS}
    return [name for evaluator, name in EXTRACTORS.items() if evaluator in wanted and name in plan.extractors]


def shown(plan: Plan, name: str) -> bool:
    """Whether an extractor's columns are in the table, with values or without."""
    return name in plan.extractors or bool(plan.metrics)


def why_not(plan: Plan, name: str) -> str | None:
    """Why a plan does without an extractor; None: it has it."""
    if name in plan.extractors:
        return None
    return plan.unavailable.get(name, f"the weights of {name} were not looked for")


def reference(scorer: Scorer, seen: Seen, name: str) -> tuple[Tensor, str] | str:
    """Pooled features of the real images that sets are compared with, and what these are; or why there are none."""
    if reason := why_not(scorer.plan, name) or seen.no_sets:
        return reason
    bank = scorer.set_banks.get(name)
    if bank is None:
        return f"there are no real images to compare with; {give_data(scorer)}"
    if broken := not_finite(seen.features[name]["pooled"], name):
        return broken
    rows, what = scorer.set_reference(name, seen.ids[seen.ids != 0])
    return (rows, f"{what}: {bank.source}") if len(rows) >= 2 else TOO_FEW
