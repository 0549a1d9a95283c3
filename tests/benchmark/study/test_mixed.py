"""The mixed model against lme4, against integration by quadrature, and against its own promises."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import optimize, special

from benchmark.study.analysing.mixed import fit
from benchmark.study.analysing.numbers import model
from benchmark.study.analysing.simulate import Truth, simulate
from featvis.errors import UserError


def known_answers() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Answers that whole numbers alone decide, so that every machine has the same: 24 people, 12 units, 2 x 2 cells."""
    rows, state = [], 12345
    for person, unit in itertools.product(range(24), range(12)):
        state = (1103515245 * state + 12345) % 2**31
        condition, network = person % 2, unit % 2
        level = 45 + 18 * condition - 10 * network + 6 * (person // 2 % 5 - 2) + 5 * (unit // 2 % 5 - 2)
        rows.append((person, unit, condition, network, int((state >> 8) % 100 < level)))
    data = np.array(rows)
    c, n = data[:, 2], data[:, 3]
    return data[:, 4].astype(float), np.column_stack([np.ones(len(data)), c, n, c * n]), data[:, :2]


# R 4.2.2, lme4 1.1-31: glmer(y ~ c * n + (1 | person) + (1 | unit), family = binomial) of `known_answers`.
LME4 = {
    "effects": [-0.40527212, 1.11940902, -0.18156204, -0.59023206],
    "errors": [0.26742463, 0.37734198, 0.35789060, 0.49334674],
    "deviations": [0.31914023, 0.14407941],
    "loglikelihood": -190.931673,
}


def test_the_fit_is_lme4s():
    y, x, groups = known_answers()
    found = fit(y, x, groups, ["1", "c", "n", "c:n"])
    assert found.converged
    np.testing.assert_allclose(found.effects, LME4["effects"], atol=2e-3)
    np.testing.assert_allclose(found.errors, LME4["errors"], rtol=1e-2)
    np.testing.assert_allclose(found.deviations, LME4["deviations"], atol=5e-3)
    assert found.loglikelihood == pytest.approx(LME4["loglikelihood"], abs=2e-3)


def test_with_one_factor_the_fit_is_near_that_of_the_exact_likelihood():
    """Integrated over each participant's intercept by Gauss and Hermite's quadrature, 30 nodes, written here."""
    rng = np.random.default_rng(1)
    people = np.repeat(np.arange(60), 40)
    x = np.column_stack([np.ones(len(people)), people % 2])
    y = (rng.random(len(people)) < special.expit(x @ [0.2, 0.6] + rng.normal(0, 0.7, 60)[people])).astype(float)
    nodes, weights = np.polynomial.hermite_e.hermegauss(30)

    def exact(parameters):
        eta = (x @ parameters[:2])[:, None] + np.exp(parameters[2]) * nodes
        log = np.where(y[:, None] == 1, -np.logaddexp(0, -eta), -np.logaddexp(0, eta))
        each = np.zeros((60, len(nodes)))
        np.add.at(each, people, log)
        return -special.logsumexp(each, axis=1, b=weights / weights.sum()).sum()

    best = optimize.minimize(exact, [0.0, 0.0, -0.5], method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9})
    found = fit(y, x, people[:, None], ["1", "c"])
    np.testing.assert_allclose(found.effects, best.x[:2], atol=5e-3)
    # Laplace's approximation, known to make deviations a little small.
    assert found.deviations[0] == pytest.approx(np.exp(best.x[2]), rel=0.05)
    assert found.loglikelihood == pytest.approx(-best.fun, abs=0.5)


def test_intervals_of_the_model_hold_the_truth_at_their_rate():
    """Over 200 simulated studies: the effects of condition, network and their interaction."""
    logits = {("maco", "cnn"): 1.0, ("maco", "vit"): 0.3, ("none", "cnn"): 0.4, ("none", "vit"): 0.1}
    truth = Truth(logits, people=0.5, units=0.5)
    rng, held = np.random.default_rng(7), []
    weights = {"condition": [0.5, 0.5, -0.5, -0.5], "network": [0.5, -0.5, 0.5, -0.5], "both": [1, -1, -1, 1]}
    for _ in range(200):
        rows = simulate(truth, 14, 8, 2, rng)
        maco, vit = (rows["condition"] == "maco").to_numpy(), (rows["network"] == "vit").to_numpy()
        cells = np.column_stack([maco & ~vit, maco & vit, ~maco & ~vit, ~maco & vit]).astype(float)
        groups = np.column_stack([np.unique(rows[name], return_inverse=True)[1] for name in ("participant", "unit")])
        found = fit(rows["correct"].to_numpy(float), cells, groups, [", ".join(cell) for cell in logits])
        ends = [found.contrast(w) for w in weights.values()]
        truths = [float(np.dot(w, list(logits.values()))) for w in weights.values()]
        held.append([abs(value - true) < 1.96 * error for (value, error, _), true in zip(ends, truths, strict=True)])
    coverage = dict(zip(weights, np.mean(held, axis=0), strict=True))
    assert all(0.92 <= share <= 0.98 for share in coverage.values()), coverage


def test_effects_that_cannot_be_told_apart_are_refused():
    y, x, groups = known_answers()
    with pytest.raises(UserError, match="cannot be told apart"):
        fit(y, np.column_stack([x, x[:, 1]]), groups, list("abcde"))


def test_answers_that_are_all_right_are_named():
    rows = simulate(Truth({("a", "n"): 0.5, ("b", "n"): 60.0}), 8, 5, 2, np.random.default_rng(0))
    found = model(rows)
    assert found.saturated == (("b", "n"),)
    assert found.contrasts["high"].iloc[0] - found.contrasts["low"].iloc[0] > 5
