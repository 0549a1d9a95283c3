"""NAdam in one pass is PyTorch's."""

from __future__ import annotations

import copy

import pytest
import torch

from featvis.engine.nadam import NAdam


def run(kind, parameters, gradients, state=None, **options):
    p = parameters.clone().requires_grad_()
    optimizer = kind([p], **options)
    if state is not None:
        optimizer.load_state_dict(copy.deepcopy(state))
    for gradient in gradients:
        p.grad = gradient.to(p.dtype)
        optimizer.step()
    return p.detach(), optimizer


@pytest.mark.parametrize("options", [{"lr": 1.0}, {"lr": 0.1, "maximize": True, "betas": (0.8, 0.99), "eps": 1e-3}])
def test_steps_are_pytorchs_in_double_precision(options):
    g = torch.Generator().manual_seed(0)
    start = torch.randn(2, 3, 8, 5, generator=g)
    gradients = [torch.randn(start.shape, generator=g) * (1 + i % 7) for i in range(60)]
    ours, ours_state = run(NAdam, start, gradients, **options)
    exact, _ = run(torch.optim.NAdam, start.double(), gradients, **options)
    theirs, theirs_state = run(torch.optim.NAdam, start, gradients, **options)
    assert float((ours - exact).abs().max()) < 2 * float((theirs - exact).abs().max()) + 1e-6
    # One goes on from where the other stopped.
    a, b = copy.deepcopy(ours_state.state_dict()), copy.deepcopy(theirs_state.state_dict())
    assert a["state"][0].keys() == b["state"][0].keys()
    for state in (a, b):
        further, _ = run(NAdam, ours, gradients[:5], state, **options)
        expected, _ = run(torch.optim.NAdam, ours, gradients[:5], state, **options)
        assert torch.allclose(further, expected, atol=1e-5)


def test_weight_decay_is_left_to_pytorch_and_double_precision_is_kept():
    g = torch.Generator().manual_seed(0)
    start, gradients = torch.randn(7, generator=g), [torch.randn(7, generator=g) for _ in range(5)]
    for dtype, options in ((torch.float64, {}), (torch.float32, {"weight_decay": 0.1})):
        ours, _ = run(NAdam, start.to(dtype), gradients, lr=0.5, **options)
        theirs, _ = run(torch.optim.NAdam, start.to(dtype), gradients, lr=0.5, **options)
        # PyTorch keeps the product of its momenta in float32.
        assert torch.equal(ours, theirs) if options else torch.allclose(ours, theirs, rtol=1e-6)
