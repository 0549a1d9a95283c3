"""Objectives are values."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from featvis.networks.objectives import channel, direction, logit, match, objective


def activations() -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return {"logits": torch.randn(4, 10, generator=g), "blocks.2": torch.randn(4, 6, generator=g)}


def test_values_are_the_hand_computed_sums():
    a = activations()
    v = torch.arange(6.0)
    found = (0.5 * logit(3) - channel("blocks.2", 1) * 2 + direction("blocks.2", v))(a)
    expected = 0.5 * a["logits"][:, 3] - 2 * a["blocks.2"][:, 1] + (a["blocks.2"] * v).sum(1)
    assert torch.allclose(found, expected, atol=1e-5)


def test_operators_leave_their_operands_alone():
    a, b = logit(1), channel("blocks.2", 0)
    before = (a, b, str(a), str(b), hash(a))
    _ = a + b, a - b, -a, 3 * a, a * 0.5
    assert (a, b, str(a), str(b), hash(a)) == before
    assert a + b - b != a
    assert 2 * a == a * 2


def test_they_print_as_they_read():
    assert str(0.5 * logit(301) - channel("blocks.2", 7)) == "0.5*logits:301 - blocks.2:7"
    assert str(-logit(1) + 2 * logit(2)) == "-1*logits:1 + 2*logits:2"
    assert (logit(1) + channel("x", 0)).taps == {"logits", "x"}


def test_a_direction_must_fit_its_layer():
    with pytest.raises(ValueError, match="3 components, but blocks.2 has 6 channels"):
        direction("blocks.2", (1.0, 2.0, 3.0))(activations())


def test_the_cosine_of_a_direction_is_that_of_numpy():
    a = activations()["blocks.2"]
    v = torch.arange(6.0) - 1
    found = direction("blocks.2", v, cosine=True)({"blocks.2": a})
    x, w = a.double().numpy(), v.double().numpy()
    cosine = x @ w / np.linalg.norm(x, axis=1) / np.linalg.norm(w)
    assert (cosine < 0.1).any()
    assert (cosine > 0.1).any()
    assert np.allclose(found, x @ w * np.maximum(cosine, 0.1) ** 2, atol=1e-5)
    assert "cosine" in str(direction("blocks.2", v, cosine=True))


def test_what_differs_in_numbers_alone_has_other_contents():
    """Texts leave out vectors, targets, and the digits of weights beyond the sixth."""
    ones, twos = torch.ones(4, 6), torch.full((4, 6), 2.0)
    pairs = [
        (direction("x", ones[0]), direction("x", twos[0])),
        (direction("x", ones[0]), direction("x", ones[0], "0,1")),
        (match("x", ones), match("x", twos)),
        (0.1234561 * logit(0), 0.1234562 * logit(0)),
        (0.1234561 * logit(0) + 0.123456 * logit(1), 0.123456 * logit(0) + 0.1234561 * logit(1)),
        (direction("x", ones[0]) + direction("x", twos[0]), direction("x", twos[0]) + direction("x", ones[0])),
    ]
    for one, other in pairs:
        assert str(one) == str(other)
        assert one.content != other.content
    assert match("x", ones).content == match("x", ones.clone()).content
    assert direction("x", ones[0]).content == direction("x", (1.0,) * 6).content
    plain = 0.5 * logit(301) - channel("blocks.2", 7, "patches")
    assert (plain.content, plain.unsaid) == (str(plain), ())


def test_of_a_function_nothing_says_what_it_is():
    def contrast(a):
        return a["x"][:, 0]

    assert (objective(contrast, "x") + logit(1)).unsaid == (contrast,)
