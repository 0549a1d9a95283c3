"""The inverse real 2D Fourier transform of batches of canvases, the same on every device, and its derivative."""

from __future__ import annotations

import torch
from jaxtyping import Complex, Float
from torch import Tensor


def irfft2(spectrum: Complex[Tensor, "b c h f"], size: tuple[int, int]) -> Float[Tensor, "b c h w"]:
    """`torch.fft.irfft2`, also of a spectrum that is not Hermitian.

    Args:
        spectrum: F = W//2+1 columns.
        size: (H, W) of the image.
    """
    image = torch.fft.irfft2(spectrum, s=size) if spectrum.is_cpu else _of_hermitian_part(spectrum, size)
    return image.contiguous()


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
