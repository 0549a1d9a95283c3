"""Random views of a canvas: canvas (B, C, H, W) in, views (B * V, C, h, w) out, an own draw for each view.

Every geometric transform is an affine map, so a chain of them is one 2 x 3 matrix a view and the canvas is sampled
once, bilinearly: no copy a transform, no blur a step, and the cost of one `grid_sample` however long the chain. Blur
commutes with shifts, rotations and flips, and with scaling once its width is scaled too, so it is applied to the views,
which are smaller than the canvas; they are sampled with a margin for it. Noise is added to the finished views.

Coordinates are continuous pixels (x, y): the first pixel's centre lies at (.5, .5). A `Frame` follows what the
sequential transforms would have done: its matrix takes a view's coordinates to the canvas's, its size is the size that
the picture would have by then.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from featvis.canvas.constants import constant


@dataclass(frozen=True)
class Frame:
    """The state of a batch of views between two transforms.

    Attributes:
        matrix: (B, V, 2, 3), coordinates of the view to coordinates of the canvas.
        size: (B, V, 2), height and width so far, in pixels.
        blur: (B, V) deviation of the Gaussian blur in canvas pixels, or None.
        reach: largest deviation of the blur that the chain draws, as a fraction of the picture; 0: to be looked up.
        fill: value in [0, 1] outside the canvas; None continues its edge, as a plain resize does.
        noise: deviation of the normal noise and half-width of the uniform one, in [0, 1] units.
        moved: whether any transform may have changed the matrix.
        roll: (B, V, 2), rows and columns by which the canvas is rolled round before all else, or None.
    """

    matrix: Float[Tensor, "b v 2 3"]
    size: Float[Tensor, "b v 2"]
    blur: Float[Tensor, "b v"] | None = None
    reach: float = 0.0
    fill: float | None = None
    noise: tuple[float, float] = (0.0, 0.0)
    moved: bool = True
    roll: Float[Tensor, "b v 2"] | None = None

    @classmethod
    def whole(cls, size: tuple[int, int], batch: int, views: int, device: torch.device | str = "cpu") -> Frame:
        """The untouched canvas, `views` times for each of `batch` units."""
        eye = torch.eye(2, 3, device=device).expand(batch, views, 2, 3)
        return cls(eye, constant(size, torch.device(device)).expand(batch, views, 2), moved=False)

    def move(self, linear: Tensor | float, shift: Tensor, size: Tensor | None = None) -> Frame:
        """The frame whose coordinates p are this one's `linear @ p + shift`; linear a factor (..., 1, 1) or 2 x 2."""
        a, b = self.matrix[..., :2], self.matrix[..., 2:]
        step = a * linear if isinstance(linear, float) or linear.shape[-1] == 1 else a @ linear
        matrix = torch.cat([step, a @ shift[..., None] + b], dim=-1)
        return replace(self, matrix=matrix, size=self.size if size is None else size, moved=True)

    def select(self, units: slice, views: slice) -> Frame:
        """The frames of some units and views."""
        blur = None if self.blur is None else self.blur[units, views]
        roll = None if self.roll is None else self.roll[units, views]
        return replace(self, matrix=self.matrix[units, views], size=self.size[units, views], blur=blur, roll=roll)


@runtime_checkable
class Transform(Protocol):
    """One step of a chain."""

    @property
    def draws(self) -> int:
        """How many numbers a view needs."""
        ...

    def __call__(self, frame: Frame, u: Float[Tensor, "b v k"]) -> Frame:
        """The next frame, from `draws` uniform numbers on [0, 1) a view."""
        ...


def area(matrix: Float[Tensor, "*b 2 3"]) -> Float[Tensor, "*b"]:
    """What a pixel of a view covers of the canvas, in pixels of that."""
    # Not `torch.linalg.det`, which is made for matrices of any size.
    return (matrix[..., 0, 0] * matrix[..., 1, 1] - matrix[..., 0, 1] * matrix[..., 1, 0]).abs()


def _xy(h_w: Tensor) -> Tensor:
    return h_w.flip(-1)


