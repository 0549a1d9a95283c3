"""With PyTorch's own operations, which a GPU runs, a step neither reads a number back nor makes a tensor from one."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from featvis.generators import AM, CBR, MACO, Fourier
from featvis.networks.objectives import Objective, direction
from featvis.networks.units import Unit, parse_units

READS = {"_local_scalar_dense", "nonzero", "is_nonzero", "equal", "item", "unique_dim", "_unique2", "masked_select"}
"""Operations whose result a GPU's host has to wait for."""
MADE = {"lift_fresh", "lift_fresh_copy", "lift", "from_file"}
"""Operations that begin with the host's memory. (A `scalar_tensor` is filled on the device itself.)"""
MAKERS = ("tensor", "as_tensor", "asarray", "from_numpy", "frombuffer", "scalar_tensor")


class Waiting(TorchDispatchMode):
    """Counts such operations."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = Counter[str]()

    def __torch_dispatch__(self, function, kinds, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name in READS | MADE:
            self.seen[name] += 1
        # An index that is a mask has to be counted out.
        if name in ("index", "index_put_", "index_put"):
            self.seen["mask"] += sum(i is not None and i.dtype == torch.bool for i in args[1])
        return function(*args, **(kwargs or {}))


def watched(monkeypatch, work) -> Counter[str]:
    """What of these `work` does."""
    with monkeypatch.context() as patch, Waiting() as mode:
        for name in MAKERS:
            made = getattr(torch, name)
            patch.setattr(
                torch, name, lambda *a, name=name, made=made, **k: mode.seen.update([f"torch.{name}"]) or made(*a, **k)
            )
        work()
    return +mode.seen


def test_what_has_to_be_waited_for_is_counted(monkeypatch):
    x = torch.rand(4)
    cases = {
        "_local_scalar_dense": lambda: float(x.sum()),
        "nonzero": lambda: x.nonzero(),
        "mask": lambda: x[x > 0.5],
        "torch.tensor": lambda: x + torch.tensor([1.0, 2.0, 3.0, 4.0]),
        "torch.from_numpy": lambda: torch.from_numpy(np.ones(3)),
    }
    for name, work in cases.items():
        assert watched(monkeypatch, work)[name] == 1, name
    assert watched(monkeypatch, lambda: bool(x.isfinite().all()))
    assert not watched(monkeypatch, lambda: (x * 2 + x.flip(0)).clamp(0, 1).masked_fill_(x > 0.5, 3))


class Along(Unit):
    """A direction of a layer."""

    @property
    def objective(self) -> Objective:
        return direction(self.layer, tuple(float(i % 3) for i in range(40)), cosine=True)


METHODS = {
    "maco": lambda: MACO(canvas=96, views=2, phase_offset=True, crop_side=(0.8, 0.4)),
    "maco, whole canvas": lambda: MACO(canvas=224, views=1, crop_side=(1.0, 1.0), crop_spread=0.0, noise_normal=0.1),
    "fourier": lambda: Fourier(canvas=96, views=2),
    "fourier, lucid5": lambda: Fourier(canvas=96, chain="lucid5", min_max=False),
    "cbr": lambda: CBR(canvas=96, views=2),
    "am": lambda: AM(canvas=96),
    "am, normalised": lambda: AM(canvas=96, domain="pixel", ascent="normalised"),
    "am, adam": lambda: AM(canvas=96, ascent="adam", decay=1.0, chain="none"),
}


@pytest.mark.parametrize("make", METHODS.values(), ids=METHODS)
def test_a_step_waits_for_nothing(classifier, monkeypatch, make):
    monkeypatch.setenv("FEATVIS_ENGINE", "torch")
    method = make()
    method.classifier = classifier
    units = [*parse_units("301,blocks.1:2", classifier), Along("blocks.2", 0, "along")]
    method._objectives = {unit: method.objective(unit) for unit in units}
    state = method.optimisation(units)
    # What the first step makes is kept.
    method.step(state)
    found = watched(monkeypatch, lambda: method.step(state))
    assert not found, found
    assert state.scores[1].isfinite().all()
    assert float((state.scores[1] - state.scores[0]).abs().max()) > 0
