"""Intervals against scipy's bootstrap; the fast statistics of resamples against doing each one over."""

import numpy as np
import pytest
import scipy.stats
import torch

from featvis.errors import UserError
from featvis.intervals import expanded, share_interval
from featvis.metrics import (
    LogitMagnitude,
    Transferability,
    bootstrap,
    frechet_distance,
    kernel_distance,
    spectrum_deviation,
)
from featvis.metrics.functional.distance import polynomial_kernel
from featvis.metrics.functional.spectrum import spectrum_weights
from featvis.metrics.resampling import (
    frechet_statistic,
    group_sums,
    kernel_statistic,
    mean_statistic,
    ratio_statistic,
    spectrum_statistic,
)


def draw(n, d, seed, offset=0.0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=g, dtype=torch.float64) * torch.linspace(0.2, 2, d) + offset


def resamples(n, r, seed):
    """Indices of r resamples, and the counts they are."""
    picked = np.random.default_rng(seed).integers(n, size=(r, n))
    counts = np.stack([np.bincount(row, minlength=n) for row in picked])
    return torch.tensor(picked), torch.tensor(counts, dtype=torch.float64)


@pytest.mark.parametrize("n", [10, 80])
def test_the_interval_of_a_mean_is_scipys(n):
    values = draw(n, 1, 0)[:, 0] ** 2
    ours = bootstrap(mean_statistic(values), n, resamples=20000)
    theirs = scipy.stats.bootstrap((values.numpy(),), np.mean, n_resamples=20000, method="percentile", rng=1)
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    np.testing.assert_allclose(ours, theirs.confidence_interval, atol=0.03 * width)


def test_the_interval_of_a_mean_covers_it_about_as_often_as_it_says():
    inside = 0
    for seed in range(150):
        values = draw(40, 1, seed, 1.0)[:, 0]
        low, high = bootstrap(mean_statistic(values), 40, resamples=200)
        inside += low <= 1.0 <= high
    assert 0.88 <= inside / 150 <= 0.99


def of_logits(values, labels):
    """The metric of images whose logit of their own class is given."""
    metric = LogitMagnitude()
    logits = torch.zeros(len(values), int(labels.max()) + 1, dtype=torch.float64)
    metric.update(logits.scatter_(1, labels[:, None], values[:, None]).float(), labels)
    return metric


def test_several_pictures_of_a_class_are_resampled_together_as_scipy_does_with_their_means():
    labels = torch.arange(60) % 12
    values = draw(12, 1, 0)[labels, 0] + 0.1 * draw(60, 1, 1)[:, 0]
    metric = of_logits(values, labels)
    metric.resamples = 20000
    means = values.reshape(5, 12).mean(0).numpy()
    # As wide as a t interval of so few (Hesterberg 2015, section 5.4.2).
    level = 1 - 2 * scipy.stats.norm.sf(scipy.stats.t.ppf(0.975, 11) * (12 / 11) ** 0.5)
    theirs = scipy.stats.bootstrap(
        (means,), np.mean, n_resamples=20000, method="percentile", confidence_level=level, rng=1
    ).confidence_interval
    np.testing.assert_allclose(metric.interval(), theirs, atol=0.03 * (theirs.high - theirs.low))


def test_over_classes_the_interval_covers_what_over_images_it_misses():
    over_classes = over_images = 0
    for seed in range(60):
        labels = torch.arange(300) % 15
        values = 1 + draw(15, 1, seed)[labels, 0] + 0.2 * draw(300, 1, seed + 1000)[:, 0]
        low, high = of_logits(values, labels).interval()
        over_classes += low <= 1 <= high
        low, high = bootstrap(mean_statistic(values), 300, resamples=200)
        over_images += low <= 1 <= high
    assert over_classes / 60 > 0.8
    assert over_images / 60 < 0.5


