"""Directions alone: the kernel distance and the precision on the unit sphere, against NumPy and real images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from places import SHARED

from featvis.data.files import fit, to_tensor
from featvis.errors import UserError
from featvis.metrics import (
    SphereDistance,
    bootstrap,
    kernel_distance,
    plausibility,
    sphere_distance,
    sphere_precision,
    unit_length,
)
from featvis.metrics.functional.distance import pairs_mean
from featvis.metrics.resampling import kernel_statistic


def draw(n, d, seed, offset=0.3):
    """Non-negative features, as pooled ones are, none of length zero."""
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + offset
    return x.relu() + 1e-3


def unit(x):
    x = x.numpy()
    return x / np.sqrt((x**2).sum(1))[:, None]


def by_pairs(x, y):
    """The U-statistic under (cos + 1)^3, a pair at a time."""
    x, y = unit(x), unit(y)
    within = [np.mean([(z[i] @ z[j] + 1) ** 3 for i in range(len(z)) for j in range(len(z)) if i != j]) for z in (x, y)]
    return sum(within) - 2 * np.mean([(a @ b + 1) ** 3 for a in x for b in y])


@pytest.mark.parametrize(("n", "m", "d"), [(5, 7, 3), (2, 2, 4), (12, 3, 30)])
def test_the_distance_is_the_u_statistic_pair_by_pair(n, m, d):
    x, y = draw(n, d, 0), draw(m, d, 1, -0.2)
    assert float(sphere_distance(x, y)) == pytest.approx(by_pairs(x, y), rel=1e-10)
    assert float(sphere_distance(x.float(), y.float())) == pytest.approx(by_pairs(x, y), rel=1e-4)


@settings(max_examples=25, deadline=None)
@given(
    scales=st.lists(st.floats(1e-3, 1e3), min_size=13, max_size=13), order=st.permutations(range(7)),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_neither_strength_nor_order_nor_rotation_counts(scales, order, seed):
    x, y = draw(6, 5, seed), draw(7, 5, seed + 1)
    by = torch.tensor(scales, dtype=torch.float64)[:, None]
    turn = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)).Q
    value = sphere_distance(x, y)
    other = sphere_distance((x * by[:6]).flip(0) @ turn, (y * by[6:])[torch.tensor(order)] @ turn)
    torch.testing.assert_close(other, value, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(sphere_distance(y, x), value, rtol=1e-9, atol=1e-11)
    # A set that points one way and one that points the other way: (1 + 1)^3 twice, and nothing between them.
    one = torch.ones(2, 5, dtype=torch.float64)
    assert float(sphere_distance(one * by[:2], -one * by[2:4])) == pytest.approx(16)
    inside = sphere_precision(x * by[:6], (y * by[6:])[torch.tensor(order)])
    torch.testing.assert_close(inside, sphere_precision(x, y))


def test_what_is_known_of_the_reference_is_not_computed_again():
    x, y = draw(9, 4, 2), draw(23, 4, 3)
    z = 2 * unit_length(y)  # the radius at which KID's kernel is that of the sphere
    within = float(pairs_mean(z))
    assert float(sphere_distance(x, y, within)) == float(sphere_distance(x, y))
    assert float(kernel_distance(x, y, within=0.0)) == pytest.approx(float(kernel_distance(x, y) - pairs_mean(y)))
    counts = torch.ones(1, 9, dtype=torch.float64)
    of_x = 2 * unit_length(x)
    for statistic in (kernel_statistic(of_x, z), kernel_statistic(of_x, z, within)):
        assert float(statistic(counts)) == pytest.approx(float(sphere_distance(x, y)), rel=1e-9)
    metric = SphereDistance(y)
    metric.update(x)
    interval = bootstrap(kernel_statistic(of_x, z), 9, centre=float(sphere_distance(x, y)))
    assert metric.interval() == pytest.approx(interval, rel=1e-9)


@pytest.mark.parametrize("k", [1, 3, 11])
def test_precision_is_whether_some_ball_holds_the_image(k, monkeypatch):
    x, y = draw(40, 6, 4, -0.1), draw(12, 6, 5, 0.2)
    y[3] = 2 * y[7]  # a ball of no size, for k = 1
    a, b = unit(x), unit(y)
    reach = [np.sort([np.linalg.norm(p - q) for j, q in enumerate(b) if j != i])[k - 1] for i, p in enumerate(b)]
    want = [float(any(np.linalg.norm(p - q) <= r for q, r in zip(b, reach, strict=True))) for p in a]
    assert k == 11 or 0 < np.mean(want) < 1
    np.testing.assert_array_equal(sphere_precision(x, y, k), want)
    monkeypatch.setattr("featvis.metrics.functional.sphere.CHUNK", 60)
    np.testing.assert_array_equal(sphere_precision(x, y, k), want)


def test_bad_input_is_said_in_a_sentence():
    x, zero = draw(5, 4, 6), draw(5, 4, 6)
    zero[[1, 3]] = 0
    for call in (
        lambda: sphere_distance(zero, x), lambda: sphere_distance(x, zero), lambda: sphere_precision(zero, x),
        lambda: SphereDistance(zero),
    ):  # fmt: skip
        with pytest.raises(UserError, match="features of 2 of 5 images have length zero, and so no direction"):
            call()
    with pytest.raises(UserError, match="at least 2"):
        sphere_distance(x[:1], x)
    with pytest.raises(UserError, match="not finite"):
        sphere_distance(x, (x - 1).log())
    for k in (0, 5):
        with pytest.raises(UserError, match=f"between 1 and one less than the 5 real images, not k={k}"):
            sphere_precision(x, x, k)


def test_photographs_lie_between_other_photographs_and_noise(classifier):
    """Real images of four classes: their directions are those of their class, and not those of the next one."""
    folder = SHARED / "imagenette" / "train"
    if not folder.is_dir():
        pytest.skip("needs ../shared/imagenette")
    synsets, each = sorted(p.name for p in folder.iterdir())[:4], 8
    files = [p for s in synsets for p in sorted((folder / s).iterdir())[:each]]
    views = [to_tensor(fit(Image.open(p).convert("RGB"), classifier.input_size)) for p in files]
    views += list(torch.rand(each, 3, *classifier.input_size, generator=torch.Generator().manual_seed(0)))
    seen = classifier.features(torch.stack(views))
    labels = torch.arange(4).repeat_interleave(each)
    held = torch.arange(4 * each) % each < 2
    real, noise, flat = seen["flat"][: 4 * each], seen["flat"][4 * each :], labels[~held]
    own, other, of_noise = (
        float(plausibility(x, as_, real[~held], flat, "cosine").mean())
        for x, as_ in ((real[held], labels[held]), (real[held], (labels[held] + 1) % 4), (noise, labels[::4]))
    )
    assert own < other - 0.1
    assert own < of_noise - 0.1
    pooled, reference = seen["pooled"], ~held & (labels < 2)
    beside = [held & (labels < 2), labels >= 2]
    near, far = (float(sphere_distance(pooled[: 4 * each][x], pooled[: 4 * each][reference])) for x in beside)
    assert near < far < float(sphere_distance(pooled[4 * each :], pooled[: 4 * each][reference]))
