"""Where the occluder leaves a unit most and least excited, against a search of its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from benchmark.study.making.occlusion import geometry, occlude, occlusions, positions
from featvis.errors import UserError


def by_hand(measure, image: np.ndarray, side: int, stride: int) -> dict[str, tuple[int, int]]:
    """Every place, one image at a time, in NumPy; the first of equals."""
    height, width = image.shape[1:]
    best: dict[str, tuple[float, tuple[int, int]]] = {}
    for row in range(0, height - side + 1, stride):
        for column in range(0, width - side + 1, stride):
            hidden = image.astype(np.float64)
            for channel in range(3):
                patch = image[channel, row : row + side, column : column + side].astype(np.float64)
                hidden[channel, row : row + side, column : column + side] = np.rint(patch.mean())
            value = float(measure(torch.from_numpy(hidden[None] / 255))[0])
            if "most" not in best or value > best["most"][0]:
                best["most"] = (value, (row, column))
            if "least" not in best or value < best["least"][0]:
                best["least"] = (value, (row, column))
    return {name: place for name, (_, place) in best.items()}


@pytest.mark.parametrize(("size", "side", "stride"), [((24, 24), 10, 2), ((17, 23), 5, 3)])
def test_the_positions_are_those_of_a_search_by_brute_force(size, side, stride):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 5), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ).double()
    image = np.random.default_rng(0).integers(0, 256, (3, *size)).astype(np.uint8)
    # Double precision, so that the size of a batch decides nothing.
    found = occlusions(
        lambda x: net((x * 255).round().double() / 255), torch.from_numpy(image), side, stride, batch_size=7
    )
    assert len({one.most for one in found} | {one.least for one in found}) > 3, "all units like the same place"
    for unit, one in enumerate(found):
        expected = by_hand(lambda x, unit=unit: net(x)[:, unit].detach(), image, side, stride)
        assert (one.most, one.least) == (expected["most"], expected["least"])
        assert one.gap > 0


def test_as_many_positions_as_the_paper_has():
    """Zimmermann et al. 2021: 40 % of 224, every second pixel."""
    side, stride = geometry((224, 224), 0.4, 2)
    assert len(positions((224, 224), side, stride)) == 68 * 68
    with pytest.raises(UserError, match="does not fit"):
        positions((10, 8), 9, 1)


@given(
    st.integers(4, 12),
    st.integers(4, 12),
    st.integers(1, 4),
    st.integers(0, 2**32 - 1),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_what_is_hidden_has_its_own_mean_and_nothing_else_changes(height, width, side, seed, down, across):
    image = np.random.default_rng(seed).integers(0, 256, (3, height, width)).astype(np.uint8)
    row, column = round(down * (height - side)), round(across * (width - side))
    made = occlude(torch.from_numpy(image.copy()), (row, column), side).numpy()
    inside = np.zeros((height, width), bool)
    inside[row : row + side, column : column + side] = True
    assert (made[:, ~inside] == image[:, ~inside]).all()
    assert np.abs(made[:, inside] - image[:, inside].astype(float).mean(1)[:, None]).max() <= 0.5
    assert (made[:, inside].min(1) == made[:, inside].max(1)).all()
