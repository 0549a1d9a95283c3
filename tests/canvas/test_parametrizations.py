"""Canvases against the formulas written in NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from featvis.canvas.color import decorrelate, recorrelate
from featvis.canvas.matrix import RECORRELATE
from featvis.canvas.parametrizations import Phase, Pixel, Pyramid, ScaledSpectrum
from featvis.data.reference import natural_spectrum

SIZES = [(32, 32), (31, 33), (24, 40), (33, 20)]


def streams(n: int, seed: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(100 * seed + i) for i in range(n)]


def rgb(x: np.ndarray) -> np.ndarray:
    """(3, H, W) to RGB in [0, 1]: x @ M on the channel axis, sigmoid."""
    return 1 / (1 + np.exp(-np.einsum("chw,cd->dhw", x, np.array(RECORRELATE))))


def test_colour_matrix_is_lucids_over_its_largest_column_norm():
    """Lucid's colour correlation square root, transposed and normalised, from its published digits."""
    root = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
    expected = (root / np.linalg.norm(root, axis=0).max()).T
    assert np.allclose(np.array(RECORRELATE), expected, atol=1e-7)


def test_decorrelate_is_the_inverse():
    x = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(decorrelate(recorrelate(x)), x, atol=1e-5)
    expected = np.einsum("bchw,cd->bdhw", x.numpy(), np.linalg.inv(np.array(RECORRELATE)))
    assert np.allclose(decorrelate(x).numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("decay", [0.0, 0.85, 1.0])
def test_scaled_spectrum_is_the_formula(size, decay):
    p = ScaledSpectrum(size, decay)
    parameters, fixed = p.init(streams(2))
    assert fixed is None
    assert float(parameters.std()) == pytest.approx(0.01, rel=0.05)
    h, w = size
    fy, fx = np.fft.fftfreq(h)[:, None], np.fft.rfftfreq(w)[None]
    f = np.maximum(np.sqrt(fy**2 + fx**2), 1 / max(h, w))
    for i in range(2):
        z = parameters[i].numpy()[..., 0] + 1j * parameters[i].numpy()[..., 1]
        x = np.fft.irfft2(z * math.sqrt(h * w) / f**decay, s=size, axes=(-2, -1)) / 4
        assert np.allclose(p.decode(parameters)[i].numpy(), rgb(x), atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_pixel_is_the_formula(size):
    p = Pixel(size, 1.0, min_max=True)
    parameters, _ = p.init(streams(2))
    for i in range(2):
        x = rgb(parameters[i].numpy())
        assert np.allclose(p.decode(parameters)[i].numpy(), (x - x.min()) / (x.max() - x.min()), atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("std", [None, 1.0, 1.8])
def test_phase_is_the_formula(size, std):
    r = natural_spectrum(size)
    p = Phase(size, r, "uniform", std)
    parameters, _ = p.init(streams(2))
    assert float(parameters.abs().max()) <= math.pi
    for i in range(2):
        phase = parameters[i].numpy().astype(np.float64)
        if std is not None:
            phase = (phase - phase.mean()) / phase.std() * std
        x = np.fft.irfft2(r.numpy() * np.exp(1j * phase), s=size, axes=(-2, -1))
        assert np.allclose(p.decode(parameters)[i].numpy(), rgb((x - x.mean()) / x.std()), atol=2e-4)


def before_sigmoid(canvas: Tensor) -> np.ndarray:
    x = canvas.double().numpy()
    return np.einsum("bchw,cd->bdhw", np.log(x / (1 - x)), np.linalg.inv(np.array(RECORRELATE)))


@pytest.mark.parametrize("size", SIZES)
def test_a_phase_canvas_has_the_natural_magnitude_in_the_interior_columns(size):
    r = natural_spectrum(size).numpy()
    p = Phase(size, torch.tensor(r), phase_std=None)
    canvas = p.decode(p.init(streams(1))[0])
    found = np.abs(np.fft.rfft2(before_sigmoid(canvas)[0]))
    last = r.shape[2] - 1 if size[1] % 2 == 0 else r.shape[2]
    ratio = found[:, :, 1:last] / r[:, :, 1:last]
    assert np.allclose(ratio, np.median(ratio), rtol=5e-3)


def corner(phase_std: float, offset: bool) -> float:
    p = Phase((64, 64), natural_spectrum((64, 64)), "normal", phase_std, offset)
    canvas = p.decode(*p.init(streams(30)))
    return float(canvas[:, :, 0, 0].mean() - canvas.mean())


def test_small_phases_make_bright_corners_and_an_offset_removes_them():
    # Thirty corners: a corner like any other pixel deviates by about .02 in the mean.
    assert corner(1.0, offset=False) > 0.3
    assert corner(3.0, offset=False) < 0.1
    assert abs(corner(1.0, offset=True)) < 0.08


@pytest.mark.parametrize("std", [0.5, 1.0, math.pi / math.sqrt(3), 3.0])
def test_the_coherence_of_normal_phases_is_the_closed_form(std):
    phase = torch.randn(400_000, generator=torch.Generator().manual_seed(0)) * std
    assert float(phase.cos().mean()) == pytest.approx(math.exp(-(std**2) / 2), abs=0.005)


def all_kinds(size):
    r = natural_spectrum(size)
    return [Pixel(size), ScaledSpectrum(size), Phase(size, r, offset=True)]


@pytest.mark.parametrize("p", all_kinds((20, 27)), ids=lambda p: type(p).__name__)
def test_canvases_of_a_batch_have_nothing_to_do_with_each_other(p):
    parameters, fixed = p.init(streams(3))
    together = p.decode(parameters, fixed)
    assert together.shape == (3, 3, 20, 27)
    for i in range(3):
        mine, kept = p.init(streams(3)[i : i + 1])
        assert torch.equal(mine[0], parameters[i])
        assert torch.allclose(p.decode(mine, kept)[0], together[i], atol=1e-6)
    parameters.requires_grad_()
    p.decode(parameters, fixed)[1].square().sum().backward()
    assert float(parameters.grad[1].abs().sum()) > 0
    assert float(parameters.grad[[0, 2]].abs().sum()) == 0


@pytest.mark.parametrize("size", [(5, 6), (6, 5)])
@pytest.mark.parametrize("kind", ["spectrum", "spectrum, stretched", "pixel, stretched", "phase", "phase as it is"])
def test_derivatives_are_those_of_small_differences(size, kind):
    """The derivatives that are written out, against numerical ones in double precision."""
    magnitude = 1 + torch.rand(3, size[0], size[1] // 2 + 1, generator=streams(1)[0], dtype=torch.float64)
    p = {
        "spectrum": ScaledSpectrum(size, std=0.3),
        "spectrum, stretched": ScaledSpectrum(size, std=0.3, min_max=True),
        "pixel, stretched": Pixel(size, 1.0, min_max=True),
        "phase": Phase(size, magnitude, offset=True),
        "phase as it is": Phase(size, magnitude, phase_std=None),
    }[kind]
    parameters, fixed = p.init(streams(2))
    at = parameters.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: p.decode(x, None if fixed is None else fixed.double()), (at,))


def test_a_stretched_canvas_takes_a_gradient_in_any_layout():
    """Networks that want their channels last give gradients that lie so in memory."""
    p = Pixel((6, 8), 1.0, min_max=True)
    parameters = p.init(streams(2))[0].requires_grad_()
    gradient = torch.rand(2, 3, 6, 8, generator=streams(1)[0])
    canvas = p.decode(parameters)
    (plain,) = torch.autograd.grad(canvas, parameters, gradient, retain_graph=True)
    (last,) = torch.autograd.grad(canvas, parameters, gradient.contiguous(memory_format=torch.channels_last))
    assert torch.allclose(plain, last, atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["spectrum", "pixel", "phase", "phase as it is", "phase, offset"])
def test_on_a_cpu_float32_is_what_autograd_finds_in_double_precision(size, kind):
    """One is compiled and written out, the other is made of PyTorch's operations."""
    magnitude = natural_spectrum(size)
    p = {
        "spectrum": ScaledSpectrum(size, 1.0, 0.3),
        "pixel": Pixel(size, 1.0, min_max=False),
        "phase": Phase(size, magnitude),
        "phase as it is": Phase(size, magnitude, phase_std=None),
        "phase, offset": Phase(size, magnitude, phase_std=1.8, offset=True),
    }[kind]
    parameters, fixed = p.init(streams(2))
    parameters = parameters * 1.5 + 0.3
    weights = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    found = []
    for dtype in (torch.float32, torch.float64):
        x = parameters.to(dtype).requires_grad_()
        canvas = p.decode(x, None if fixed is None else fixed.to(dtype))
        found += [canvas.detach().double(), torch.autograd.grad(canvas, x, weights.to(dtype))[0].double()]
    ours, gradient, exact, exact_gradient = found
    assert torch.allclose(ours, exact, atol=2e-6)
    assert float((gradient - exact_gradient).norm() / exact_gradient.norm()) < 2e-6


def test_phases_without_a_deviation_are_the_fixed_ones():
    p = Phase((8, 10), natural_spectrum((8, 10)), phase_std=0.0, offset=True)
    parameters, fixed = p.init(streams(2))
    assert torch.allclose(
        p.decode(parameters, fixed).double(), p.decode(parameters.double(), fixed.double()), atol=1e-6
    )


def test_a_canvas_of_what_is_not_a_number_is_none():
    p = Phase((8, 8), natural_spectrum((8, 8)))
    parameters, _ = p.init(streams(2))
    parameters[1, 0, 0, 0] = math.nan
    canvas = p.decode(parameters)
    assert canvas[0].isfinite().all()
    assert canvas[1].isnan().all()
    assert Pixel((4, 4), 1.0, min_max=False).decode(torch.full((1, 3, 4, 4), math.nan)).isnan().all()


def enlarged(grid: np.ndarray, size: tuple[int, int], a: float = -0.75) -> np.ndarray:
    """Cubic convolution (Keys 1981) of a grid (C, h, w), edges continued, one axis after the other."""

    def weight(x: np.ndarray) -> np.ndarray:
        x = np.abs(x)
        near, far = (a + 2) * x**3 - (a + 3) * x**2 + 1, a * (x**3 - 5 * x**2 + 8 * x - 4)
        return np.where(x <= 1, near, np.where(x < 2, far, 0.0))

    for axis, to in ((1, size[0]), (2, size[1])):
        count = grid.shape[axis]
        at = (np.arange(to) + 0.5) * count / to - 0.5
        taps = np.floor(at)[:, None].astype(int) + np.arange(-1, 3)
        weights = weight(at[:, None] - taps)
        grid = np.moveaxis(grid, axis, -1)
        grid = np.moveaxis((grid[..., taps.clip(0, count - 1)] * weights).sum(-1), -1, axis)
    return grid


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("exponent", "gain", "colours"), [(0.4, 1.0, True), (0.0, 2.0, False)])
def test_a_pyramid_is_the_weighted_sum_of_its_enlarged_grids(size, exponent, gain, colours):
    p = Pyramid(size, exponent, gain, std=0.3, decorrelated=colours)
    parameters, fixed = p.init(streams(2))
    assert fixed is None
    longest = max(size)
    sides = [s for s in (1, 2, 4, 8, 16, 32) if s < longest] + [longest]
    assert [max(grid) for grid in p.grids] == sides
    for i in range(2):
        left, total = parameters[i].double().numpy(), np.zeros((3, *size))
        for h, w in p.grids:
            grid, left = left[:, : h * w].reshape(3, h, w), left[:, h * w :]
            total += (max(h, w) / longest) ** -exponent * enlarged(grid, size)
        expected = rgb(gain * total) if colours else 1 / (1 + np.exp(-gain * total))
        assert left.size == 0
        assert np.allclose(p.decode(parameters)[i].numpy(), expected, atol=1e-5)
