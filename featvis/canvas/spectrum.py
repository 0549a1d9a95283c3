"""The natural magnitude spectrum, E|F(x)|: images (3, H, W) in, (3, H, W//2+1) out; and its use at any canvas size.

Frequencies are stated in cycles per short side of the canvas. A canvas of another size takes, at each of its own
frequencies, the magnitude that the reference has there, so a smaller square canvas keeps exactly the low-frequency
block (what antialiased downsampling of the images would give) and a non-square one stays isotropic.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from featvis.canvas.color import decorrelate


def magnitude(canvas: Float[Tensor, "*b 3 h w"]) -> Float[Tensor, "*b 3 h f"]:
    """|rfft2| of a canvas in the decorrelated space (unnormalised FFT; DC in bin (0, 0)).

    Example:
        >>> import torch
        >>> from featvis.canvas.spectrum import magnitude
        >>> magnitude(torch.rand(2, 3, 5, 7)).shape
        torch.Size([2, 3, 5, 4])
    """
    spectrum: Tensor = torch.fft.rfft2(decorrelate(canvas))
    return spectrum.abs()


def frequencies(size: tuple[int, int]) -> tuple[Float[Tensor, "h 1"], Float[Tensor, "1 f"]]:
    """Signed vertical and non-negative horizontal frequencies of rfft2's bins, in cycles per short side of (H, W).

    Example:
        >>> from featvis.canvas.spectrum import frequencies
        >>> vertical, horizontal = frequencies((4, 6))
        >>> vertical.flatten().tolist(), horizontal.flatten().tolist()
        ([0.0, 1.0, -2.0, -1.0], [0.0, 0.6666666865348816, 1.3333333730697632, 2.0])
    """
    h, w = size
    short = min(h, w)
    return torch.fft.fftfreq(h, 1 / short)[:, None], torch.fft.rfftfreq(w, 1 / short)[None, :]


def resize_spectrum(spectrum: Float[Tensor, "c hr fr"], size: tuple[int, int]) -> Float[Tensor, "c h f"]:
    """The magnitudes that a canvas of `size` should have, read off a square reference at the same frequencies.

    Log-magnitudes are interpolated bilinearly. Beyond the reference's highest frequency f0 the edge value continues as
    f0/f, the law of natural images (Torralba and Oliva 2003). Magnitudes scale with the number of pixels, as an
    unnormalised FFT's do.

    Args:
        spectrum: (C, R, R//2+1), of R x R images.
        size: (H, W) of the canvas.

    Returns:
        (C, H, W//2+1), float32.

    Example:
        >>> import torch
        >>> from featvis.canvas.spectrum import resize_spectrum
        >>> natural = torch.rand(3, 8, 5) + 1
        >>> half = resize_spectrum(natural, (4, 4))  # the low frequencies, for a quarter of the pixels
        >>> bool(torch.allclose(half[:, :2, :2], natural[:, :2, :2] / 4))
        True
    """
    side = spectrum.shape[1]
    fy, fx = frequencies(size)
    fy, fx = torch.broadcast_tensors(fy, fx)
    # Rows in ascending order of frequency: negative ones first.
    log = torch.fft.fftshift(spectrum.double().clamp_min(1e-12).log(), dim=1)
    lowest = -(side // 2)
    top, right = float((side - 1) // 2), float(spectrum.shape[2] - 1)
    # An even reference has its Nyquist row on the negative side only; |F| is even there, so +N/2 reads -N/2.
    if side % 2 == 0:
        log = torch.cat([log, log[:, :1]], dim=1)
        top = float(side // 2)
    y, x = fy.clamp(lowest, top), fx.clamp(0, right)
    grid = torch.stack([2 * x / right - 1, 2 * (y - lowest) / (log.shape[1] - 1) - 1], dim=-1).double()
    out = F.grid_sample(log[None], grid[None], mode="bilinear", align_corners=True, padding_mode="border")[0].exp()
    beyond = torch.hypot(fy, fx) / torch.hypot(y, x).clamp_min(1e-12)
    beyond = torch.where(torch.hypot(fy, fx) > 0, beyond, torch.ones_like(beyond))
    return (out / beyond * (size[0] * size[1] / side**2)).float()
