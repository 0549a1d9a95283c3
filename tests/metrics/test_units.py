"""Scores of units against loops in NumPy, and what must not change them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from featvis import metrics
from featvis.errors import UserError
from featvis.metrics.functional import units as functional

SEEDS = st.integers(0, 2**16)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / math.sqrt((a @ a) * (b @ b)))


def auc(positive, negative) -> float:
    pairs = [(p > n) + (p == n) / 2 for p in positive for n in negative]
    return sum(pairs) / len(pairs)


@given(SEEDS)
def test_identification_is_that_of_loops(seed):
    rng = np.random.default_rng(seed)
    units, k, d = int(rng.integers(2, 7)), int(rng.integers(1, 4)), 5
    x, natural, mean = rng.normal(size=(units, d)), rng.normal(size=(units, k, d)), rng.normal(size=d)
    matrix = np.array(
        [[np.mean([cosine(x[u] - mean, y - mean) for y in natural[v]]) for v in range(units)] for u in range(units)]
    )
    expected = []
    for u in range(units):
        column = [matrix[u, v] - np.mean(matrix[:, v]) for v in range(units)]
        expected.append(auc([column[u]], [column[v] for v in range(units) if v != u]))
    at = torch.from_numpy(mean)
    found = functional.similarity(
        functional.directions(torch.from_numpy(x), at), functional.directions(torch.from_numpy(natural), at)
    )
    assert np.allclose(found, matrix)
    assert np.allclose(functional.identification(found), expected)


@given(SEEDS)
def test_the_order_of_units_and_of_pictures_changes_nothing(seed):
    rng = torch.Generator().manual_seed(seed)
    units, seeds = 5, 3
    rows = torch.randn(units * seeds, units, generator=rng).double()
    of = torch.arange(units).repeat_interleave(seeds)
    metric = metrics.Identification(units)
    metric.update(rows, of)
    pictures, order = torch.randperm(units * seeds, generator=rng), torch.randperm(units, generator=rng)
    again = metrics.Identification(units)
    # Unit `order[i]` is called i now.
    again.update(rows[pictures][:, order], order.argsort()[of[pictures]])
    assert math.isclose(float(metric.compute()), float(again.compute()), abs_tol=1e-12)
    assert sorted(metric.result()["values"]) == pytest.approx(sorted(again.result()["values"]))


@given(SEEDS)
def test_natural_images_of_their_own_unit_are_found_and_noise_is_not(seed):
    rng = torch.Generator().manual_seed(seed)
    natural = torch.eye(8)[:, None] + 0.01 * torch.randn(8, 3, 8, generator=rng)
    mean = torch.full((8,), 1 / 8)
    images = functional.directions(natural, mean)
    own = functional.identification(functional.similarity(functional.directions(natural[:, 0], mean), images))
    assert own.tolist() == [1.0] * 8
    # The same picture for all units says nothing of any: each is as near to a unit's images as all pictures are.
    alike = functional.directions(torch.randn(1, 8, generator=rng).expand(8, 8), mean)
    assert functional.identification(functional.similarity(alike, images)).tolist() == [0.5] * 8


def test_a_photograph_is_not_compared_with_itself():
    x = torch.eye(3).double()
    natural = torch.stack([torch.eye(3), torch.eye(3).roll(1, 0)], 1).double()
    same = torch.zeros(3, 3, 2, dtype=torch.bool)
    same[torch.arange(3), torch.arange(3), 0] = True
    assert functional.similarity(x, natural).diagonal().tolist() == [0.5] * 3
    assert functional.similarity(x, natural, same).diagonal().tolist() == [0.0] * 3


@given(SEEDS)
def test_a_choice_is_that_of_loops(seed):
    rng = np.random.default_rng(seed)
    units, q, d = 4, 6, 5
    shown, queries = rng.normal(size=(units, d)), rng.normal(size=(units, 2 * q, d))
    groups = np.array([0, 0, 1, 1])
    sure, graded = [], []
    for u in range(units):
        others = [v for v in range(units) if v != u and groups[v] == groups[u]]
        gaps = [[y @ shown[u] - np.mean([y @ shown[v] for v in others]) for y in queries[u]]][0]
        sure.append(auc(gaps[:q], gaps[q:]))
        graded.append(np.mean([1 / (1 + math.exp(-2.5 * (p - n))) for p in gaps[:q] for n in gaps[q:]]))
    apart = functional.contrast(torch.from_numpy(shown), torch.from_numpy(groups))
    found = torch.einsum("ud,uqd->uq", apart, torch.from_numpy(queries))
    assert np.allclose(functional.two_alternatives(found[:, :q], found[:, q:]), sure)
    assert np.allclose(functional.graded_alternatives(found[:, :q], found[:, q:], 2.5), graded)
    turned = found[:, torch.randperm(q)], found[:, q + torch.randperm(q)]
    assert np.allclose(functional.two_alternatives(*turned), sure)


def test_noise_has_half_of_the_choices_right_under_contrast():
    rng = torch.Generator().manual_seed(0)
    units, q, d = 60, 20, 16
    # Queries that excite units are alike, as photographs of objects are: without contrast any picture prefers one side.
    queries = torch.randn(units, 2 * q, d, generator=rng).double()
    queries[:, :q, 0] += 2
    noise = torch.randn(units, d, generator=rng).double()
    noise[:, 0] -= 3
    apart = functional.contrast(noise, torch.zeros(units, dtype=torch.long))
    raw, corrected = (torch.einsum("ud,uqd->uq", x, queries) for x in (noise, apart))
    metric = metrics.TwoAlternatives(q)
    metric.update(corrected[:, :q], corrected[:, q:], torch.arange(units))
    low, high = metric.interval()
    assert low < 0.5 < high
    assert float(functional.two_alternatives(raw[:, :q], raw[:, q:]).mean()) < 0.3


@given(SEEDS)
def test_the_slope_gives_natural_images_what_it_shall(seed):
    rng = torch.Generator().manual_seed(seed)
    positive = torch.rand(5, 4, generator=rng).double() + 0.05
    negative = -torch.rand(5, 4, generator=rng).double()
    slope = functional.slope_for(positive, negative)
    assert float(functional.graded_alternatives(positive, negative, slope).mean()) == pytest.approx(0.9)
    # An observer who is wrong as often as right has none.
    assert math.isnan(functional.slope_for(negative, positive))
    with pytest.raises(UserError, match="between .5 and 1"):
        functional.slope_for(positive, negative, 0.5)


@given(SEEDS)
def test_seeds_are_one_draw_and_their_diversity_is_that_of_pairs(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(7, 4))
    units = np.array([0, 0, 0, 1, 1, 2, 2])
    expected = []
    for u in range(3):
        mine = x[units == u]
        pairs = [1 - cosine(a, b) for i, a in enumerate(mine) for b in mine[i + 1 :]]
        expected.append(np.mean(pairs))
    metric = metrics.SeedDiversity(4)
    metric.update(functional.directions(torch.from_numpy(x), torch.zeros(4)), torch.from_numpy(units))
    assert float(metric.compute()) == pytest.approx(np.mean(expected))
    assert metric.count() == 3
    assert metric.result()["values"] == pytest.approx([expected[u] for u in units])


@given(SEEDS)
def test_percentile_and_excess_are_those_of_loops(seed):
    rng = np.random.default_rng(seed)
    value, among = rng.integers(0, 5, 6).astype(float), rng.integers(0, 5, (6, 4)).astype(float)
    among[:, -1] = np.nan
    expected = [auc([v], row[:-1]) for v, row in zip(value, among, strict=True)]
    assert np.allclose(functional.percentile(torch.from_numpy(value), torch.from_numpy(among)), expected)
    a, m, top = rng.normal(size=(3, 5))
    found = functional.excess_activation(*(torch.from_numpy(v) for v in (a, m, top)))
    assert np.allclose(found, np.where(top > m, (a - m) / (top - m), np.nan), equal_nan=True)


def test_what_is_not_there_does_not_count_and_is_said():
    nothing = torch.tensor([[math.nan, math.nan], [0.5, 0.1]])
    metric = metrics.Identification(2)
    metric.update(nothing, torch.tensor([0, 1]))
    result = metric.result()
    assert result["value"] is None
    assert "fewer than two units" in result["absent"]
    excess = metrics.ExcessActivation()
    still = torch.tensor([0.0, 1.0])
    excess.update(torch.tensor([3.0, 3.0]), torch.zeros(2), still, torch.tensor([0, 1]))
    assert excess.count() == 1
    assert excess.result()["values"] == pytest.approx([math.nan, 3.0], nan_ok=True)
    assert functional.directions(torch.tensor([[0.0, 0.0], [math.inf, 1.0]]), torch.zeros(2)).isnan().all()
    assert functional.two_alternatives(torch.tensor([[math.nan]]), torch.tensor([[1.0]])).isnan().all()


@pytest.mark.parametrize("dead", [0, 3])
def test_as_many_units_may_be_dead_as_of_a_share(dead):
    metric = metrics.DeadShare()
    metric.update(2.0 * (torch.arange(12) >= dead), torch.zeros(12), torch.ones(12), torch.arange(12))
    theirs = scipy.stats.binomtest(dead, 12).proportion_ci(method="wilson")
    assert metric.result()["interval"] == pytest.approx([theirs.low, theirs.high])
    excess = metrics.ExcessActivation()
    excess.update(torch.full((12,), 1.0), torch.zeros(12), torch.ones(12), torch.arange(12))
    assert excess.result()["interval"] == [1.0, 1.0], "no share, though it is 1 of all"
