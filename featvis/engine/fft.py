"""The inverse real 2D Fourier transform of batches of canvases, and its derivative, written for speed on a CPU too."""

from __future__ import annotations

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from featvis.engine.switch import on


def irfft2(spectrum: Complex[Tensor, "b c h f"], size: tuple[int, int]) -> Float[Tensor, "b c h w"]:
    """`torch.fft.irfft2`, for less on a CPU.

    Args:
        spectrum: F = W//2+1 columns.
        size: (H, W) of the image.
    """
    if not spectrum.is_cpu:
        return _of_hermitian_part(spectrum, size)
    if not on("fft"):
        return torch.fft.irfft2(spectrum, s=size)
    image = torch.empty(*spectrum.shape[:2], *size, dtype=spectrum.real.dtype)
    rows = torch.empty(spectrum.shape[-2:], dtype=spectrum.dtype)
    # Matrix by matrix, each of which stays in the cache. The columns' transform leaves it column by column in memory;
    # PyTorch transposes a matrix four times as fast by itself as in a batch, or inside a transform.
    for one, matrix in zip(image.flatten(0, 1), spectrum.flatten(0, 1), strict=True):
        one.copy_(torch.fft.irfft(rows.copy_(torch.fft.ifft(matrix, dim=-2)), n=size[1]))
    return image


def _of_hermitian_part(spectrum: Complex[Tensor, "b c h f"], size: tuple[int, int]) -> Float[Tensor, "b c h w"]:
    """What a CPU's `torch.fft.irfft2` gives, on any device.

    Optimised phases make no Hermitian spectrum: the columns 0 and W/2 are free. CPUs take their Hermitian part.
    What cuFFT makes of such a spectrum is undefined, and is another picture: so that part is taken beforehand.
    """
    rows = torch.fft.ifft(spectrum, dim=-2)
    imaginary = torch.view_as_real(rows)[..., 1]
    imaginary[..., 0] = 0
    if size[1] % 2 == 0:
        imaginary[..., -1] = 0
    return torch.fft.irfft(rows, n=size[1])


def irfft2_gradient(gradient: Float[Tensor, "b c h w"]) -> Complex[Tensor, "b c h f"]:
    """The gradient of `irfft2`, for the gradient of its image: d / d real part + i d / d imaginary part."""
    spectrum = torch.fft.rfft2(gradient, norm="forward")
    # A bin stands for itself and for its mirror image, but for those of the columns 0 and W/2, which are their own.
    torch.view_as_real(spectrum)[..., 1 : (gradient.shape[-1] + 1) // 2, :] *= 2
    return spectrum
