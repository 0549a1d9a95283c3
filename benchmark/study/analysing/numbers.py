"""What answers show: proportions with intervals, the mixed model's tests and contrasts, agreement between people."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy import stats

from benchmark.report.tables.chance import holm
from benchmark.study.analysing.mixed import Fit, fit
from featvis.errors import UserError
from featvis.intervals import expanded, share_interval
from featvis.metrics import bootstrap
from featvis.metrics.resampling import ratio_statistic

ALL = "all networks"
Vector = NDArray[np.float64]


def proportions(rows: pd.DataFrame, resamples: int = 2000, seed: int = 0) -> pd.DataFrame:
    """The proportion correct in each condition, on each network and on all, with a participant-bootstrap interval.

    Whole participants are drawn, because answers of one person are alike (Efron and Tibshirani 1993, chapter 13). Of
    few participants plain percentiles lie too close together: they are widened as a t interval is against a normal one
    (Hesterberg 2015, "What teachers should know about the bootstrap", the expanded percentile interval).

    Args:
        rows: answers that count, with participant, condition, network and correct.
        resamples: draws of participants.
        seed: of the draws.

    Returns:
        A line a condition and network: condition, network, correct, low, high, participants, answers.

    Example:
        >>> import pandas as pd
        >>> from benchmark.study.analysing.numbers import proportions
        >>> rows = pd.DataFrame({"participant": list("aabb"), "condition": "none", "network": "vit",
        ...                      "correct": [1, 1, 1, 0]})
        >>> proportions(rows)[["network", "correct", "participants"]].values.tolist()
        [['vit', 0.75, 2], ['all networks', 0.75, 2]]
    """
    lines = []
    networks = list(dict.fromkeys(rows["network"]))
    for condition, network in itertools.product(dict.fromkeys(rows["condition"]), [*networks, ALL]):
        part = rows[(rows["condition"] == condition) & ((rows["network"] == network) | (network == ALL))]
        if part.empty:
            continue
        each = part.groupby("participant")["correct"].agg(["sum", "size"])
        right, asked = (torch.tensor(each[name].to_numpy(), dtype=torch.float64) for name in ("sum", "size"))
        low, high = float("nan"), float("nan")
        if len(each) > 1 and right.sum() in (0, asked.sum()):
            # All draws would agree, which says nothing of how sure it is.
            low, high = share_interval(each["sum"], each["size"])
        elif len(each) > 1:
            n = len(each)
            low, high = bootstrap(ratio_statistic(right, asked), n, resamples=resamples, seed=seed, level=expanded(n))
        lines.append((condition, network, float(part["correct"].mean()), low, high, len(each), len(part)))
    columns = ["condition", "network", "correct", "low", "high", "participants", "answers"]
    return pd.DataFrame(lines, columns=columns)


@dataclass(frozen=True)
class Model:
    """The mixed model of the answers.

    Attributes:
        fit: one effect a cell (condition, network), on the logit scale.
        cells: the cells, in the order of the effects.
        tests: of condition, network and their interaction: test, chi2, df, p.
        contrasts: contrast, difference (of logits), low, high, odds_ratio, p, holm.
        saturated: cells whose answers are all right or all wrong; the model says nothing certain of those.
    """

    fit: Fit
    cells: tuple[tuple[str, str], ...]
    tests: pd.DataFrame
    contrasts: pd.DataFrame
    saturated: tuple[tuple[str, str], ...]


def model(rows: pd.DataFrame) -> Model:
    """Condition, network and their interaction; random intercepts for participants and for units (of their network).

    A contrast between conditions is the mean over the networks, one between networks the mean over the conditions; each
    family is corrected by Holm's method.

    Args:
        rows: answers that count.

    Raises:
        UserError: where a condition has no answers on a network, or there are too few.
    """
    conditions, networks = (list(dict.fromkeys(rows[name])) for name in ("condition", "network"))
    cells = list(itertools.product(conditions, networks))
    number = {cell: i for i, cell in enumerate(cells)}
    place = np.array([number[cell] for cell in zip(rows["condition"], rows["network"], strict=True)])
    counts = np.bincount(place, minlength=len(cells))
    if empty := [cells[i] for i in np.flatnonzero(counts == 0)]:
        raise UserError(f"there is no answer in the condition {empty[0][0]} on {empty[0][1]}, so there is no model")
    if rows["participant"].nunique() <= len(conditions):
        raise UserError("a model needs more participants than conditions")
    right = np.bincount(place, rows["correct"].to_numpy(float), len(cells))
    design = np.eye(len(cells))[place]
    units = pd.factorize(pd.Series(list(zip(rows["network"], rows["unit"], strict=True))))[0]
    people = pd.factorize(rows["participant"])[0]
    found = fit(
        rows["correct"].to_numpy(float), design, np.column_stack([people, units]), [f"{c}, {n}" for c, n in cells]
    )
    by_condition = {c: _mean(cells, 0, c) for c in conditions}
    by_network = {n: _mean(cells, 1, n) for n in networks}
    tests = [
        ("condition", *_wald(found, _differences(by_condition))),
        ("network", *_wald(found, _differences(by_network))),
        ("condition x network", *_wald(found, _interactions(cells, conditions, networks))),
    ]
    saturated = tuple(cells[i] for i in range(len(cells)) if right[i] in (0, counts[i]))
    families = [_contrasts(found, family) for family in (by_condition, by_network)]
    return Model(
        found,
        tuple(cells),
        pd.DataFrame([t for t in tests if t[2]], columns=["test", "chi2", "df", "p"]),
        pd.concat([f for f in families if len(f)] or families[:1], ignore_index=True),
        saturated,
    )


def _mean(cells: Sequence[tuple[str, str]], place: int, name: str) -> Vector:
    weights = np.array([float(cell[place] == name) for cell in cells])
    mean: Vector = weights / weights.sum()
    return mean


def _differences(family: dict[str, Vector]) -> Vector:
    first, *others = family.values()
    return np.array([other - first for other in others])


def _interactions(cells: Sequence[tuple[str, str]], conditions: Sequence[str], networks: Sequence[str]) -> Vector:
    rows = []
    for c, n in itertools.product(conditions[1:], networks[1:]):
        corners = {(c, n): 1.0, (conditions[0], networks[0]): 1.0, (c, networks[0]): -1.0, (conditions[0], n): -1.0}
        rows.append([corners.get(cell, 0.0) for cell in cells])
    return np.array(rows)


def _wald(found: Fit, weights: Vector) -> tuple[float, int, float]:
    """Wald's test that all of some weighted sums are zero."""
    if not len(weights):
        return float("nan"), 0, float("nan")
    value = weights @ found.effects
    spread = weights @ found.covariance @ weights.T
    chi2 = float(value @ np.linalg.pinv(spread, hermitian=True) @ value)
    return chi2, len(weights), float(stats.chi2.sf(chi2, len(weights)))


