"""Diversity against NumPy's Gram matrices, its effect, and that it is no part of a configuration when it is off."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from featvis.errors import UserError
from featvis.generators import DAS, DeepInversion, Fourier
from featvis.generators.passes import likeness


def grams(activation: np.ndarray) -> np.ndarray:
    """(B, V, P, C) to the Gram matrix of each view, as a direction."""
    found = np.einsum("bvpc,bvpd->bvcd", activation, activation).reshape(*activation.shape[:2], -1)
    return found / np.linalg.norm(found, axis=-1, keepdims=True)


def test_likeness_is_the_mean_cosine_to_the_other_images_of_the_unit():
    activation = np.random.default_rng(0).random((4, 2, 9, 5))
    rows = grams(activation)
    expected = np.zeros((4, 2))
    for i, others in enumerate([[1, 3], [0, 3], [], [0, 1]]):
        for j in others:
            expected[i] += (rows[i] * rows[j]).sum(-1) / len(others)
    found = likeness(torch.tensor(activation.reshape(8, 9, 5)), ["a", "a", "b", "a"])
    assert np.allclose(found.numpy(), expected)


def test_images_of_a_unit_differ_more_with_it(tiny):
    def alike(weight: float) -> float:
        out = DAS(model=tiny, canvas=16, jitter=0, noise=0.0, steps=25, lr=0.1, diversity=weight, diversity_layer="4")
        canvas = out.visualize("cat@0-2").canvas
        read = tiny.activations(canvas, frozenset({"4[:]"}))["4[:]"]
        rows = grams(read[:, None].numpy())[:, 0]
        return float((rows @ rows.T)[np.triu_indices(3, 1)].mean())

    assert alike(20.0) < alike(0.0)


def test_the_facts_are_of_the_unit_alone(tiny):
    method = DAS(model=tiny, canvas=16, jitter=0, noise=0.0, steps=2, diversity=20.0, diversity_layer="4")
    made = method.visualize("cat@0-2")
    with torch.no_grad():
        logits = tiny.net((made.canvas - 0.5) / 0.25)[:, 0]
    torch.testing.assert_close(made.activations, logits, rtol=1e-4, atol=1e-4)


def test_it_is_a_group_and_part_of_a_configuration_only_when_asked_for(tiny):
    assert Fourier(model=tiny, canvas=16).config_hash() == Fourier(model=tiny, canvas=16, diversity=0.0).config_hash()
    assert "diversity" not in Fourier(model=tiny, canvas=16).config()["init_args"]
    asked = Fourier(model=tiny, canvas=16, chain="none", steps=1, diversity=1.0)
    assert asked.config()["init_args"]["diversity"] == 1.0
    assert asked.together == "unit"
    both = DeepInversion(model=tiny, group=2, canvas=16, steps=1, diversity=1.0)
    assert len(both.shared_taps()) == 3
    assert both.together == 2
    assert both.visualize("cat@0-1").scores.shape == (1, 2)
    with pytest.raises(UserError, match="has no layer nothing"):
        Fourier(model=tiny, canvas=16, chain="none", steps=1, diversity=1.0, diversity_layer="nothing").visualize("cat")