def test_of_ten_classes_the_interval_covers_as_often_as_it_says():
    """Over the same draws the plain percentiles cover 91 of 100, these 96."""
    inside = {True: 0, False: 0}
    for seed in range(400):
        values = draw(10, 1, seed, 1.0)[:, 0].float().double()
        for wide in inside:
            ends = of_logits(values, torch.arange(10)).interval() if wide else bootstrap(mean_statistic(values), 10)
            inside[wide] += ends[0] <= 1.0 <= ends[1]
    assert inside[False] / 400 < 0.925 < inside[True] / 400 < 0.975


def test_one_picture_a_class_or_one_class_leaves_the_images_their_interval():
    values = draw(20, 1, 5)[:, 0].float().double()
    plain = bootstrap(mean_statistic(values), 20, level=expanded(20))
    assert of_logits(values, torch.randperm(20)).interval() == plain
    assert of_logits(values, torch.full((20,), 3)).interval() == plain
    sums, sizes = group_sums(torch.tensor([1.0, 2.0, 4.0]).double(), torch.tensor([7, 2, 7]))
    assert ratio_statistic(sums, sizes)(torch.tensor([[1.0, 1.0], [2.0, 0.0]]).double()).tolist() == [7 / 3, 2.5]


@pytest.mark.parametrize(("right", "n"), [(0, 10), (10, 10), (0, 3), (500, 500), (5, 10), (1, 50), (137, 500)])
def test_the_interval_of_a_share_of_one_picture_a_class_is_wilsons(right, n):
    theirs = scipy.stats.binomtest(right, n).proportion_ci(method="wilson")
    metric = Transferability("vgg16.tv_in1k")
    labels = torch.arange(n)
    metric.update(torch.eye(n + 1)[torch.where(labels < right, labels, labels + 1)], labels)
    assert metric.interval() == pytest.approx(tuple(theirs))
    assert metric.result()["value"] == right / n


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
@pytest.mark.parametrize("pictures", [5, 20])
def test_over_classes_whose_pictures_are_alike_it_covers_the_share(share, pictures):
    """Ten classes, correlation .25 within one (beta-binomial); percentiles of resampled classes cover less of it."""
    rng = np.random.default_rng(0)
    inside, plain, sizes = 0, 0, torch.full((10,), float(pictures)).double()
    for _ in range(400):
        hits = torch.from_numpy(rng.binomial(pictures, rng.beta(3 * share, 3 * (1 - share), 10))).double()
        low, high = share_interval(hits, sizes)
        inside += low <= share <= high
        low, high = bootstrap(ratio_statistic(hits, sizes), 10, resamples=200)
        plain += low <= share <= high
    assert inside / 400 >= 0.9
    assert plain < inside
    assert share > 0.02 or 0.4 < plain / 400 < 0.75


def test_pictures_that_are_as_different_as_those_of_other_classes_count_each():
    sizes = torch.full((2000,), 5.0).double()
    hits = torch.from_numpy(np.random.default_rng(1).binomial(5, 0.3, 2000)).double()
    found = share_interval(hits, sizes)
    theirs = scipy.stats.binomtest(int(hits.sum()), 10000).proportion_ci(method="wilson")
    assert found == pytest.approx(tuple(theirs), abs=0.0015)
    # Of a class's pictures that are all the same no more is known than of one of each.
    alike = share_interval(5.0 * (hits > 1).double(), sizes)
    theirs = scipy.stats.binomtest(int((hits > 1).sum()), 2000).proportion_ci(method="wilson")
    assert alike == pytest.approx(tuple(theirs), abs=0.0015)


def test_it_repeats_and_chunks_do_not_show(monkeypatch):
    values = draw(30, 1, 1)[:, 0]
    first = bootstrap(mean_statistic(values), 30, resamples=100, seed=3)
    assert first == bootstrap(mean_statistic(values), 30, resamples=100, seed=3)
    assert first != bootstrap(mean_statistic(values), 30, resamples=100, seed=4)
    monkeypatch.setattr("featvis.metrics.resampling.CHUNK", 30 * 7)
    np.testing.assert_allclose(first, bootstrap(mean_statistic(values), 30, resamples=100, seed=3), rtol=1e-12)


