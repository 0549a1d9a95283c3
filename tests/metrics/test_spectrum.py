"""Spectrum deviation against the full plane of numpy's fft2, and the logit scores against loops."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featvis.errors import UserError
from featvis.metrics import own_logit, periodic_share, spectrum_deviation, top1


def canvases(n, height, width, seed):
    return np.random.default_rng(seed).normal(size=(n, 3, height, width))


def half(images):
    return torch.tensor(np.abs(np.fft.rfft2(images)).mean(0))


@pytest.mark.parametrize(("height", "width"), [(8, 10), (8, 9), (7, 8), (5, 5), (1, 4), (4, 1), (1, 2)])
def test_it_is_the_deviation_of_the_full_planes_log_ratio(height, width):
    a, b = canvases(6, height, width, 0), canvases(6, height, width, 1)
    ratio = np.log(np.abs(np.fft.fft2(a)).mean(0) / np.abs(np.fft.fft2(b)).mean(0)).reshape(3, -1)[:, 1:]
    want = np.sqrt(((ratio - ratio.mean()) ** 2).mean())
    assert float(spectrum_deviation(half(a), half(b), width=width)) == pytest.approx(want, rel=1e-9, abs=1e-12)
    if width % 2 == 0:
        assert spectrum_deviation(half(a), half(b)) == spectrum_deviation(half(a), half(b), width=width)


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(1e-3, 1e3), dc=st.floats(0, 1e6), seed=st.integers(0, 99))
def test_contrast_and_brightness_are_not_shape(scale, dc, seed):
    a, b = half(canvases(3, 6, 8, seed)), half(canvases(3, 6, 8, seed + 1))
    scaled = a * scale
    scaled[:, 0, 0] = dc
    torch.testing.assert_close(spectrum_deviation(scaled, b), spectrum_deviation(a, b), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(spectrum_deviation(a, b), spectrum_deviation(b, a), rtol=1e-9, atol=1e-12)
    assert float(spectrum_deviation(scaled, scaled + (scaled == 0))) < 1e-12


def test_a_known_tilt_is_its_standard_deviation_in_nats():
    reference = torch.ones(3, 4, 3, dtype=torch.float64)
    tilted = reference.clone()
    tilted[1] = np.e**2  # a third of the coefficients, two nats up
    share = 1 / 3
    assert float(spectrum_deviation(tilted, reference)) == pytest.approx(2 * np.sqrt(share * (1 - share)))


def test_no_energy_is_nan_and_bad_input_a_sentence():
    a = half(canvases(2, 4, 6, 2))
    empty = a.clone()
    empty[2, 1, 1] = 0
    assert spectrum_deviation(empty, a).isnan()
    with pytest.raises(UserError, match="above 0"):
        spectrum_deviation(a, empty)
    with pytest.raises(UserError, match="5 spectrum columns, not 4"):
        spectrum_deviation(a, a, width=8)


def test_top1_and_own_logit_are_what_a_loop_says():
    logits = torch.tensor(np.random.default_rng(3).normal(size=(20, 6)), dtype=torch.float32)
    labels = torch.arange(20) % 6
    rows = logits.tolist()
    assert own_logit(logits, labels).tolist() == [row[c] for row, c in zip(rows, labels.tolist(), strict=True)]
    wanted = [float(row.index(max(row)) == c) for row, c in zip(rows, labels.tolist(), strict=True)]
    assert top1(logits, labels).tolist() == wanted
    assert 0 < sum(wanted) < 20
    for score in (top1, own_logit):
        with pytest.raises(UserError, match=r"0\.\.5"):
            score(logits, labels + 1)
        with pytest.raises(UserError, match="not finite"):
            score(logits.log(), labels)


@given(
    seed=st.integers(0, 99),
    period=st.sampled_from([1, 2, 3, 4, 8]),
    tiles=st.tuples(st.integers(1, 4), st.integers(2, 4)),
)
def test_the_periodic_share_is_the_energy_at_the_frequencies_of_the_period(seed, period, tiles):
    """By NumPy's transform: the multiples of 1 / period in both directions, DC aside."""
    rows, columns = tiles
    x = np.random.default_rng(seed).normal(size=(2, 3, rows * period, columns * period))
    energy = np.abs(np.fft.fft2(x)) ** 2
    energy[..., 0, 0] = 0
    want = energy[..., ::rows, ::columns].sum((1, 2, 3)) / energy.sum((1, 2, 3))
    np.testing.assert_allclose(periodic_share(torch.from_numpy(x), period).numpy(), want, atol=1e-12)


def test_what_repeats_is_all_of_a_tiled_image_and_nothing_of_another_period():
    tile = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    image = tile.repeat(1, 1, 4, 4)
    assert float(periodic_share(image, 6)) == pytest.approx(1)
    assert float(periodic_share(image, 12)) == pytest.approx(1), "12 pixels hold it twice"
    wave = torch.cos(torch.arange(24) * 2 * torch.pi / 8).expand(1, 3, 24, 24)
    assert float(periodic_share(wave, 6)) == pytest.approx(0, abs=1e-12)
    assert periodic_share(torch.ones(1, 3, 12, 12), 6).isnan().all()
    with pytest.raises(UserError, match="24 x 24 pixels are no multiple of a period of 7"):
        periodic_share(wave, 7)
