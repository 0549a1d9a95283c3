"""How far a mean magnitude spectrum lies from a reference's."""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from featvis.errors import UserError


def spectrum_deviation(
    mean_spectrum: Float[Tensor, "3 h k"], reference: Float[Tensor, "3 h k"], *, width: int | None = None
) -> Float64[Tensor, ""]:
    """How far the shape of a mean magnitude spectrum lies from a reference's (Fel et al. 2023, Figure 2, as a number).

    The RMS of log(mean / reference) over the channels and every frequency of the full plane but DC, after its overall
    mean is removed: a factor common to all frequencies is contrast, not shape.

    Args:
        mean_spectrum: E|rfft2(image)| over the images.
        reference: the same of natural images, at the same canvas size.
        width: of the canvas in pixels; even, 2 (k - 1), by default.

    Returns:
        A scalar of at least 0, in nats; NaN where the images hold no energy at some frequency.

    Raises:
        UserError: for shapes that differ, a width that does not fit, or a reference that is not positive.

    Example:
        >>> import torch
        >>> from featvis.metrics import spectrum_deviation
        >>> natural = torch.rand(3, 8, 5, generator=torch.Generator().manual_seed(0)) + 1
        >>> round(float(spectrum_deviation(2 * natural, natural)), 6)  # more contrast, the same shape
        0.0
    """
    require_reference(mean_spectrum.shape, reference)
    weights = spectrum_weights(mean_spectrum.shape[-2], mean_spectrum.shape[-1], width=width).to(mean_spectrum.device)
    counted = weights > 0
    means, levels = (z.to(weights).reshape(-1)[counted] for z in (mean_spectrum, reference))
    weights = weights[counted]
    ratio = torch.where(means > 0, means / levels, torch.nan).log()
    return ((ratio - ratio @ weights).square() @ weights).sqrt()


def periodic_share(x: Float[Tensor, "b c h w"], period: int) -> Float64[Tensor, " b"]:
    """Share of each image's energy, constants aside, that repeats itself every `period` pixels in both directions.

    That is at the frequencies which are multiples of 1 / period. Of the strength of an adversarial perturbation it is
    the grid that a transformer's patches leave (Zhu and Cangelosi 2025, section 4.4), as a number. By Parseval it is
    the energy of the mean patch, its own mean removed, over that of the image, so no transform is needed.

    Args:
        x: images or differences of images.
        period: in pixels; H and W are multiples of it.

    Returns:
        In [0, 1]; white noise has (period^2 - 1) / (H W - 1) on average. NaN for an image of one colour.

    Raises:
        UserError: where a side is no multiple of the period.

    Example:
        >>> import torch
        >>> from featvis.metrics import periodic_share
        >>> tile = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
        >>> [round(float(periodic_share(tile.repeat(1, 1, 2, 2), period)), 6) for period in (4, 8)]  # 8 is a multiple
        [1.0, 1.0]
    """
    height, width = x.shape[-2:]
    if period < 1 or height % period or width % period:
        raise UserError(f"{height} x {width} pixels are no multiple of a period of {period}")
    x = x.double()
    x = x - x.mean((2, 3), keepdim=True)
    tiles = x.unflatten(3, (-1, period)).unflatten(2, (-1, period))  # (b, c, rows, period, columns, period)
    count = height // period * (width // period)
    shared: Tensor = count * tiles.mean((2, 4)).square().sum((1, 2, 3))
    return shared / x.square().sum((1, 2, 3))


def spectrum_weights(height: int, columns: int, *, width: int | None = None) -> Float64[Tensor, " p"]:
    """Share of each rfft2 coefficient in the full plane without DC, over three channels.

    rfft2 keeps one of each conjugate pair of columns, so interior columns stand for two; column 0 stands for itself,
    and so does the last one where the width is even (Nyquist).

    Args:
        height: of the canvas, in pixels.
        columns: of the half spectrum, width // 2 + 1.
        width: of the canvas; even, 2 (columns - 1), by default.

    Returns:
        Weights of the flattened `(3, height, columns)` spectrum that sum to 1.

    Raises:
        UserError: where no canvas of that width has that many columns.

    Example:
        >>> from featvis.metrics.functional.spectrum import spectrum_weights
        >>> weights = spectrum_weights(4, 3).reshape(3, 4, 3)
        >>> float(weights[0, 0, 0]), float(weights[0, 1, 1] / weights[0, 1, 0])  # no DC; interior columns stand for two
        (0.0, 2.0)
    """
    width = 2 * (columns - 1) if width is None else width
    if width < 1 or width // 2 + 1 != columns:
        raise UserError(f"a canvas {width} pixels wide has {width // 2 + 1} spectrum columns, not {columns}")
    if height * width == 1:
        raise UserError("a canvas of one pixel has no frequency but DC, so that no spectrum can be compared")
    weights = torch.full((3, height, columns), 2.0, dtype=torch.float64)
    weights[:, :, 0] = 1
    if width % 2 == 0:
        weights[:, :, -1] = 1
    weights[:, 0, 0] = 0
    return (weights / weights.sum()).reshape(-1)


def require_reference(shape: torch.Size, reference: Float[Tensor, "3 h k"]) -> None:
    """Check that a reference spectrum fits.

    Args:
        shape: of the spectrum to compare with it, `(3, H, W // 2 + 1)`.
        reference: the reference.

    Raises:
        UserError: where the shapes differ, or the reference is not positive and finite outside DC.
    """
    if shape != reference.shape:
        raise UserError(
            f"the spectra have shape {tuple(shape)} and the reference {tuple(reference.shape)}: "
            "resize the reference to the images' canvas first"
        )
    rest = reference.reshape(3, -1)[:, 1:]
    if not (rest.isfinite().all() and (rest > 0).all()):
        raise UserError("the reference spectrum must be finite and above 0 at every frequency but DC")
