"""Compiled loops against PyTorch and NumPy."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
import torch

from featvis.engine import kernels, loops


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def threads(request, monkeypatch):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    monkeypatch.setattr(kernels, "LEAST", 8)
    yield request.param
    torch.set_num_threads(before)


def images(shape, dtype, seed=0):
    x = 4 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return x.to(dtype).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bound", [6.0, math.inf])
@pytest.mark.parametrize("shape", [(3, 5, 7, 9), (2, 1, 4, 4), (1, 40, 1, 1)])
def test_clip_gradient_is_pytorchs(threads, dtype, bound, shape):
    output = images(shape, dtype).clamp(0, bound)
    output.flatten()[:2] = torch.tensor([-0.0, 0.0]).to(dtype)
    gradient = images(shape, dtype, 1)
    upper = min(bound, torch.finfo(dtype).max)
    expected = torch.ops.aten.hardtanh_backward(gradient, output, 0.0, upper)
    kept = gradient.clone(memory_format=torch.preserve_format)
    assert torch.equal(kernels.clip_gradient(gradient, output, bound), expected)
    assert torch.equal(gradient, kept)
    assert kernels.clip_gradient(gradient, output, bound, in_place=True) is gradient
    assert torch.equal(gradient, expected)


def test_memory_that_is_laid_out_otherwise_is_refused():
    """In place, a copy would be changed instead."""
    gradient, output = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    with pytest.raises(RuntimeError, match="view"):
        kernels.clip_gradient(gradient, output, 6.0, in_place=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("stride", [(2, 2), (1, 2), (3, 1)])
@pytest.mark.parametrize("before", [(0, 0), (1, 0), (2, 3)])
def test_interleave_is_slicing(threads, dtype, stride, before):
    down, across = stride
    planes = [images((2, 5, 6, 7), dtype, i) for i in range(down * across)]
    shape, bound = torch.Size((2, 5, 15, 12)), 6.0
    whole = torch.zeros(2, 5, 80, 80, dtype=dtype)
    for i, plane in enumerate(planes):
        whole[:, :, i // across : 6 * down : down, i % across : 7 * across : across] = plane
    joined = [torch.cat(planes, 1).contiguous(memory_format=torch.channels_last)]
    expected = whole[:, :, before[0] : before[0] + 15, before[1] : before[1] + 12]
    assert torch.equal(kernels.interleave(planes, stride, before, shape), expected)
    assert torch.equal(kernels.interleave(joined, stride, before, shape), expected)
    output = images(shape, dtype, 99).clamp(0, bound)
    through = expected * ((output > 0) & (output < bound))
    assert torch.equal(kernels.interleave(planes, stride, before, shape, output, bound), through)


def test_normalise_and_its_gradient():
    mean, std = torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1), torch.tensor([0.2, 0.3, 0.25]).view(1, 3, 1, 1)
    x = torch.rand(2, 3, 9, 11, generator=torch.Generator().manual_seed(0)).requires_grad_()
    found = kernels.normalise(x, mean, std, torch.bfloat16, True)
    expected = (x.double() - mean) / std
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(found.double(), expected, rtol=2**-7, atol=1e-6)
    gradient = images(found.shape, torch.bfloat16)
    (got,) = torch.autograd.grad(found, x, gradient)
    assert torch.allclose(got, gradient.float() / std, rtol=1e-6)


@pytest.mark.parametrize("bad", [None, "gradient", "canvas"])
def test_add_magnitude_is_the_channels_mean_and_tells_what_is_not_finite(bad):
    g = torch.Generator().manual_seed(0)
    gradient, canvas, total = (torch.randn(s, generator=g) for s in ((3, 3, 8, 9), (3, 3, 8, 9), (3, 8, 9)))
    if bad:
        {"gradient": gradient, "canvas": canvas}[bad][1, 2, 3, 4] = math.nan if bad == "gradient" else math.inf
    expected = total + gradient.abs().mean(1)
    finite = kernels.add_magnitude(gradient, canvas, total).isfinite()
    assert finite.tolist() == [True, bad is None, True]
    assert torch.allclose(total, expected, atol=1e-6, equal_nan=True)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="has a gradient of"):
        # Without the checks of types, which are for tests alone.
        inspect.unwrap(kernels.add_magnitude)(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8), torch.zeros(1, 9, 8))


@loops.compiled
def _each(x, sine, cosine, power):
    for i in range(x.size):
        sine[i], cosine[i] = loops.sin_cos(x[i])
        power[i] = loops.exp(x[i])


@pytest.mark.parametrize("width", [1.0, 10.0, 1000.0, 1e6])
def test_sine_cosine_and_exponential_are_numpys(width):
    x = (width * np.random.default_rng(0).uniform(-1, 1, 20_000)).astype(np.float32)
    found = [np.empty_like(x) for _ in range(3)]
    _each(x, *found)
    exact = x.astype(np.float64)
    assert np.abs(found[0] - np.sin(exact)).max() < 1.5e-7
    assert np.abs(found[1] - np.cos(exact)).max() < 1.5e-7
    assert np.allclose(found[2], np.exp(np.clip(exact, -87, 87)), rtol=3e-7)
    _each(np.full(3, np.nan, np.float32), *(f[:3] for f in found))
    assert all(np.isnan(f[:3]).all() for f in found)