@dataclass(frozen=True)
class Pad:
    """Pad every side by `pixels` of `value` (lucid5, xplique11). The value also fills what later transforms uncover.

    Example:
        >>> import torch
        >>> from featvis.canvas.transforms import Pad, draw
        >>> frame = draw([Pad(8, value=0.5)], (64, 64), 2, [torch.Generator().manual_seed(0)])
        >>> frame.size[0, 0].tolist(), frame.fill  # (height, width) of the first view
        ([80.0, 80.0], 0.5)
    """

    pixels: int
    value: float = 0.0
    draws: int = field(default=0, init=False)

    def __call__(self, frame: Frame, u: Float[Tensor, "b v k"]) -> Frame:  # noqa: D102
        shift = torch.full_like(frame.size, -float(self.pixels))
        return replace(frame.move(1.0, shift, frame.size + 2 * self.pixels), fill=self.value)


@dataclass(frozen=True)
class Jitter:
    """Crop to a size `pixels` smaller at a whole-pixel offset, uniform on 0..pixels.

    Example:
        >>> import torch
        >>> from featvis.canvas.transforms import Jitter, draw
        >>> frame = draw([Jitter(8)], (64, 64), 2, [torch.Generator().manual_seed(0)])
        >>> frame.size[0, 0].tolist()
        [56.0, 56.0]
        >>> corner = frame.matrix[0, 0, :, 2]  # (x, y) of the crop, whole pixels
        >>> bool((corner == corner.round()).all() and (corner >= 0).all() and (corner <= 8).all())
        True
    """

    pixels: int
    draws: int = field(default=2, init=False)

    def __call__(self, frame: Frame, u: Float[Tensor, "b v k"]) -> Frame:  # noqa: D102
        return frame.move(1.0, torch.floor(u * (self.pixels + 1)), frame.size - self.pixels)


@dataclass(frozen=True)
class Roll:
    """Roll the canvas round by whole pixels, uniform on -pixels..pixels either way (DeepInversion: Yin et al. 2020).

    What leaves on one side comes in on the other. It is the canvas that rolls, so it stands first in a chain.

    Example:
        >>> import torch
        >>> from featvis.canvas.transforms import Roll, draw
        >>> frame = draw([Roll(8)], (64, 64), 2, [torch.Generator().manual_seed(0)])
        >>> frame.roll.shape, bool((frame.roll.abs() <= 8).all())
        (torch.Size([1, 2, 2]), True)
    """

    pixels: int
    draws: int = field(default=2, init=False)

    def __call__(self, frame: Frame, u: Float[Tensor, "b v k"]) -> Frame:  # noqa: D102
        if frame.moved or frame.roll is not None:
            raise ValueError("a roll stands first in a chain of transforms")
        return replace(frame, roll=torch.floor(u * (2 * self.pixels + 1)) - self.pixels)


@dataclass(frozen=True)
class Scale:
    """Resize by a factor, one of `values` or, with exactly two values and `continuous`, uniform between them.

    Example:
        >>> import torch
        >>> from featvis.canvas.transforms import Scale, draw
        >>> frame = draw([Scale((0.5,))], (64, 64), 2, [torch.Generator().manual_seed(0)])
        >>> frame.size[0, 0].tolist()
        [32.0, 32.0]
    """

    values: tuple[float, ...]
    continuous: bool = False
    draws: int = field(default=1, init=False)

    def __call__(self, frame: Frame, u: Float[Tensor, "b v k"]) -> Frame:  # noqa: D102
        factor = _pick(self.values, self.continuous, u)
        return frame.move(1 / factor[..., None], torch.zeros_like(frame.size), frame.size * factor)


@dataclass(frozen=True)
class Rotate:
    """Rotate about the centre by one of `degrees`, counter-clockwise, the size unchanged.

    Example:
        >>> import torch
        >>> from featvis.canvas.transforms import Rotate, draw
        >>> frame = draw([Rotate((90.0,))], (64, 64), 2, [torch.Generator().manual_seed(0)])
        >>> (frame.matrix[0, 0] @ torch.tensor([64.0, 0.0, 1.0])).round().tolist()  # the top right of the view
        [64.0, 64.0]
    """

    degrees: tuple[float, ...]
    draws: int = field(default=1, init=False)

    def __call__(self, frame: Frame, u: Float[Tensor, "b v k"]) -> Frame:  # noqa: D102
        angle = _pick(self.degrees, False, u)[..., 0] * (math.pi / 180)
        cos, sin = angle.cos(), angle.sin()
        turn = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
        centre = _xy(frame.size) / 2
        return frame.move(turn, centre - (turn @ centre[..., None])[..., 0])


