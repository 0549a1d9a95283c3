"""The spectrum of a folder: which files it is of, and how many are held at once."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch
from PIL import Image

from featvis.data import spectra
from featvis.data.spectra import folder_spectrum
from featvis.errors import UserError
from featvis.generators import MACO


def test_the_spectrum_of_a_folder_holds_one_image_at_a_time(tmp_path, monkeypatch):
    for i in range(5):
        np.save(tmp_path / f"{i}.npy", np.random.default_rng(i).random((2, 16, 24), np.float32))
    alive, most = weakref.WeakSet(), []

    def read(path, channels, read=spectra.of_array):
        x = read(path, channels)
        alive.add(x)
        most.append(len(alive))
        return x

    monkeypatch.setattr(spectra, "of_array", read)
    assert folder_spectrum(tmp_path, 2).shape == (2, 16, 9)
    assert max(most) <= 2, "the last one is let go as the next is read"


def test_the_spectrum_of_a_folder_is_of_what_can_be_read_and_is_not_hidden(tmp_path):
    whole, other = tmp_path / "whole", tmp_path / "other"
    for folder in (whole, other / ".thumbnails"):
        folder.mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (64, 48, 3), np.uint8)
    for folder in (whole, other):
        Image.fromarray(noise).save(folder / "a.png")
    Image.fromarray(noise[:8, :8]).save(other / ".thumbnails" / "b.png")
    Image.fromarray(noise[:32, :32]).save(other / "cut.png")
    (other / "cut.png").write_bytes((other / "cut.png").read_bytes()[:1000])
    (other / "notes").write_text("none")
    assert torch.equal(folder_spectrum(other, 3), folder_spectrum(whole, 3))


def test_the_spectrum_of_image_files_has_their_alphas(tmp_path):
    rgba = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 4), np.uint8)
    for i, image in enumerate(rgba):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    expected = np.abs(np.fft.rfft2(rgba / 255, axes=(1, 2))).mean(0).transpose(2, 0, 1)
    assert np.allclose(folder_spectrum(tmp_path, 4).numpy(), expected, atol=1e-3)
    assert np.allclose(folder_spectrum(tmp_path, 2)[1].numpy(), expected[3], atol=1e-3)


@pytest.mark.parametrize(("channels", "at"), [(2, 2), (4, 4), (1, 1), (5, 3)])
def test_a_channel_that_varies_nowhere_is_refused(tmp_path, channels, at):
    rng = np.random.default_rng(0)
    for i in range(2):
        if channels == 5:
            array = rng.random((5, 24, 16), np.float32)
            array[2] = i / 3
            np.save(tmp_path / f"{i}.npy", array)
            continue
        # Of the same colour throughout, or the same alpha; from image to image they differ.
        rgba = np.full((24, 16, 4), 100 + i, np.uint8)
        if channels > 1:
            rgba[..., :3] = rng.integers(0, 256, (24, 16, 3))
        Image.fromarray(rgba).save(tmp_path / f"{i}.png")
    with pytest.raises(UserError, match=f"channel {at} of {channels} is the same everywhere in each image") as error:
        MACO(spectrum=str(tmp_path), canvas=16).in_channels(channels)
    assert str(error.value).count(". ") == 0


def test_grey_photographs_are_a_spectrum_of_rgb(tmp_path):
    grey = np.random.default_rng(0).integers(0, 256, (16, 16), np.uint8)
    Image.fromarray(grey).convert("RGB").save(tmp_path / "a.png")
    assert folder_spectrum(tmp_path, 3).shape == (3, 16, 9)
