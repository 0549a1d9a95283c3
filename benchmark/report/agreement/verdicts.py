"""Which columns to believe: what each does to real images and to noise, and whether it says anything of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from benchmark.records.record import Measurement
from benchmark.report.agreement.ranks import Array, intervals, places, resamples, spearman
from benchmark.report.agreement.scores import Scores

CEILINGS = ("natural", "real")
"""The rows that should be better than any method: the first that has a value is taken."""
FLOOR = "noise"
"""The row that should be worse than any method."""
MOST = 0.9
"""How much of a row must have a score for the row to be a ceiling, of what the methods' rows have. A photograph that is
its class's only one is near to no other: where there is one a class, of `natural` those of wrong classes are left.
"""
NAMED = 4
DRAWS = 1000


@dataclass(frozen=True)
class Verdict:
    """What is to be thought of a column.

    Attributes:
        column: a measurement of it.
        brackets: whether the ceiling is better than every method and the floor worse; None: it lacks one of the two.
        why: which row lies outside, which is missing, or which only just lies inside; empty: nothing to say.
        target: rank correlation with the target's own answer (`Scores.target`) over the methods; NaN where it is not
            defined.
        itself: whether it is the target's own answer.
    """

    column: Measurement
    brackets: bool | None
    why: str
    target: float
    itself: bool

    @property
    def monotone(self) -> bool:
        """Whether it has the methods in the order of the target's own answer, or in the opposite order."""
        return not self.itself and abs(self.target) > 1 - 1e-9


def verdict(scores: Scores, column: Measurement) -> Verdict:
    """What is to be thought of a column of a table."""
    brackets, why = bracketing(scores, column)
    target = scores.target
    if target is None:
        return Verdict(column, brackets, why, math.nan, False)
    own, other = ([scores.signed(m, c) for m in scores.methods] for c in (column, target))
    return Verdict(column, brackets, why, spearman(np.array(own), np.array(other)), column.name == target.name)


def bracketing(scores: Scores, column: Measurement) -> tuple[bool | None, str]:
    """Whether a column has every method strictly between its ceiling and its floor, and if not, what is outside.

    The ceiling is the row `natural` (the most exciting photographs) where it has a value of nearly all of them, else
    `real` (held-out ones); the floor is `noise`. A method that only equals one of them is outside too: the column
    cannot tell it from a photograph, or from noise.

    Args:
        scores: of a suite on a model.
        column: one of its columns.

    Returns:
        True, False, or None where one of the two rows is missing and no method is outside of the other; and a text.
    """
    methods = [m for m in scores.methods if not math.isnan(scores.signed(m, column))]
    ceiling = next((c for c in CEILINGS if _covered(scores, c, column)), None)
    floor = FLOOR if not math.isnan(scores.signed(FLOOR, column)) else None
    outside, close = [], []
    if ceiling is not None:
        best = scores.signed(ceiling, column)
        outside += _said([m for m in methods if scores.signed(m, column) > best], f"better than {ceiling}")
        outside += _said([m for m in methods if scores.signed(m, column) == best], f"as good as {ceiling}")
        close += _overlap(scores, column, ceiling, max(methods, key=lambda m: scores.signed(m, column)))
    if floor is not None:
        worst = scores.signed(floor, column)
        outside += _said([m for m in methods if scores.signed(m, column) < worst], f"worse than {floor}")
        outside += _said([m for m in methods if scores.signed(m, column) == worst], f"as bad as {floor}")
        close += _overlap(scores, column, floor, min(methods, key=lambda m: scores.signed(m, column)))
    missing = [name for name, found in ((" or ".join(reversed(CEILINGS)), ceiling), (FLOOR, floor)) if found is None]
    without = [f"no value for {name}" for name in missing]
    if outside:
        return False, "; ".join(outside + without)
    if missing:
        return None, "; ".join(without)
    return True, f"only just: {'; '.join(close)}" if close else ""


def _covered(scores: Scores, row: str, column: Measurement) -> bool:
    """Whether a row has a score of a column, of nearly as large a part of its images or units as the methods have."""
    least = min((part for m in scores.methods if (part := _part(scores, m, column)) > 0), default=0.0)
    part = _part(scores, row, column)
    return part > 0 and part >= MOST * least - 1e-9


def _part(scores: Scores, row: str, column: Measurement) -> float:
    """Of how many a row has a score of a column, beside the column that it has of the most; 0 for none."""
    found = scores.measured(row, column)
    most = max((m.n for r in scores.records if r.method == row for m in r.metrics if m.value is not None), default=0)
    return 0.0 if found is None or not most else found.n / most