@dataclass(frozen=True)
class Flip:
    """Mirror left and right with probability `p`.

    Example:
        >>> import torch
        >>> from featvis.canvas.transforms import Flip, draw
        >>> frame = draw([Flip(p=1.0)], (64, 64), 2, [torch.Generator().manual_seed(0)])
        >>> (frame.matrix[0, 0] @ torch.tensor([0.0, 0.0, 1.0])).tolist()  # the top left of the view
        [64.0, 0.0]
    """

    p: float = 0.5
    draws: int = field(default=1, init=False)

    def __call__(self, frame: Frame, u: Float[Tensor, "b v k"]) -> Frame:  # noqa: D102
        flipped = (u[..., 0] < self.p).to(u.dtype)
        sign, one = 1 - 2 * flipped, torch.ones_like(flipped)
        mirror = torch.diag_embed(torch.stack([sign, one], -1))
        return frame.move(mirror, torch.stack([flipped * frame.size[..., 1], torch.zeros_like(flipped)], -1))


@dataclass(frozen=True)
class Blur:
    """Gaussian blur of deviation U(low, high) pixels, cut at four deviations either side.

    xplique11 has an even kernel of 10, which also shifts the picture by half a pixel; this one does not, and the
    weights that it adds or leaves out are below 1e-4.

    Example:
        >>> import torch
        >>> from featvis.canvas.transforms import Blur, draw
        >>> frame = draw([Blur(1.0, 1.1)], (64, 64), 2, [torch.Generator().manual_seed(0)])
        >>> frame.blur.shape, bool(((frame.blur >= 1) & (frame.blur <= 1.1)).all())
        (torch.Size([1, 2]), True)
    """

    low: float
    high: float
    draws: int = field(default=1, init=False)

    def __call__(self, frame: Frame, u: Float[Tensor, "b v k"]) -> Frame:  # noqa: D102
        sigma = self.low + (self.high - self.low) * u[..., 0]
        sigma = sigma * area(frame.matrix).sqrt()
        return replace(frame, blur=sigma if frame.blur is None else torch.hypot(frame.blur, sigma))


@dataclass(frozen=True)
class Crop:
    """A square crop whose side is a fraction of the canvas's short side (MACO: Fel et al. 2023, section 3).

    The crop always lies inside the canvas: with `inside` its place is uniform among those that do, with `normal` its
    centre is N(.5, .15) of the canvas, moved inside where it is not.

    Attributes:
        side: mean fraction.
        spread: deviation of the `normal` distribution, or half the width of the `uniform` one.
        distribution: of the side, clipped to [.05, 1].
        centre: how the place is drawn.

    Example:
        >>> import torch
        >>> from featvis.canvas.transforms import Crop, draw
        >>> frame = draw([Crop(0.25, 0.0)], (64, 64), 2, [torch.Generator().manual_seed(0)])
        >>> frame.size[0, 0].tolist()
        [16.0, 16.0]
    """

    side: float
    spread: float
    distribution: Literal["normal", "uniform"] = "normal"
    centre: Literal["inside", "normal"] = "inside"
    centre_std: float = 0.15
    draws: int = field(default=3, init=False)

    def __call__(self, frame: Frame, u: Float[Tensor, "b v k"]) -> Frame:  # noqa: D102
        z = _ndtri(u[..., 0]) if self.distribution == "normal" else 2 * u[..., 0] - 1
        fraction = (self.side + self.spread * z).clamp(0.05, 1.0)
        side = (fraction * frame.size.amin(-1))[..., None]
        room = (_xy(frame.size) - side).clamp_min(0)
        if self.centre == "inside":
            corner = u[..., 1:] * room
        else:
            middle = (0.5 + self.centre_std * _ndtri(u[..., 1:])) * _xy(frame.size)
            corner = torch.minimum((middle - side / 2).clamp_min(0), room)
        return frame.move(1.0, corner, side.expand_as(frame.size))


