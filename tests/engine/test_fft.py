"""The inverse transform against NumPy's, for spectra that are not Hermitian too."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from featvis.engine.fft import _of_hermitian_part, irfft2


@pytest.mark.parametrize("transform", [irfft2, _of_hermitian_part], ids=["here", "any device"])
@given(h=st.integers(2, 9), w=st.integers(2, 9), seed=st.integers(0, 99))
def test_a_spectrum_that_is_not_hermitian_has_numpys_image(transform, h, w, seed):
    """What cuFFT makes of the columns 0 and W/2 is undefined, so other devices are handed their Hermitian part."""
    rng = np.random.default_rng(seed)
    spectrum = rng.normal(size=(2, 3, h, w // 2 + 1)) + 1j * rng.normal(size=(2, 3, h, w // 2 + 1))
    expected = np.fft.irfft2(spectrum, s=(h, w))
    found = transform(torch.from_numpy(spectrum), (h, w))
    assert np.allclose(found.numpy(), expected, atol=1e-9)


@given(h=st.integers(2, 9), w=st.integers(2, 9), seed=st.integers(0, 99))
def test_what_is_handed_to_the_last_transform_is_hermitian(h, w, seed):
    rng = np.random.default_rng(seed)
    spectrum = torch.from_numpy(rng.normal(size=(1, 1, h, w // 2 + 1)) + 1j * rng.normal(size=(1, 1, h, w // 2 + 1)))
    image = _of_hermitian_part(spectrum, (h, w))
    # A real image's own spectrum is Hermitian: transformed forth and back it is itself.
    again = _of_hermitian_part(torch.fft.rfft2(image), (h, w))
    assert torch.allclose(again, image, atol=1e-9)
