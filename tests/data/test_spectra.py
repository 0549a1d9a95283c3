"""The spectrum of a folder: which files it is of, and how many are held at once."""

from __future__ import annotations

import weakref

import numpy as np
import torch
from PIL import Image

from featvis.data import spectra
from featvis.data.spectra import folder_spectrum


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
