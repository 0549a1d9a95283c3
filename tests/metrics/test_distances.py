"""Fréchet and kernel distances against scipy's matrix square root, torch-fidelity and plain loops."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric

from featvis.errors import UserError
from featvis.metrics import frechet_distance, kernel_distance


def draw(n, d, seed, offset=0.0):
    """Correlated, non-negative features, as pooled ones are."""
    g = torch.Generator().manual_seed(seed)
    mix = torch.randn(d, d, generator=torch.Generator().manual_seed(99), dtype=torch.float64)
    return (torch.randn(n, d, generator=g, dtype=torch.float64) @ mix / math.sqrt(d) + offset).relu()


SIZES = [(8, 12, 30), (12, 50, 20), (50, 12, 20), (80, 60, 16), (2, 2, 5), (2, 40, 5), (21, 20, 20)]


@pytest.mark.parametrize(("n", "m", "d"), SIZES)
def test_frechet_distance_is_torch_fidelitys(n, m, d):
    x, y = draw(n, d, 0, 0.3), draw(m, d, 1)
    theirs = fid_statistics_to_metric(fid_features_to_statistics(x), fid_features_to_statistics(y), False)
    # Theirs takes roots of the eigenvalues of a singular product, whose rounding is of the order of 1e-8.
    assert float(frechet_distance(x, y)) == pytest.approx(theirs["frechet_inception_distance"], rel=1e-6)


@pytest.mark.parametrize(("n", "m", "d"), SIZES)
def test_frechet_distance_is_the_formula_with_scipys_square_root(n, m, d):
    x, y = draw(n, d, 2).numpy(), draw(m, d, 3, 0.2).numpy()
    sx, sy = (np.cov(z, rowvar=False) for z in (x, y))
    # sqrtm wants a matrix of full rank; (Sx^1/2 Sy Sx^1/2)^1/2 has the same trace and is symmetric.
    half = scipy.linalg.sqrtm(sx + 1e-13 * np.eye(d)).real
    root = scipy.linalg.sqrtm(half @ sy @ half + 1e-13 * np.eye(d)).real
    want = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(sx) + np.trace(sy) - 2 * np.trace(root)
    assert float(frechet_distance(torch.tensor(x), torch.tensor(y))) == pytest.approx(want, rel=1e-5)


def test_frechet_distance_of_one_dimension_is_the_closed_form():
    x, y = torch.tensor([[0.0], [2.0], [4.0]]), torch.tensor([[1.0], [2.0]])
    assert float(frechet_distance(x, y)) == pytest.approx((2 - 1.5) ** 2 + (2 - math.sqrt(0.5)) ** 2)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(2, 12), m=st.integers(2, 12), d=st.integers(1, 8), seed=st.integers(0, 999))
def test_frechet_distance_is_symmetric_zero_on_itself_and_blind_to_rotation_and_shift(n, m, d, seed):
    x, y = draw(n, d, seed, 0.5), draw(m, d, seed + 1)
    turn = torch.linalg.qr(torch.randn(d, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)).Q
    value = frechet_distance(x, y)
    torch.testing.assert_close(value, frechet_distance(y, x), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(value, frechet_distance(x @ turn + 3, y @ turn + 3), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(4 * value, frechet_distance(2 * x, 2 * y), rtol=1e-9, atol=1e-9)
    assert 0 <= float(frechet_distance(x, x)) < 1e-9


def test_float32_features_give_float64_values():
    x, y = draw(20, 8, 4), draw(30, 8, 5)
    for distance in (frechet_distance, kernel_distance):
        single = distance(x.float(), y.float())
        assert single.dtype == torch.float64
        assert float(single) == pytest.approx(float(distance(x, y)), rel=1e-4, abs=1e-6)


def test_kernel_distance_is_torch_fidelitys_at_the_whole_set():
    x, y = draw(24, 10, 6, 0.2), draw(24, 10, 7)
    theirs = kid_features_to_metric(x, y, kid_subsets=1, kid_subset_size=24, verbose=False)
    assert float(kernel_distance(x, y)) == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-9)


def test_kernel_distance_is_the_u_statistic_pair_by_pair():
    x, y = draw(5, 3, 8).numpy(), draw(7, 3, 9, 0.4).numpy()

    def kernel(a, b):
        return (a @ b / 3 + 1) ** 3

    xx = np.mean([kernel(x[i], x[j]) for i in range(5) for j in range(5) if i != j])
    yy = np.mean([kernel(y[i], y[j]) for i in range(7) for j in range(7) if i != j])
    xy = np.mean([kernel(a, b) for a in x for b in y])
    assert float(kernel_distance(torch.tensor(x), torch.tensor(y))) == pytest.approx(xx + yy - 2 * xy, rel=1e-10)


def test_kernel_distance_in_chunks_is_the_same(monkeypatch):
    x, y = draw(9, 4, 10), draw(23, 4, 11)
    whole = kernel_distance(x, y)
    monkeypatch.setattr("featvis.metrics.functional.distance.CHUNK", 50)
    torch.testing.assert_close(kernel_distance(x, y), whole, rtol=1e-12, atol=1e-12)


def test_the_published_average_tends_to_the_whole_sets_figure():
    x, y = draw(30, 6, 12, 0.3), draw(40, 6, 13)
    draws = [float(kernel_distance(x, y, subset_size=15, subsets=40, seed=s)) for s in range(10)]
    assert np.mean(draws) == pytest.approx(float(kernel_distance(x, y)), abs=4 * np.std(draws) / math.sqrt(10))
    theirs = kid_features_to_metric(x, y, kid_subsets=400, kid_subset_size=15, verbose=False)
    spread = theirs["kernel_inception_distance_std"] / math.sqrt(400)
    assert np.mean(draws) == pytest.approx(theirs["kernel_inception_distance_mean"], abs=6 * spread)
    assert draws[0] == float(kernel_distance(x, y, subset_size=15, subsets=40, seed=0))


def test_kernel_distance_is_unbiased_where_the_sets_are_alike():
    values = [float(kernel_distance(draw(12, 5, s), draw(12, 5, 1000 + s))) for s in range(300)]
    assert abs(np.mean(values)) < 4 * np.std(values) / math.sqrt(300)
    assert min(values) < 0


def test_bad_input_is_said_in_a_sentence():
    x = draw(10, 4, 14)
    for distance in (frechet_distance, kernel_distance):
        with pytest.raises(UserError, match="at least 2"):
            distance(x[:1], x)
        with pytest.raises(UserError, match="not finite"):
            distance(x, (x - 1).log())
    for size in (1, 6):
        with pytest.raises(UserError, match=rf"\(5\), not {size}"):
            kernel_distance(x, x, subset_size=size)