def _contrasts(found: Fit, family: dict[str, Vector]) -> pd.DataFrame:
    lines = []
    for (a, first), (b, second) in itertools.combinations(family.items(), 2):
        value, error, p = found.contrast(first - second)
        ends = (value - 1.959964 * error, value + 1.959964 * error)
        lines.append((f"{a} - {b}", value, *ends, float(np.exp(value)), p))
    table = pd.DataFrame(lines, columns=["contrast", "difference", "low", "high", "odds_ratio", "p"])
    table["holm"] = holm(table["p"].tolist())
    return table


def agreement(rows: pd.DataFrame) -> pd.DataFrame:
    """Cohen's kappa between participants of a condition: the mean over pairs that answered the same trials.

    Of which query was chosen, not of right and wrong; 0 is what chance gives two people of these habits, 1 the same
    answers (Cohen 1960).

    Args:
        rows: answers that count, with `trial` and `choice` (`left` or `right`, as the trial has them).

    Returns:
        condition, kappa, pairs; NaN where no pair can be compared.
    """
    lines = []
    for condition, part in rows.groupby("condition", sort=False):
        told = part[part["choice"].isin(["left", "right"]) & (part["trial"] != "")]
        grid = told.assign(left=(told["choice"] == "left").astype(float)).pivot_table("left", "participant", "trial")
        values = _kappas(grid.to_numpy()) if len(grid) > 1 else np.array([])
        values = values[np.isfinite(values)]
        lines.append((condition, float(values.mean()) if len(values) else float("nan"), len(values)))
    return pd.DataFrame(lines, columns=["condition", "kappa", "pairs"])


def _kappas(grid: Vector) -> Vector:
    """Cohen's kappa of every pair of rows of 0, 1 and NaN."""
    there = np.isfinite(grid).astype(float)
    one = np.nan_to_num(grid)
    zero = there - one
    both = there @ there.T
    with np.errstate(divide="ignore", invalid="ignore"):
        same = (one @ one.T + zero @ zero.T) / both
        # How often each says 1 where the other has answered too.
        mine = (one @ there.T) / both
        chance = mine * mine.T + (1 - mine) * (1 - mine.T)
        kappa = (same - chance) / (1 - chance)
    return np.asarray(kappa[np.triu_indices(len(grid), 1)])
