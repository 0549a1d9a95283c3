"""Participants that are none: a known effect, lapses and random intercepts in; tables of answers out, and power."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special, stats

from featvis.errors import UserError

NODES = 40
"""Of the integration over random intercepts (Gauss and Hermite)."""
Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Truth:
    """What simulated people are like.

    Attributes:
        logits: of a right answer, by condition and network, for the middle participant and unit.
        people: deviation of the participants' intercepts.
        units: deviation of the units' intercepts.
        lapse: share of the answers that are given without looking.
    """

    logits: Mapping[tuple[str, str], float]
    people: float = 0.5
    units: float = 0.6
    lapse: float = 0.0

    def proportion(self, cell: tuple[str, str], unit_effects: Vector | None = None) -> float:
        """The expected proportion of right answers in a cell, over people, and over units or for those given."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
        weights = weights / weights.sum()
        if unit_effects is None:
            spread = np.hypot(self.people, self.units)
            p = float(weights @ special.expit(self.logits[cell] + spread * nodes))
        else:
            at = self.logits[cell] + np.add.outer(self.people * nodes, unit_effects)
            p = float(weights @ special.expit(at).mean(1))
        return (1 - self.lapse) * p + self.lapse / 2


def simulate(
    truth: Truth, participants: int, units: int, images: int, rng: np.random.Generator,
    unit_effects: Mapping[str, Vector] | None = None,
) -> pd.DataFrame:  # fmt: skip
    """The answers of a study.

    Args:
        truth: see there.
        participants: of each condition.
        units: of each network.
        images: trials of each unit.
        rng: of everything that is random.
        unit_effects: the units' intercepts by network; None: drawn.

    Returns:
        participant, condition, network, unit, trial, kind, correct, choice, side, confidence, ms.

    Example:
        >>> import numpy as np
        >>> from benchmark.study.analysing.simulate import Truth, simulate
        >>> rows = simulate(Truth({("maco", "vit"): 2.0}), 3, 4, 2, np.random.default_rng(0))
        >>> len(rows), bool(rows["correct"].mean() > 0.5)
        (24, True)
    """
    conditions, networks = (list(dict.fromkeys(cell[i] for cell in truth.logits)) for i in (0, 1))
    if unit_effects is None:
        unit_effects = {network: rng.normal(0, truth.units, units) for network in networks}
    parts = []
    for condition in conditions:
        people = rng.normal(0, truth.people, participants)
        for network in networks:
            count = len(unit_effects[network])
            logits = truth.logits[condition, network] + np.repeat(unit_effects[network], images)
            p = (1 - truth.lapse) * special.expit(np.add.outer(people, logits)) + truth.lapse / 2
            names = np.repeat([f"{network}-{u}" for u in range(count)], images)
            trials = [f"{name}-{k % images}" for k, name in enumerate(names)]
            parts.append(
                pd.DataFrame(
                    {
                        "participant": np.repeat([f"{condition}-{i}" for i in range(participants)], p.shape[1]),
                        "condition": condition, "network": network, "unit": np.tile(names, participants),
                        "trial": np.tile(trials, participants), "kind": "trial",
                        "correct": (rng.random(p.shape) < p).astype(int).ravel(),
                    }
                )
            )  # fmt: skip
    rows = pd.concat(parts, ignore_index=True)
    # Half of the trials have their right answer on the left, whoever sees them.
    left = rows["trial"].map({t: i % 2 == 0 for i, t in enumerate(dict.fromkeys(rows["trial"]))})
    rows["choice"] = np.where(left == (rows["correct"] == 1), "left", "right")
    return rows.assign(side=rows["choice"], confidence=2, ms=3000.0)


def chance_of_finding(
    baseline: float, difference: float, participants: int, trials: int, *, people: float = 0.5, units: float = 0.6,
    lapse: float = 0.0, images: int = 2, tests: int = 1, simulations: int = 400, seed: int = 0,
) -> float:  # fmt: skip
    """The share of simulated studies that find a difference between two conditions.

    Both conditions have the same trials, so that what units differ in does not blur the comparison. The test is Welch's
    of the participants' proportions, at .05 divided by the number of comparisons.

    Args:
        baseline: expected proportion correct of the worse condition.
        difference: of the better one's to it.
        participants: of each condition.
        trials: of each participant.
        people: deviation of the participants' intercepts, in logits.
        units: of the units'.
        lapse: share of answers given without looking.
        images: trials of each unit.
        tests: comparisons that the level is shared by.
        simulations: studies.
        seed: of all random numbers.

    Raises:
        UserError: for proportions that cannot be.
    """
    low, high = (logit_of(p, np.hypot(people, units), lapse) for p in (baseline, baseline + difference))
    rng = np.random.default_rng(seed)
    count = math.ceil(trials / images)
    scores = np.empty((simulations, 2, participants))
    for study in scores:
        effects = np.repeat(rng.normal(0, units, count), images)[:trials]
        for condition, logit in enumerate((low, high)):
            at = np.add.outer(logit + rng.normal(0, people, participants), effects)
            p = (1 - lapse) * special.expit(at) + lapse / 2
            study[condition] = (rng.random(p.shape) < p).mean(1)
    means, deviations = scores.mean(2).T, scores.std(2, ddof=1).T
    with np.errstate(invalid="ignore", divide="ignore"):
        p = stats.ttest_ind_from_stats(
            means[0], deviations[0], participants, means[1], deviations[1], participants, equal_var=False
        ).pvalue
    return float(np.mean((p < 0.05 / tests) & (np.ptp(scores, axis=2).max(1) > 0)))


def logit_of(proportion: float, spread: float, lapse: float) -> float:
    """The middle participant's logit at which a proportion is expected over all of them.

    Args:
        proportion: above one half of the lapses, below one less it.
        spread: deviation of the random intercepts together.
        lapse: share of answers given without looking.

    Raises:
        UserError: for a proportion that no logit gives.

    Example:
        >>> from benchmark.study.analysing.simulate import Truth, logit_of
        >>> truth = Truth({("a", "b"): logit_of(0.7, 1.0, 0.05)}, people=0.6, units=0.8, lapse=0.05)
        >>> round(truth.proportion(("a", "b")), 6)
        0.7
    """
    if not lapse / 2 < proportion < 1 - lapse / 2:
        raise UserError(
            f"a proportion of {proportion:g} cannot be reached with {lapse:.0%} lapses; it must lie between "
            f"{lapse / 2:g} and {1 - lapse / 2:g}"
        )
    low, high = -40.0, 40.0
    for _ in range(80):
        middle = (low + high) / 2
        here = Truth({("", ""): middle}, people=spread, units=0.0, lapse=lapse).proportion(("", ""))
        low, high = (middle, high) if here < proportion else (low, middle)
    return high


def needed(power: float, most: int, **study: float) -> tuple[int | None, dict[int, float]]:
    """How many participants of each condition find a difference with a given probability.

    Args:
        power: that probability.
        most: participants that are tried.
        study: as `chance_of_finding` takes it, without participants.

    Returns:
        The number, None where `most` is not enough; and the chance at every number that was tried.
    """
    tried: dict[int, float] = {}

    def reached(n: int) -> bool:
        tried[n] = chance_of_finding(participants=n, **study)  # type: ignore[arg-type]
        return tried[n] >= power

    low, high = 1, 4
    while not reached(high):
        low, high = high, 2 * high
        if low >= most:
            return None, tried
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return (high if high <= most else None), tried
