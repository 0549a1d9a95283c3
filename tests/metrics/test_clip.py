"""CMMD and zero-shot accuracy against scikit-learn and NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics.pairwise import cosine_similarity, rbf_kernel
from sklearn.preprocessing import normalize

from featvis.errors import UserError
from featvis.metrics import ClipDistance, ZeroShot, cmmd, zero_shot
from featvis.metrics.clip import gaussian_statistic
from featvis.metrics.functional import clip


def rows(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def reference(x: np.ndarray, y: np.ndarray) -> float:
    """As the paper's code has it: the means of whole kernel matrices."""
    x, y = normalize(x), normalize(y)
    xx, yy, xy = (rbf_kernel(a, b, gamma=1 / 200).mean() for a, b in ((x, x), (y, y), (x, y)))
    return 1000 * (xx + yy - 2 * xy)


@pytest.mark.parametrize(("n", "m", "d"), [(1, 1, 3), (7, 4, 5), (30, 50, 16)])
def test_cmmd_is_the_mean_of_scikit_learns_kernels(n, m, d, monkeypatch):
    x, y = rows(n, d, 0) * 5, rows(m, d, 1) + 1
    want = reference(x.double().numpy(), y.double().numpy())
    assert float(cmmd(x, y)) == pytest.approx(want, rel=1e-9)
    monkeypatch.setattr(clip, "CHUNK", 8)  # the large set in parts
    assert float(cmmd(x, y)) == pytest.approx(want, rel=1e-9)
    if n > 1:
        metric = ClipDistance(y)
        for part in x.split(3):
            metric.update(part)
        assert float(metric.compute()) == pytest.approx(want, rel=1e-9)


@given(st.integers(0, 10_000), st.integers(1, 9), st.integers(1, 9), st.floats(0.1, 50))
def test_cmmd_is_a_distance_of_directions(seed, n, m, length):
    x, y = rows(n, 6, seed), rows(m, 6, seed + 1)
    value = float(cmmd(x, y))
    assert 0 <= value <= 4000
    assert float(cmmd(y, x)) == pytest.approx(value, abs=1e-9)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    assert float(cmmd(length * x[order], y)) == pytest.approx(value, abs=1e-4)
    assert float(cmmd(x, x[order])) == pytest.approx(0, abs=1e-9)


def test_the_interval_is_of_images_drawn_anew():
    x, y = rows(12, 4, 0), rows(20, 4, 1) + 0.5
    drawn = np.random.default_rng(0).integers(0, 12, (5, 12))
    counts = torch.tensor(np.stack([np.bincount(d, minlength=12) for d in drawn])).double()
    statistic = gaussian_statistic(clip.unit(x), clip.unit(y), clip.gaussian_means(clip.unit(y), clip.unit(y)).mean())
    want = [reference(x.double().numpy()[d], y.double().numpy()) for d in drawn]
    np.testing.assert_allclose(statistic(counts).numpy(), want, rtol=1e-9)
    metric = ClipDistance(y)
    metric.update(x)
    low, high = metric.interval()
    assert 0 <= low < float(metric.compute()) < high


def test_small_sets_have_a_floor_that_falls_with_their_size():
    """What the documentation says of it: of one distribution, and yet above 0."""
    values = [float(cmmd(rows(n, 8, n), rows(2000, 8, 1))) for n in (5, 50, 500)]
    assert values[0] > 3 * values[1] > 9 * values[2] > 0


@given(st.integers(0, 10_000), st.integers(1, 6))
def test_zero_shot_is_the_rank_of_the_wanted_cosine(seed, k):
    images, text = rows(8, 5, seed), 3 * rows(6, 5, seed + 1)
    labels = torch.randint(6, (8,), generator=torch.Generator().manual_seed(seed))
    order = np.argsort(-cosine_similarity(images.double().numpy(), text.double().numpy()), axis=1)
    want = [float(label in named[:k]) for label, named in zip(labels.tolist(), order, strict=True)]
    assert zero_shot(images, text, labels, k).tolist() == want
    metric = ZeroShot("clip", text, k)
    for part, own in zip(images.split(3), labels.split(3), strict=True):
        metric.update(part, own)
    assert float(metric.compute()) == pytest.approx(np.mean(want))
    # Whatever the classes are called: another order of theirs changes nothing.
    swapped = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    assert zero_shot(images, text[swapped], swapped.argsort()[labels], k).tolist() == want


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cmmd(torch.zeros(2, 3), torch.ones(2, 3)), "length zero"),
        (lambda: cmmd(torch.ones(0, 3), torch.ones(2, 3)), "at least 1 images, not 0"),
        (lambda: cmmd(torch.full((2, 3), torch.nan), torch.ones(2, 3)), "not finite"),
        (lambda: ClipDistance(torch.ones(1, 3)), "at least 2 images"),
        (lambda: zero_shot(torch.ones(1, 3), torch.eye(3), torch.tensor([3])), r"0\.\.2"),
        (lambda: zero_shot(torch.ones(1, 3), torch.eye(3), torch.tensor([0]), k=4), r"between 1 and .* \(3\), not 4"),
        (lambda: zero_shot(torch.zeros(1, 3), torch.eye(3), torch.tensor([0])), "length zero"),
    ],
)
def test_what_has_no_value_is_a_sentence(call, message):
    with pytest.raises(UserError, match=message):
        call()


def test_fewer_than_two_images_are_absent():
    metric = ClipDistance(rows(3, 4, 0))
    metric.update(rows(1, 4, 1))
    found = metric.result()
    assert (found["value"], found["interval"]) == (None, None)
    assert "at least 2 images, not 1" in found["absent"]
