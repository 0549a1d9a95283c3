"""Whose views a method takes: its own or another's, and that published images keep their configuration."""

from __future__ import annotations

import json

import pytest
import torch
from places import ROOT

from featvis.canvas.transforms import draw
from featvis.generators import CBR, MACO, Fourier, Generator

RECORDS = ROOT / "results" / "records" / "families_float32" / "efficientnet_lite0"


def frame_of(generator: Generator, step: int, views: int = 400):
    """The views that a generator draws at a step, from a stream of its own."""
    return draw(generator.transforms(step), generator.size, views, [torch.Generator().manual_seed(5)])


@pytest.mark.parametrize("method", [Fourier, CBR])
def test_with_macos_crops_a_method_draws_the_views_that_maco_draws(method):
    other = method(steps=9, canvas=64, chain="xplique11", crop_side=(0.6, 0.4))
    maco = MACO(steps=9, canvas=64, crop_side=(0.6, 0.4), noise_uniform=0.1, noise_normal=0.0, crop_spread=0.1)
    for step in (0, 4, 8):
        mine, theirs = frame_of(other, step), frame_of(maco, step)
        torch.testing.assert_close(mine.matrix, theirs.matrix, rtol=0, atol=0)
        assert mine.noise == theirs.noise == (0.0, 0.05)
        # In closed form: squares of N(mean, .1) of the side, the mean on a line from .6 to .4.
        sides = mine.size[..., 0] / 64
        assert sides.mean().item() == pytest.approx(0.6 - 0.2 * step / 8, abs=0.015)  # three standard errors
        assert sides.std().item() == pytest.approx(0.1, abs=0.015)


@pytest.mark.parametrize("chain", ["lucid5", "xplique11", "none"])
def test_maco_under_a_chain_draws_the_views_that_fourier_draws(chain):
    maco, fourier = MACO(steps=9, canvas=64, chain=chain), Fourier(steps=9, canvas=64, chain=chain)
    for step in (0, 8):
        mine, theirs = frame_of(maco, step), frame_of(fourier, step)
        torch.testing.assert_close(mine.matrix, theirs.matrix, rtol=0, atol=0)
        assert mine.noise == theirs.noise == (0.0, 0.0)


@pytest.mark.parametrize("method", ["maco", "fourier", "cbr"])
def test_a_published_row_has_the_configuration_that_it_had(method, classifier):
    """The committed record's own hash; an argument that came later is no part of it until it is asked for."""
    record = json.loads((RECORDS / f"{method}.json").read_text())
    arguments = record["config"]["generator"]["init_args"]
    made = {"maco": MACO, "fourier": Fourier, "cbr": CBR}[method]

    def hash_of(**more) -> str:
        generator = made(**arguments, **more)
        generator.classifier = classifier
        return generator.config_hash()

    assert hash_of() == record["config_hash"]
    changed = {"chain": "none"} if method == "maco" else {"crop_side": (1.0, 1.0)}
    assert hash_of(**changed) != record["config_hash"]
