"""Composed, sampled-once transforms against the sequential operations that they stand for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as TF
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor

from featvis.canvas.chains import lucid5, xplique11
from featvis.canvas.sampling import render
from featvis.canvas.transforms import Blur, Crop, Flip, Frame, Jitter, Noise, Pad, Roll, Rotate, Scale, draw


def smooth(h: int, w: int, batch: int = 1, seed: int = 0) -> Tensor:
    """A picture without detail that interpolation would lose."""
    noise = np.random.default_rng(seed).standard_normal((batch, 3, h, w))
    image = ndimage.gaussian_filter(noise, (0, 0, 4, 4), mode="wrap")
    return torch.tensor((image - image.min()) / (image.max() - image.min()), dtype=torch.float32)


def streams(n: int, seed: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(1000 * seed + i) for i in range(n)]


def apply(transform, canvas: Tensor, u: list[float]) -> tuple[Tensor, Frame]:
    """One transform with chosen draws, sampled at its own size."""
    frame = Frame.whole((canvas.shape[-2], canvas.shape[-1]), 1, 1)
    frame = transform(frame, torch.tensor(u).view(1, 1, -1))
    h, w = (round(float(s)) for s in frame.size[0, 0])
    return render(canvas, frame, (h, w))[0], frame


def close(a: Tensor, b: Tensor, atol: float = 1e-5) -> None:
    assert a.shape == b.shape
    assert float((a - b).abs().max()) <= atol


def test_pad_is_constant_padding():
    canvas = smooth(20, 31)
    out, _ = apply(Pad(5, 0.3), canvas, [])
    close(out, torch.nn.functional.pad(canvas, (5,) * 4, value=0.3)[0])


@given(st.floats(0, 0.999), st.floats(0, 0.999))
@settings(deadline=None, max_examples=30)
def test_jitter_is_a_whole_pixel_slice(a, b):
    canvas = smooth(24, 30)
    out, _ = apply(Jitter(6), canvas, [a, b])
    x, y = int(np.float32(a) * 7), int(np.float32(b) * 7)
    close(out, canvas[0, :, y : y + 18, x : x + 24])


def test_jitter_reaches_both_ends_evenly():
    u = torch.rand(1, 7000, 2, generator=torch.Generator().manual_seed(0))
    frame = Jitter(6)(Frame.whole((24, 24), 1, 7000), u)
    counts = torch.bincount(frame.matrix[0, :, 0, 2].long(), minlength=7)
    assert counts.shape == (7,)
    # Seven equal cells of 1000: five deviations of a binomial are 150.
    assert ((counts - 1000).abs() < 150).all()


def test_a_roll_is_numpys_and_comes_before_the_rest_of_a_chain():
    canvas = torch.rand(2, 3, 20, 24, generator=torch.Generator().manual_seed(0))
    frame = draw([Roll(6), Flip(1.0)], (20, 24), 3, streams(2))
    by = frame.roll.long().numpy()
    assert np.abs(by).max() <= 6
    assert len(np.unique(by.reshape(-1, 2), axis=0)) > 1
    views = render(canvas, frame, (20, 24)).view(2, 3, 3, 20, 24)
    for i in range(2):
        for v in range(3):
            expected = np.roll(canvas[i].numpy(), tuple(by[i, v]), (1, 2))[:, :, ::-1].copy()
            close(views[i, v], torch.from_numpy(expected))
            one = render(canvas[i : i + 1], frame.select(slice(i, i + 1), slice(v, v + 1)), (20, 24))
            close(one[0], views[i, v])
    leaf = canvas.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(render(leaf, draw([Roll(6)], (20, 24), 1, streams(2)), (20, 24)).sum(), leaf)
    assert bool((gradient == 1).all()), "every pixel is seen once"
    with pytest.raises(ValueError, match="stands first"):
        draw([Jitter(2), Roll(6)], (20, 24), 1, streams(1))


def test_flip_is_a_mirror():
    canvas = smooth(12, 17)
    close(apply(Flip(), canvas, [0.2])[0], canvas[0].flip(-1))
    close(apply(Flip(), canvas, [0.7])[0], canvas[0])


def test_rotate_turns_as_torchvision_does():
    canvas = smooth(41, 41)
    out, _ = apply(Rotate((25.0,)), canvas, [0.0])
    expected = TF.rotate(canvas[0], 25.0, interpolation=TF.InterpolationMode.BILINEAR)
    inside = (slice(None), slice(10, 31), slice(10, 31))
    close(out[inside], expected[inside], 1e-3)
    assert float((out[inside] - canvas[0][inside]).abs().max()) > 0.1


def test_scale_is_a_resize():
    canvas = smooth(40, 60)
    out, frame = apply(Scale((1.5,)), canvas, [0.0])
    assert frame.size[0, 0].tolist() == [60, 90]
    close(out, torch.nn.functional.interpolate(canvas, (60, 90), mode="bilinear", align_corners=False)[0], 1e-5)


def test_blur_is_scipys_at_the_scale_where_it_stands():
    canvas = smooth(48, 48) + 0.2 * torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(1))
    inside = (slice(None), slice(8, 40), slice(8, 40))
    out, _ = apply(Blur(1.3, 1.3), canvas, [0.5])
    expected = torch.tensor(ndimage.gaussian_filter(canvas[0].numpy(), (0, 1.3, 1.3), mode="constant", radius=5))
    close(out[inside], expected[inside], 1e-4)
    # After halving, a pixel of the picture is two of the canvas, and the blur twice as wide there.
    frame = Frame.whole((48, 48), 1, 1)
    frame = Blur(1.0, 1.0)(Scale((0.5,))(frame, torch.zeros(1, 1, 1)), torch.zeros(1, 1, 1))
    assert float(frame.blur[0, 0]) == pytest.approx(2.0)


@given(st.floats(0.02, 1.2), st.floats(0, 0.5), st.integers(16, 90), st.integers(16, 90), st.booleans())
@settings(deadline=None, max_examples=40)
def test_crops_lie_inside_the_canvas(side, spread, h, w, inside):
    chain = [Crop(side, spread, centre="inside" if inside else "normal")]
    frame = draw(chain, (h, w), 40, streams(2))
    corner, extent = frame.matrix[..., 2], frame.size
    assert (corner >= -1e-4).all()
    assert (corner[..., 0] + extent[..., 1] <= w + 1e-3).all()
    assert (corner[..., 1] + extent[..., 0] <= h + 1e-3).all()
    fraction = extent[..., 0] / min(h, w)
    assert (fraction >= 0.05 - 1e-5).all()
    assert (fraction <= 1 + 1e-5).all()
    assert torch.equal(extent[..., 0], extent[..., 1])


def test_crop_sides_and_places_have_their_distributions():
    frame = draw([Crop(0.5, 0.1)], (100, 100), 4000, streams(1))
    side = frame.size[0, :, 0] / 100
    assert float(side.mean()) == pytest.approx(0.5, abs=0.006)
    assert float(side.std()) == pytest.approx(0.1, abs=0.006)
    place = frame.matrix[0, :, 0, 2] / (100 - frame.size[0, :, 0])
    assert float(place.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(place.std()) == pytest.approx(12**-0.5, abs=0.01)
    uniform = draw([Crop(0.275, 0.025, "uniform", "normal")], (100, 100), 4000, streams(1))
    assert 0.2499 < float(uniform.size.min()) / 100 < 0.252
    assert 0.298 < float(uniform.size.max()) / 100 < 0.3001
    middle = (uniform.matrix[0, :, 0, 2] + uniform.size[0, :, 0] / 2) / 100
    assert float(middle.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(middle.std()) == pytest.approx(0.15, abs=0.01)


def test_a_crop_is_a_slice_resized():
    canvas = smooth(60, 60)
    frame = Crop(0.5, 0.0)(Frame.whole((60, 60), 1, 1), torch.tensor([[[0.5, 0.5, 0.2]]]))
    out = render(canvas, frame, (75, 75))[0]
    expected = torch.nn.functional.interpolate(
        canvas[:, :, 6:36, 15:45], (75, 75), mode="bilinear", align_corners=False
    )
    # The slice cannot see past its own edge; the crop can.
    close(out[:, 2:-2, 2:-2], expected[0, :, 2:-2, 2:-2], 1e-5)


def test_noise_is_drawn_view_by_view_in_its_range():
    canvas, chain = torch.full((2, 3, 16, 16), 0.5), [Noise(uniform=0.1)]
    frame = draw(chain, (16, 16), 6, streams(2))
    whole = render(canvas, frame, (64, 64), streams(2, seed=5))
    noise = (whole - 0.5).view(2, 6, 3, 64, 64)
    # +-.1 of (-1, 1) is +-.05 of [0, 1].
    assert 0.0499 < float(noise.abs().max()) <= 0.0501
    assert float(noise.std()) == pytest.approx(0.1 / 12**0.5, rel=0.01)
    flat = noise.flatten(2).flatten(0, 1)
    correlation = torch.corrcoef(flat) - torch.eye(12)
    assert float(correlation.abs().max()) < 0.05
    pieces, generators = [], streams(2, seed=5)
    for unit in range(2):
        for views in (slice(0, 1), slice(1, 4), slice(4, 6)):
            part = frame.select(slice(unit, unit + 1), views)
            pieces.append(render(canvas[unit : unit + 1], part, (64, 64), generators[unit : unit + 1]))
    close(torch.cat(pieces), whole, 0.0)
    normal = draw([Noise(normal=0.08, uniform=0.04)], (16, 16), 2, streams(1))
    both = render(canvas[:1], normal, (128, 128), streams(1)) - 0.5
    assert float(both.std()) == pytest.approx((0.04**2 + 0.02**2 / 3) ** 0.5, rel=0.01)


def sequential_lucid(canvas: Tensor, u: list[float]) -> np.ndarray:
    """Lucid's chain, operation by operation, with SciPy and slices (one resampling each)."""
    x = np.pad(canvas[0].numpy(), ((0, 0), (12, 12), (12, 12)), constant_values=0.5)
    i, j = int(u[0] * 9), int(u[1] * 9)
    x = x[:, j : x.shape[1] - 8 + j, i : x.shape[2] - 8 + i]
    scale = 0.90 + 0.02 * int(u[2] * 11)
    size = round(x.shape[1] * scale)
    x = torch.nn.functional.interpolate(torch.tensor(x)[None], (size, size), mode="bilinear", align_corners=False)[0]
    angle = [*range(-10, 11), 0, 0, 0, 0, 0][int(u[3] * 26)]
    x = TF.rotate(x, float(angle), interpolation=TF.InterpolationMode.BILINEAR, fill=[0.5] * 3).numpy()
    i, j = int(u[4] * 5), int(u[5] * 5)
    return x[:, j : x.shape[1] - 4 + j, i : x.shape[2] - 4 + i]


