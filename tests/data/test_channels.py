"""Images of other channels than RGB, against NumPy and Pillow's own resizing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from featvis.data.channels import cover, of_array


def saved(folder, array):
    np.save(folder / "image.npy", array)
    return folder / "image.npy"


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
def test_an_array_is_its_channels_from_0_to_1(tmp_path, kind, last):
    draw = np.random.default_rng(0)
    whole = np.issubdtype(kind, np.integer)
    array = draw.integers(0, np.iinfo(kind).max + 1, (5, 4, 6)).astype(kind) if whole else draw.random((5, 4, 6))
    expected = array / {np.uint8: 255, np.uint16: 65535}.get(kind, 1)
    found = of_array(saved(tmp_path, np.moveaxis(array.astype(kind), 0, 2) if last else array.astype(kind)), 5)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("top", [1, 255, 65535], ids=["float", "uint8", "uint16"])
def test_rows_and_columns_alone_are_one_channel(tmp_path, top):
    array = np.array([[0, 1, 0], [1, 0, 1]]) * top
    kind = {1: np.float32, 255: np.uint8, 65535: np.uint16}[top]
    np.testing.assert_array_equal(of_array(saved(tmp_path, array.astype(kind)), 1).numpy(), array[None] / top)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((4, 6, 7)), "an array of 4 x 6 x 7 numbers, not an image of 5 channels"),
        (np.zeros((5, 4, 6, 1)), "an array of 5 x 4 x 6 x 1 numbers"),
        (np.full((5, 4, 6), 1.5), r"beyond \[0, 1\]"),
        (np.full((5, 4, 6), -1, np.int16), r"beyond \[0, 1\]"),
        (np.full((5, 4, 6), np.nan), r"beyond \[0, 1\]"),
        (np.full((5, 4, 6), None), "no array of numbers"),
    ],
)
def test_what_is_no_image_is_refused(tmp_path, array, words):
    with pytest.raises(OSError, match=words):
        of_array(saved(tmp_path, array), 5)


def test_a_file_that_is_cut_off_is_refused(tmp_path):
    path = saved(tmp_path, np.zeros((5, 4, 6)))
    for size in (0, 40, 200):
        path.write_bytes(path.read_bytes()[:size])
        with pytest.raises(OSError, match="no array of numbers"):
            of_array(path, 5)


@pytest.mark.parametrize(
    ("shape", "size", "resized", "corner"),
    [
        ((5, 40, 61), (24, 24), (24, 37), (0, 6)),
        ((2, 61, 40), (24, 30), (46, 30), (11, 0)),
        ((1, 7, 9), (16, 12), (16, 21), (0, 4)),
        ((4, 12, 12), (12, 12), (12, 12), (0, 0)),
    ],
)
def test_it_covers_the_size_and_is_cut_in_the_middle(shape, size, resized, corner):
    """Pillow's bicubic resizing of each channel by itself; where it overshoots, it stays in [0, 1]."""
    x = np.random.default_rng(0).random(shape).astype(np.float32).round()
    whole = [np.asarray(Image.fromarray(c).resize(resized[::-1], Image.Resampling.BICUBIC)) for c in x]
    (top, left), (height, width) = corner, size
    expected = np.stack(whole)[:, top : top + height, left : left + width]
    assert (np.abs(expected - 0.5).max() > 0.5) == (resized != shape[1:])
    np.testing.assert_allclose(cover(torch.from_numpy(x), size).numpy(), expected.clip(0, 1), atol=1e-5)