@dataclass(frozen=True)
class Noise:
    """N(0, normal) plus U(-uniform, uniform) on every value of a view, stated in the (-1, 1) range of the methods.

    Example:
        >>> import torch
        >>> from featvis.canvas.transforms import Noise, draw
        >>> frame = draw([Noise(uniform=0.1)], (64, 64), 2, [torch.Generator().manual_seed(0)])
        >>> frame.noise  # half as much on a canvas, which spans [0, 1] and not (-1, 1)
        (0.0, 0.05)
    """

    normal: float = 0.0
    uniform: float = 0.0
    draws: int = field(default=0, init=False)

    def __call__(self, frame: Frame, u: Float[Tensor, "b v k"]) -> Frame:  # noqa: D102
        # A canvas spans [0, 1], half the width of (-1, 1).
        return replace(frame, noise=(self.normal / 2, self.uniform / 2))


def _ndtri(u: Tensor) -> Tensor:
    """The standard normal quantile; u in [0, 1), 0 moved to where it is finite."""
    # Apple's GPUs have no float64.
    exact = u.cpu() if u.device.type == "mps" else u
    quantile: Tensor = torch.special.ndtri(exact.double().clamp(1e-9, 1 - 1e-9))
    return quantile.float().to(u.device)


def _pick(values: tuple[float, ...], continuous: bool, u: Float[Tensor, "b v 1"]) -> Float[Tensor, "b v 1"]:
    if continuous:
        low, high = values
        return low + (high - low) * u
    table = constant(tuple(values), u.device)
    return table[(u * len(values)).long().clamp_max(len(values) - 1)]


def draw(chain: Sequence[Transform], size: tuple[int, int], views: int, generators: Sequence[torch.Generator]) -> Frame:
    """Draw the views of a batch of units, each unit from its own stream.

    Args:
        chain: transforms in order.
        size: (H, W) of the canvas.
        views: V, views a unit.
        generators: one a unit, on the device of the canvas.

    Returns:
        The frame of all B * V views; of sizes that are not above 0 where jitters leave nothing, see `chains.check`.

    Raises:
        ValueError: for a roll that does not stand first.

    Example:
        >>> import torch
        >>> from featvis.canvas.chains import lucid5
        >>> from featvis.canvas.transforms import draw
        >>> streams = [torch.Generator().manual_seed(seed) for seed in (0, 1, 2)]
        >>> draw(lucid5(), (128, 96), 4, streams).matrix.shape  # three units, four views each
        torch.Size([3, 4, 2, 3])
    """
    device = generators[0].device
    frame = Frame.whole(size, len(generators), views, device)
    total = sum(t.draws for t in chain)
    u = torch.stack([torch.rand(views, max(total, 1), generator=g, device=device) for g in generators])
    at = 0
    for transform in chain:
        frame = transform(frame, u[..., at : at + transform.draws])
        at += transform.draws
    if frame.blur is not None and not frame.reach:
        frame = replace(frame, reach=_reach(tuple(chain), size))
    return frame


@lru_cache(maxsize=64)
def _reach(chain: tuple[Transform, ...], size: tuple[int, int]) -> float:
    """The widest blur of many draws, as a fraction of the picture: known beforehand, so that no GPU is waited for."""
    frame = replace(Frame.whole(size, 1, 256), reach=1.0)
    u = torch.rand(1, 256, max(sum(t.draws for t in chain), 1), generator=torch.Generator().manual_seed(0))
    at = 0
    for transform in chain:
        frame = transform(frame, u[..., at : at + transform.draws])
        at += transform.draws
    return _widest(frame)


def _widest(frame: Frame) -> float:
    if frame.blur is None:
        return 0.0
    extent = (area(frame.matrix) * frame.size.prod(-1)).sqrt()
    return float((frame.blur / extent).max())