@pytest.mark.parametrize("seed", range(4))
def test_lucid5_is_the_sequence_of_its_operations(seed):
    canvas = smooth(76, 76, seed=seed)
    u = np.random.default_rng(seed).uniform(0, 0.999, 6).astype(np.float32)
    u[2] = 10.5 / 11 if seed % 2 else 5.5 / 11  # a factor that makes a whole number of pixels is 1 exactly
    expected = sequential_lucid(canvas, u.tolist())
    frame, at = Frame.whole((76, 76), 1, 1), 0
    for transform in lucid5():
        frame = transform(frame, torch.tensor(u[at : at + transform.draws]).view(1, 1, -1))
        at += transform.draws
    out = render(canvas, frame, expected.shape[1:])[0].numpy()
    # Whole-pixel sizes in the sequence shift edges by up to half a pixel of a smooth picture.
    assert np.abs(out - expected)[:, 20:-20, 20:-20].max() < 0.03
    assert np.corrcoef(out.ravel(), expected.ravel())[0, 1] > 0.995


def test_xplique11_shows_a_third_of_the_canvas():
    frame = draw(xplique11((256, 256)), (256, 256), 500, streams(1))
    # 16 units of canvas, 8 of padding, 16 of jitter, scaled by .92 to .96, 2 of jitter.
    sides = (16 + 8 - 16) * 16 * torch.tensor([0.92, 0.96]) - 2 * 16
    assert float(frame.size.min()) >= float(sides[0]) - 1e-3
    assert float(frame.size.max()) <= float(sides[1]) + 1e-3
    assert frame.blur is not None
    assert 1.0 / 0.96 - 1e-4 <= float(frame.blur.min()) <= float(frame.blur.max()) <= 1.1 / 0.92 + 1e-4
    flips = (frame.matrix[0, :, 0, 0] < 0).float().mean()
    assert float(flips) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("chain", [lucid5(), xplique11((40, 40)), [Crop(0.5, 0.2)]], ids=["lucid", "xplique", "crop"])
def test_every_view_draws_its_own_and_no_unit_hangs_on_its_neighbours(chain):
    together = draw(chain, (40, 40), 5, streams(3))
    matrices = together.matrix.view(15, 6)
    assert len(torch.unique(matrices, dim=0)) == 15
    alone = draw(chain, (40, 40), 5, streams(3)[1:2])
    assert torch.equal(alone.matrix[0], together.matrix[1])


@pytest.mark.parametrize("chain", [lucid5(), xplique11((24, 24)), [Crop(0.6, 0.2)]], ids=["lucid", "xplique", "crop"])
def test_the_gradient_is_the_transpose(chain):
    """Rendering is affine in the canvas: <render(x) - render(0), y> = <x, gradient of <render(x), y>>."""
    frame = draw(chain, (24, 24), 3, streams(2))
    x = torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(3)).requires_grad_()
    out = render(x, frame, (20, 20))
    y = torch.rand(out.shape, generator=torch.Generator().manual_seed(4))
    (gradient,) = torch.autograd.grad((out * y).sum(), x)
    zero = render(torch.zeros_like(x), frame, (20, 20))
    left, right = ((out - zero) * y).sum(), (x * gradient).sum()
    assert float(left) == pytest.approx(float(right), rel=1e-4)