def _said(methods: list[str], what: str) -> list[str]:
    if not methods:
        return []
    more = f" and {len(methods) - NAMED} more" if len(methods) > NAMED else ""
    return [f"{', '.join(methods[:NAMED])}{more}: {what}"]


def _overlap(scores: Scores, column: Measurement, reference: str, nearest: str) -> list[str]:
    one, other = scores.measured(reference, column), scores.measured(nearest, column)
    if one is None or other is None or one.interval is None or other.interval is None:
        return []
    apart = one.interval[0] > other.interval[1] or other.interval[0] > one.interval[1]
    return [] if apart else [f"the intervals of {reference} and {nearest} overlap"]


@dataclass(frozen=True)
class MeanRank:
    """The place of each method, 1 the best, over the columns that bracket.

    Attributes:
        columns: those that count.
        methods: those that have a value in all of them.
        each: (columns, methods), the places.
        intervals: 95 % bootstrap interval of each method's mean place; None where nothing could be drawn otherwise.
        left_out: (label, why) of columns that bracket and do not count, and (method, why) of methods without a place.
    """

    columns: tuple[Measurement, ...]
    methods: tuple[str, ...]
    each: Array
    intervals: tuple[tuple[float, float] | None, ...]
    left_out: tuple[tuple[str, str], ...]

    @property
    def means(self) -> list[float]:
        """The mean place of each method."""
        return [float(m) for m in self.each.mean(axis=0)]


def mean_rank(scores: Scores, verdicts: list[Verdict], draws: int = DRAWS, seed: int = 0) -> MeanRank | None:
    """The mean place of each method over the columns that bracket, and over no other.

    The mean over all columns would count a column that prefers noise as much as one that does not. A column that fewer
    than half of the methods have is left out, then a method that lacks one of the rest.

    What is resampled for the interval: the columns, with replacement, because which observers and features a suite has
    is a choice; and in columns whose records keep the units' values also the units, the same for all columns and
    methods, because the methods were run on the same. A value then moves by as much as the mean of its units does, and
    the places are taken anew. A column without units' values keeps its places. Seeds and images within a unit are not
    resampled.

    Args:
        scores: of a suite on a model.
        verdicts: of its columns.
        draws: how many resamples.
        seed: of the draws: the same interval every time.

    Returns:
        None where no column brackets, or fewer than two methods are left.
    """
    names = [c.name for c in scores.columns]
    chosen = [names.index(v.column.name) for v in verdicts if v.brackets]
    there = ~np.isnan(scores.rows[:, : len(scores.methods)])
    scored = there.any(axis=0)
    left_out = []
    for c in [c for c in chosen if 2 * there[c].sum() < scored.sum()]:
        chosen.remove(c)
        left_out.append((scores.columns[c].label, "fewer than half of the methods have a value"))
    ranked = [m for m in range(len(scores.methods)) if there[chosen, m].all()]
    if not chosen or len(ranked) < 2:
        return None
    for m, method in enumerate(scores.methods):
        if m not in ranked:
            left_out.append((method, "it lacks a value in a column that counts"))
    base = scores.rows[np.ix_(chosen, ranked)]
    moved, units = _moved(scores.values[np.ix_(chosen, ranked)], draws, seed)
    drawn = places(base + moved)
    weights = resamples(len(chosen), draws, seed + 1) / len(chosen)
    means = np.einsum("dk,dkm->dm", weights, drawn)
    low, high = intervals(means)
    fixed = len(chosen) == 1 and not units
    return MeanRank(
        tuple(scores.columns[c] for c in chosen),
        tuple(scores.methods[m] for m in ranked),
        places(base),
        tuple(None if fixed else (float(a), float(b)) for a, b in zip(low, high, strict=True)),
        tuple(left_out),
    )


def _moved(values: Array, draws: int, seed: int) -> tuple[Array, bool]:
    """How far the mean of each column's units (columns, methods, units) moves in each resample of the units.

    Returns:
        (draws, columns, methods), 0 where a column lacks the units of a method; and whether any has them.
    """
    there = ~np.isnan(values)
    whole = np.flatnonzero(np.all(there.any(axis=2), axis=1))
    moved = np.zeros((draws, *values.shape[:2]))
    if not len(whole):
        return moved, False
    counts = resamples(values.shape[2], draws, seed)
    for c in whole:
        kept = np.where(there[c], values[c], 0.0)
        drawn = counts @ there[c].T
        means = np.divide(counts @ kept.T, drawn, out=np.full_like(drawn, np.nan), where=drawn > 0)
        shift = means - kept.sum(axis=1) / there[c].sum(axis=1)
        moved[:, c] = np.where(np.isnan(shift), 0.0, shift)
    return moved, True
