"""Whether the columns of a table agree: records of one suite and model in; correlations, verdicts, a mean rank out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.records.record import Measurement, Record
from benchmark.report.agreement.ranks import FEWEST, Array, correlations, intervals, mean, resamples, spearman
from benchmark.report.agreement.scores import Scores, scores_of
from benchmark.report.agreement.verdicts import MeanRank, Verdict, mean_rank, verdict

DRAWS = 300
Place = tuple[str, str, str]
"""A table: suite, alias of the model, and layer of its units where they are a part of the suite's."""


@dataclass(frozen=True)
class Agreement:
    """Do the columns of one suite on one model agree?

    Attributes:
        scores: what they were computed of.
        over_methods: (columns, columns), rank correlation over the methods, NaN where it is not defined.
        over_rows: the same with the reference rows.
        over_units: the same over the units within a method, averaged over the methods.
        low: the lower end of its interval.
        high: the upper end.
        verdicts: one a column.
        mean_rank: over the columns that bracket; None where there is none.
        layer: of the units, where they are a part of a suite's; else empty.
    """

    scores: Scores
    over_methods: Array
    over_rows: Array
    over_units: Array
    low: Array
    high: Array
    verdicts: tuple[Verdict, ...]
    mean_rank: MeanRank | None
    layer: str = ""

    @property
    def place(self) -> Place:
        """Which table it is of: suite, alias, layer."""
        first = self.scores.records[0]
        return first.suite, first.alias, self.layer

    @property
    def name(self) -> str:
        """Which table it is of, for people."""
        suite, alias, layer = self.place
        return f"{alias}, suite {suite}" + (f", {layer}" if layer else "")

    @property
    def has_units(self) -> bool:
        """Whether any two columns have units' values."""
        return bool((~np.isnan(self.over_units[~np.eye(len(self.over_units), dtype=bool)])).any())


def agree(group: Sequence[Record], layer: str = "") -> Agreement | str:
    """Compare the columns of a table with each other.

    Rows are first of all the methods: the reference rows are what a column is judged by, and would make any two columns
    agree that have noise last. `over_rows` has them too.

    Args:
        group: the records of one suite and model.
        layer: of their units, where they are a part of the suite's.

    Returns:
        The agreement; or one sentence where fewer than `FEWEST` methods have a value in two columns.
    """
    scores = scores_of(group)
    if len(scores.columns) < 2:
        name = f"{group[0].alias}, suite {group[0].suite}" + (f", {layer}" if layer else "")
        return (
            f"{name}: {len(scores.methods)} {'method' if len(scores.methods) == 1 else 'methods'} and "
            f"{len(scores.columns)} {'column' if len(scores.columns) == 1 else 'columns'} to compare; whether columns "
            f"agree shows from {FEWEST} methods with scores in 2 columns"
        )
    verdicts = [verdict(scores, column) for column in scores.columns]
    methods, everyone = scores.rows[:, : len(scores.methods)], scores.rows
    once = np.ones((1, everyone.shape[1]))
    return Agreement(
        scores,
        correlations(methods, once[:, : methods.shape[1]])[0],
        correlations(everyone, once)[0],
        *over_units(scores),
        tuple(verdicts),
        mean_rank(scores, verdicts),
        layer,
    )


def over_units(scores: Scores, draws: int = DRAWS, seed: int = 0) -> tuple[Array, Array, Array]:
    """Rank correlation of the columns over the units within a method, averaged over the methods; with its interval.

    The order of the methods plays no part in it: it says whether a column calls those units good that another calls
    good, of pictures by one method. Nor does that of the layers: where units are of several, it is the mean over them
    too. The interval is over the units, of which the same are drawn for all methods.

    Args:
        scores: of a suite on a model.
        draws: how many resamples.
        seed: of the draws.

    Returns:
        (columns, columns) each: the correlation, the lower and the upper end; NaN where no method has both columns.
    """
    count = len(scores.columns)
    low, high = np.full((count, count), np.nan), np.full((count, count), np.nan)
    if np.isnan(scores.values).all():
        return np.full((count, count), np.nan), low, high
    counts = np.concatenate([np.ones((1, len(scores.units))), resamples(len(scores.units), draws, seed)])
    parts = itertools.product(range(len(scores.methods)), scores.layers)
    drawn = mean(np.stack([correlations(scores.values[:, m, at], counts[:, at]) for m, at in parts]))
    a, b = np.triu_indices(count, 1)
    low[a, b], high[a, b] = low[b, a], high[b, a] = intervals(drawn[1:, a, b])
    return drawn[0], low, high


@dataclass(frozen=True)
class Stability:
    """Whether a column has the methods of the same names in the same order in two tables.

    Attributes:
        column: a measurement of it.
        first: the one table.
        second: the other.
        methods: the names that both have, and a value of.
        correlation: of the two orders, over these methods; NaN where a column is the same for all of them.
    """

    column: Measurement
    first: Place
    second: Place
    methods: tuple[str, ...]
    correlation: float


def stability(groups: Sequence[Sequence[Record]]) -> list[Stability]:
    """How stable each column's order of the methods is, over all pairs of tables that share `FEWEST` of them.

    Args:
        groups: the records of a suite and model each, as `tables.numbers.by_model` has them.

    Returns:
        One a column and pair of tables, columns in the order of the first table that has them.
    """
    found = []
    for one, other in itertools.combinations([scores_of(group) for group in groups], 2):
        names = [c.name for c in other.columns]
        for column in one.columns:
            if column.name not in names:
                continue
            pairs = [(m, one.signed(m, column), other.signed(m, column)) for m in one.methods if m in other.methods]
            pairs = [p for p in pairs if not (math.isnan(p[1]) or math.isnan(p[2]))]
            if len(pairs) < FEWEST:
                continue
            shared, x, y = zip(*pairs, strict=True)
            places = [(s.records[0].suite, s.records[0].alias, "") for s in (one, other)]
            found.append(Stability(column, places[0], places[1], shared, spearman(np.array(x), np.array(y))))
    return found
