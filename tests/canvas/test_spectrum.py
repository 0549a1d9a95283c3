"""The natural spectrum against NumPy loops, and its resizing against spectra computed at the other size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from featvis.canvas.matrix import RECORRELATE
from featvis.canvas.spectrum import magnitude, resize_spectrum
from featvis.data.files import fit, open_rgb, to_tensor


def numpy_mean(canvases: list[np.ndarray]) -> np.ndarray:
    inverse = np.linalg.inv(np.array(RECORRELATE))
    found = []
    for canvas in canvases:
        planes = [sum(canvas[c] * inverse[c, d] for c in range(3)) for d in range(3)]
        found.append([np.abs(np.fft.rfft2(plane)) for plane in planes])
    return np.mean(found, axis=0)


@pytest.mark.parametrize("size", [(16, 16), (15, 21), (12, 19), (17, 10)])
def test_the_magnitude_of_a_batch_is_a_loop_over_images_and_planes(size):
    canvases = np.random.default_rng(0).uniform(size=(5, 3, *size)).astype(np.float32)
    found = magnitude(torch.tensor(canvases)).mean(0)
    assert np.allclose(found.numpy(), numpy_mean(list(canvases.astype(np.float64))), rtol=1e-3, atol=1e-3)


def reference(side: int = 64) -> torch.Tensor:
    return torch.rand(3, side, side // 2 + 1, generator=torch.Generator().manual_seed(0)) + 0.5


def test_its_own_size_changes_nothing():
    # |F| of a real image is symmetric in the columns of fx = 0 and fx = N/2; the rest is free.
    assert torch.allclose(resize_spectrum(reference(), (64, 64)), reference(), rtol=1e-5)


@pytest.mark.parametrize("side", [32, 33, 20])
def test_a_smaller_square_takes_the_low_frequency_block(side):
    whole, part = reference(), resize_spectrum(reference(), (side, side))
    rows = np.fft.fftfreq(side, 1 / side).astype(int)
    expected = whole[:, rows][:, :, : side // 2 + 1] * (side / 64) ** 2
    assert torch.allclose(part, expected, rtol=1e-4)


def test_frequencies_are_cycles_per_short_side_so_that_textures_stay_isotropic():
    f = torch.hypot(torch.fft.fftfreq(128, 1 / 128)[:, None], torch.fft.rfftfreq(128, 1 / 128)[None]).clamp_min(1)
    law = (1 / f).expand(3, -1, -1)
    part = resize_spectrum(law, (40, 61)) / (40 * 61 / 128**2)
    fy, fx = np.fft.fftfreq(40, 1 / 40)[:, None], np.fft.rfftfreq(61, 1 / 40)[None]
    expected = 1 / np.maximum(np.hypot(fy, fx), 1)
    # Between whole frequencies the logarithm is interpolated: a few per cent at the lowest ones.
    far = np.hypot(fy, fx) > 4
    assert np.allclose(part[0].numpy()[far], expected[far], rtol=0.03)


def test_beyond_the_references_last_frequency_it_falls_as_one_over_f():
    flat = torch.ones(3, 32, 17)
    part = resize_spectrum(flat, (96, 96)) / 9
    assert float(part[0, 0, 16]) == pytest.approx(1)
    assert float(part[0, 0, 32]) == pytest.approx(0.5)
    assert float(part[0, 48, 0]) == pytest.approx(16 / 48)
    assert float(part[0, 0, 0]) == pytest.approx(1)


def test_real_images_at_another_size_have_the_resized_spectrum(sample):
    """The rule against the truth: 60 photographs at canvases 128 and 64."""
    files = sorted(sample.glob("*/*.JPEG"))[::17]
    images = [open_rgb(f) for f in files]

    def at(side: int) -> torch.Tensor:
        return torch.stack([magnitude(to_tensor(fit(i, (side, side)))) for i in images]).mean(0)

    ratio = (resize_spectrum(at(128), (64, 64)) / at(64)).log()
    # Antialiasing rolls the last octave off; below it the two agree.
    low = torch.hypot(torch.fft.fftfreq(64, 1 / 64)[:, None], torch.fft.rfftfreq(64, 1 / 64)[None]) < 16
    assert float(ratio[:, low].abs().mean()) < 0.06
