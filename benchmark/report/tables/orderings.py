"""Whether our values order rows as the paper's do, in words."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import pandas as pd


def ordering(
    part: pd.DataFrame,
    published: Mapping[str, float],
    higher_is_better: bool,
    whose: str = "the paper's ordering",
    pairs: bool = False,
) -> str:
    """One sentence on one column.

    Args:
        part: rows of `frame` of one model and metric (`method`, `value`, `low`, `high`).
        published: the paper's value of every row that it has, by method.
        higher_is_better: the column's direction.
        whose: what the published order is called.
        pairs: where the order does not hold, name the neighbours (in the published order) that are swapped or tied,
            and those whose intervals overlap, so that nothing tells them apart; where only some of the published rows
            are here, say how many.
    """
    ours = {row["method"]: row for row in part.to_dict("records") if not math.isnan(row["value"])}
    shared = [method for method in published if method in ours]
    if len(shared) < 2:
        return f"{whose} cannot be judged with fewer than two of its methods here."
    sign = -1 if higher_is_better else 1
    expected = sorted(shared, key=lambda m: sign * published[m])
    neighbours = list(itertools.pairwise(expected))
    gaps = [sign * (ours[b]["value"] - ours[a]["value"]) for a, b in neighbours]  # positive: as published

    def named(chosen: list[bool], joint: str = ", ") -> str:
        return joint.join(f"{a} and {b}" for (a, b), yes in zip(neighbours, chosen, strict=True) if yes)

    some = f"; {len(shared)} of its {len(published)} rows are here" if pairs and len(shared) < len(published) else ""
    claim = f"{whose}, {', '.join(expected)} (best first{some}),"
    close = named(
        [ours[a]["low"] <= ours[b]["high"] and ours[b]["low"] <= ours[a]["high"] for a, b in neighbours], ", of "
    )
    overlap = f"; the intervals of {close} overlap" if close else ""
    if min(gaps) > 0:
        return f"{claim} holds{overlap}."
    found = ", ".join(sorted(shared, key=lambda m: sign * ours[m]["value"]))
    if not pairs:
        return f"{claim} does not hold: here {found}{', with a tie' * (0 in gaps)}."
    swapped, tied = named([gap < 0 for gap in gaps]), named([gap == 0 for gap in gaps])
    details = f"; swapped: {swapped}" * bool(swapped) + f"; tied: {tied}" * bool(tied)
    return f"{claim} does not hold: here {found}{details}{overlap}."
