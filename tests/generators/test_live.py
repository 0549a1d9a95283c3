"""Generators of a module in memory: how often its weights are looked at, and when it is loaded anew."""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from tiny import LABELS, network
from torch import nn

from featvis.generators import Fourier
from featvis.networks import loading


@pytest.fixture
def live() -> nn.Module:
    """The small network, which says what it takes."""
    net = copy.deepcopy(network().net)
    net.image_mean, net.image_std, net.image_size, net.labels = (0.5,) * 3, (0.25,) * 3, 16, list(LABELS)
    return net


def made(live: nn.Module) -> Fourier:
    return Fourier(model=live, steps=3, canvas=16, views=4, micro_batch=2, precision="float32")


def counted(monkeypatch, name: str) -> list[nn.Module]:
    """The networks for which a function of `loading` is called from now on."""
    calls: list[nn.Module] = []
    whole = getattr(loading, name)
    monkeypatch.setattr(loading, name, lambda net, *rest: (calls.append(net), whole(net, *rest))[1])
    return calls


def test_the_weights_are_looked_at_once_whatever_the_steps_and_micro_batches(live, monkeypatch):
    generator = made(live)
    units = generator.visualize("cat,dog").units
    looks = counted(monkeypatch, "version")
    for do in (lambda: generator.optimise(units), generator.config, lambda: generator.visualize("cat")):
        looks.clear()
        do()
        assert len(looks) == 1


def test_what_is_written_in_the_middle_is_seen_by_the_next(live):
    generator = made(live)
    before = generator.visualize("cat").canvas
    hashes = [generator.config_hash()]
    with torch.no_grad():
        live[0].weight.data.mul_(-2)
    hashes.append(generator.config_hash())
    after = generator.visualize("cat").canvas
    assert len({*hashes}) == 2
    assert torch.equal(after, made(live).visualize("cat").canvas)
    assert not torch.equal(after, before)
    # An error in the middle of one leaves nothing behind.
    generator.listeners = [SimpleNamespace(on_optimization_step=lambda *what: 1 / 0)]
    with pytest.raises(ZeroDivisionError):
        generator.visualize("cat")
    with torch.no_grad():
        live[0].weight.data.mul_(-0.5)
    assert generator.config_hash() == hashes[0]


def test_a_network_with_a_nan_is_loaded_once_and_again_when_it_is_trained(live, monkeypatch):
    live.register_buffer("unused", torch.tensor([1.0, math.nan]))
    generator = made(live)
    loads = counted(monkeypatch, "classifier_of")
    generator.visualize("cat")
    generator.config()
    generator.visualize("dog")
    assert loads == [live]
    live[8].weight.data.mul_(2)
    generator.config()
    assert loads == [live] * 2