@pytest.mark.parametrize(("n", "m", "d"), [(6, 9, 14), (20, 9, 14), (9, 40, 5), (40, 9, 5), (30, 40, 5), (2, 2, 3)])
def test_a_resampled_frechet_distance_is_that_of_the_resampled_images(n, m, d):
    x, y = draw(n, d, 2, 0.5), draw(m, d, 3)
    picked, counts = resamples(n, 12, 4)
    want = torch.stack([frechet_distance(x[rows], y) for rows in picked])
    torch.testing.assert_close(frechet_statistic(x, y)(counts), want, rtol=1e-6, atol=1e-6)


def test_a_resampled_kernel_distance_is_that_of_the_resampled_images():
    x, y = draw(11, 6, 5, 0.5), draw(17, 6, 6)
    picked, counts = resamples(11, 12, 7)
    want = torch.stack([kernel_distance(x[rows], y) for rows in picked])
    torch.testing.assert_close(kernel_statistic(x, y)(counts), want, rtol=1e-9, atol=1e-9)


def test_a_resampled_spectrum_deviation_is_that_of_the_resampled_groups():
    spectra = draw(24, 3 * 4 * 3, 8).abs().reshape(24, 3, 4, 3) + 0.1
    reference = draw(1, 36, 9).abs().reshape(3, 4, 3) + 0.1
    groups = torch.tensor([0] * 10 + [1] * 2 + [2] * 12)
    sums = torch.stack([spectra[groups == g].sum(0) for g in range(3)])
    statistic = spectrum_statistic(
        sums.flatten(1), groups.bincount().double(), reference.reshape(-1), spectrum_weights(4, 3)
    )
    picked, counts = resamples(3, 9, 10)
    want = [spectrum_deviation(torch.cat([spectra[groups == g] for g in rows]).mean(0), reference) for rows in picked]
    torch.testing.assert_close(statistic(counts), torch.stack(want))


def test_resampling_biases_the_distances_up_and_centring_undoes_it():
    x, y = draw(40, 60, 11), draw(200, 60, 12)
    for statistic, value in (
        (frechet_statistic(x, y), float(frechet_distance(x, y))),
        (kernel_statistic(x, y), float(kernel_distance(x, y))),
    ):
        plain = bootstrap(statistic, 40, resamples=400)
        centred = bootstrap(statistic, 40, resamples=400, centre=value)
        assert plain[0] > value  # the plain interval does not even hold the value
        assert centred[0] < value < centred[1]
        assert centred[1] - centred[0] == pytest.approx(plain[1] - plain[0])


def test_the_centred_interval_of_a_kernel_distance_covers_it():
    # The truth, with the reference held fixed, from a very large draw.
    y = draw(60, 4, 13, 1.0)
    many = draw(1500, 4, 14)
    kernel = polynomial_kernel(many, many)
    within = (kernel.sum() - kernel.diagonal().sum()) / (1500 * 1499)
    reference = polynomial_kernel(y, y)
    yy = (reference.sum() - reference.diagonal().sum()) / (60 * 59)
    truth = float(within + yy - 2 * polynomial_kernel(many, y).mean())
    inside = 0
    for seed in range(60):
        x = draw(60, 4, 1000 + seed)
        low, high = bootstrap(kernel_statistic(x, y), 60, resamples=150, seed=seed, centre=float(kernel_distance(x, y)))
        inside += low <= truth <= high
    assert 0.85 <= inside / 60 <= 1


def test_bad_input_is_said_in_a_sentence():
    for n, r, level in ((0, 10, 0.9), (5, 0, 0.9), (5, 10, 1.0)):
        with pytest.raises(UserError, match="bootstrap needs"):
            bootstrap(lambda counts: counts[:, 0], n, resamples=r, level=level)
    with pytest.raises(UserError, match="no resample"):
        bootstrap(lambda counts: counts[:, 0] * torch.nan, 5)
