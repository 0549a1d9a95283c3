"""Plausibility and deep k-NN against scikit-learn and plain loops."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from featvis.errors import UserError
from featvis.metrics import deep_knn, plausibility
from featvis.metrics.functional import nearest


def draw(n, d, seed, offset=0.0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + offset


def by_loops(features, labels, bank, bank_labels, ids=None, bank_ids=None):
    """Nearest distance of the same class, one pair at a time."""
    out = []
    for i in range(len(features)):
        pairs = [
            float(np.sqrt(((features[i] - bank[j]).numpy() ** 2).sum()))
            for j in range(len(bank))
            if bank_labels[j] == labels[i] and (ids is None or ids[i] == 0 or ids[i] != bank_ids[j])
        ]
        out.append(min(pairs, default=float("nan")))
    return np.array(out)


def test_plausibility_is_sklearns_nearest_neighbour_of_each_class():
    features, bank = draw(30, 7, 0), draw(90, 7, 1)
    labels, bank_labels = torch.arange(30) % 3, torch.arange(90) % 3
    want = np.zeros(30)
    for c in range(3):
        near = NearestNeighbors(n_neighbors=1).fit(bank[bank_labels == c].numpy())
        want[labels == c] = near.kneighbors(features[labels == c].numpy())[0][:, 0]
    flat = plausibility(features, labels, bank, bank_labels, "flat")
    pooled = plausibility(features, labels, bank, bank_labels, "pooled")
    np.testing.assert_allclose(flat, want, rtol=1e-12)
    np.testing.assert_allclose(pooled, want**2, rtol=1e-12)


def by_cosine(features, labels, bank, bank_labels, ids=None, bank_ids=None):
    """1 - cosine to the nearest of the same class, one pair at a time."""
    out = []
    for i, x in enumerate(features.numpy()):
        others = [
            y
            for j, y in enumerate(bank.numpy())
            if bank_labels[j] == labels[i] and (ids is None or ids[i] == 0 or ids[i] != bank_ids[j])
        ]
        pairs = [1 - x @ y / np.sqrt((x @ x) * (y @ y)) for y in others if x.any() and y.any()]
        out.append(min(pairs, default=float("nan")))
    return np.array(out)


def test_normalised_plausibility_is_the_smallest_angle_within_the_class():
    features, bank = draw(30, 7, 20, 0.3), draw(90, 7, 21, 0.3)
    labels, bank_labels = torch.arange(30) % 4, torch.arange(90) % 3
    ids, bank_ids = torch.arange(30) % 5, torch.arange(90) % 5
    features[3] = bank[[4, 8]] = 0  # no direction: no value, and nobody's neighbour
    features[6] = 1e-6 * bank[9]  # of its class, in its direction
    want = by_cosine(features, labels, bank, bank_labels)
    found = plausibility(features, labels, bank, bank_labels, "cosine")
    np.testing.assert_allclose(found, want, rtol=1e-9, atol=1e-15)
    assert found.isnan().tolist() == [i % 4 == 3 for i in range(30)]
    assert float(found[~found.isnan()].max()) <= 2
    labels[3] = 0
    want = by_cosine(features, labels, bank, bank_labels, ids, bank_ids)
    found = plausibility(features, labels, bank, bank_labels, "cosine", ids, bank_ids)
    np.testing.assert_allclose(found, want, rtol=1e-9, atol=1e-15)
    assert found[3].isnan()


@settings(max_examples=25, deadline=None)
@given(
    scales=st.lists(st.floats(1e-3, 1e3), min_size=15, max_size=15), order=st.permutations(range(9)),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_normalised_plausibility_knows_directions_alone_and_no_order(scales, order, seed):
    features, bank, bank_labels = draw(6, 4, seed), draw(9, 4, seed + 1), torch.arange(9) % 2
    labels, by = torch.arange(6) % 2, torch.tensor(scales, dtype=torch.float64)[:, None]
    want = plausibility(features, labels, bank, bank_labels, "cosine")
    assert bool(((want >= 0) & (want <= 2)).all())
    rows = torch.tensor(order)
    scaled = plausibility(features * by[:6], labels, (bank * by[6:])[rows], bank_labels[rows], "cosine")
    torch.testing.assert_close(scaled, want, rtol=1e-9, atol=1e-12)


def test_the_gap_of_a_cosine_follows_from_the_distance_and_the_lengths():
    x, y = draw(40, 9, 22), draw(40, 9, 23)
    x[:5] = 3 * y[:5]  # one direction
    a, b = x.numpy(), y.numpy()
    exact = 1 - (a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1))
    found = nearest.cosine_gap((x - y).square().sum(1), x.norm(dim=1), y.norm(dim=1))
    np.testing.assert_allclose(found, exact, rtol=1e-9, atol=1e-12)
    one = nearest.cosine_gap((x[0] - y).square().sum(1), x[0].norm(), y.norm(dim=1))
    np.testing.assert_allclose(one, 1 - b @ a[0] / np.sqrt((a[0] @ a[0]) * (b**2).sum(1)), rtol=1e-9, atol=1e-12)


def test_distances_stay_exact_far_from_the_origin():
    # There float32's |x|^2 + |y|^2 - 2xy keeps no digit: 1e8 - 1e8, for distances near 1e-2.
    features, bank = draw(40, 5, 2) * 1e-3 + 1e4, draw(60, 5, 3) * 1e-3 + 1e4
    ones = torch.ones(60, dtype=torch.long)
    want = by_loops(features, ones[:40], bank, ones)
    np.testing.assert_allclose(plausibility(features, ones[:40], bank, ones, "flat"), want, rtol=1e-12)


def test_an_image_is_never_its_own_neighbour_but_an_unknown_one_may_match():
    bank = draw(12, 4, 4)
    bank_labels = torch.arange(12) % 2
    bank_ids = torch.arange(12) + 100
    bank_ids[2] = bank_ids[0]  # a copy of image 0 under the same digest
    bank[2] = bank[0]
    bank_ids[5] = 0
    features, labels, ids = bank[:6].clone(), bank_labels[:6], bank_ids[:6]
    want = by_loops(features, labels, bank, bank_labels, ids, bank_ids)
    got = plausibility(features, labels, bank, bank_labels, "flat", ids, bank_ids)
    np.testing.assert_allclose(got, want, rtol=1e-12)
    assert got[5] == 0  # its digest is unknown, so the equal bank image counts
    assert (got[:5] > 0).all()
    assert (plausibility(features, labels, bank, bank_labels, "flat") == 0).all()


def test_nan_where_the_class_has_no_other_image():
    bank, bank_labels, bank_ids = draw(3, 4, 5), torch.tensor([0, 1, 1]), torch.tensor([7, 8, 9])
    got = plausibility(
        bank[[0, 0, 1]], torch.tensor([0, 4, 1]), bank, bank_labels, "pooled", torch.tensor([7, 1, 8]), bank_ids
    )
    assert got.isnan().tolist() == [True, True, False]


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(0.01, 100), seed=st.integers(0, 99), single=st.booleans())
def test_scaling_features_scales_flat_once_pooled_twice_and_deep_knn_not_at_all(scale, seed, single):
    dtype = torch.float32 if single else torch.float64
    features, bank = draw(6, 3, seed).to(dtype), draw(9, 3, seed + 1).to(dtype)
    labels, bank_labels = torch.arange(6) % 2, torch.arange(9) % 2
    args = (labels, bank * scale, bank_labels)
    rtol = 1e-4 if single else 1e-9
    flat = plausibility(features, labels, bank, bank_labels, "flat")
    torch.testing.assert_close(plausibility(features * scale, *args, "flat"), flat * scale, rtol=rtol, atol=0)
    torch.testing.assert_close(plausibility(features * scale, *args, "pooled"), (flat * scale) ** 2, rtol=rtol, atol=0)
    knn = deep_knn(features * scale, bank * scale, 2)
    torch.testing.assert_close(knn, deep_knn(features, bank, 2), rtol=rtol, atol=1e-6)


@pytest.mark.parametrize("k", [1, 3, 20])
def test_deep_knn_is_sklearns_kth_neighbour_on_the_sphere(k):
    features, bank = draw(25, 6, 6, 0.5), draw(40, 6, 7, 0.5)
    sphere = [x.numpy() / np.linalg.norm(x.numpy(), axis=1, keepdims=True) for x in (features, bank)]
    want = NearestNeighbors(n_neighbors=k).fit(sphere[1]).kneighbors(sphere[0])[0][:, -1]
    np.testing.assert_allclose(deep_knn(features, bank, k), want, rtol=1e-8)


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 40), max_size=5), k=st.integers(1, 12), seed=st.integers(0, 99))
def test_deep_knn_is_the_same_however_the_bank_is_cut(cuts, k, seed):
    features, bank = draw(8, 5, seed), draw(40, 5, seed + 1).half()
    bank[7] = bank[31]  # ties, too
    bank_ids = torch.arange(40) % 13
    ids = torch.arange(8)
    edges = [0, *sorted(cuts), 40]
    blocks = [bank[a:b] for a, b in itertools.pairwise(edges)]
    want = deep_knn(features, bank, k, ids, bank_ids)
    np.testing.assert_array_equal(deep_knn(features, blocks, k, ids, bank_ids), want)
    sphere = bank.double() / bank.double().norm(dim=1, keepdim=True)
    mine = features / features.norm(dim=1, keepdim=True)
    for i in range(8):
        others = sphere if ids[i] == 0 else sphere[bank_ids != ids[i]]
        assert float(want[i]) == pytest.approx(float((others - mine[i]).norm(dim=1).sort().values[k - 1]), rel=1e-9)


def test_deep_knn_looks_at_a_part_of_the_bank_at_a_time(monkeypatch):
    features, bank = draw(5, 4, 1), draw(300, 4, 2)
    want = deep_knn(features, bank, 7)
    monkeypatch.setattr(nearest, "CHUNK", 64)
    np.testing.assert_array_equal(deep_knn(features, bank, 7), want)
    with pytest.raises(UserError, match="not finite"):
        deep_knn(features, [bank, bank * torch.nan], 7)


def test_deep_knn_adds_eps_to_the_norm_not_to_the_quotient():
    zero, bank = torch.zeros(1, 3, dtype=torch.float64), torch.eye(3, dtype=torch.float64)
    assert float(deep_knn(zero, bank, 1)) == pytest.approx(1)  # 0 / eps is the origin; x / ||x|| + eps would be NaN
    assert float(deep_knn(bank[:1], 3 * bank[:1], 1, eps=1.0)) == pytest.approx(3 / 4 - 1 / 2)


def test_deep_knn_leaves_the_image_itself_out_and_says_when_neighbours_run_out():
    bank, ids = draw(5, 4, 8), torch.arange(5) + 1
    self_out = deep_knn(bank, bank, 1, ids, ids)
    torch.testing.assert_close(self_out, deep_knn(bank, bank, 2))
    assert deep_knn(bank, bank, 5).isfinite().all()
    assert deep_knn(bank, bank, 5, ids, ids).isnan().all()
    assert deep_knn(bank, bank, 6).isnan().all()


@pytest.mark.parametrize("k", [4, 5, 8, 9, 10, 50, 10**6])
@pytest.mark.parametrize("cut", [False, True])
def test_deep_knn_is_nan_wherever_k_is_beyond_the_bank(k, cut):
    features, bank = draw(5, 16, 0), draw(4, 16, 1)
    found = deep_knn(features, [bank[:1], bank[1:]] if cut else bank, k)
    assert found.shape == (5,)
    assert found.isnan().all() if k > 4 else found.isfinite().all()
    # Of the two copies of itself none counts.
    ids, bank_ids = torch.tensor([1, 2, 3, 4, 0]), torch.tensor([1, 1, 2, 3])
    missing = deep_knn(features, bank, 3, ids, bank_ids).isnan()
    assert missing.tolist() == [True, False, False, False, False]


def test_bad_input_is_said_in_a_sentence():
    x, labels = draw(3, 4, 9), torch.zeros(3, dtype=torch.long)
    with pytest.raises(UserError, match="k=0"):
        deep_knn(x, x, 0)
    for definition in ("cosine", "flat"):
        with pytest.raises(UserError, match="not finite"):
            plausibility(x.log(), labels, x, labels, definition)
