"""Views that are not rotated, by compiled loops: the values and the gradient of `grid_sample`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from featvis import engine

upright = st.floats(0.3, 2.5).flatmap(lambda scale: st.sampled_from([scale, -scale]))


@given(upright, upright, st.floats(-12, 30), st.floats(-12, 30), st.integers(0, 3), st.booleans())
@settings(max_examples=60, deadline=None)
def test_views_that_are_not_rotated_have_the_gradient_of_grid_sample(a, b, x, y, margin, border):
    """Stretched, mirrored, and partly or wholly beside the canvas."""
    matrix = torch.tensor([[[[a, 0, x], [0, b, y]], [[b, 0, y], [0, a, x]]]], dtype=torch.float64)
    canvas = torch.rand(1, 3, 17, 19, generator=torch.Generator().manual_seed(0)).requires_grad_()
    exact = canvas.detach().double().requires_grad_()
    views = engine.sample(canvas, matrix, (9, 11), margin, border)
    assert views.grad_fn.name() == "_UprightBackward"
    weights = torch.rand(views.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    at = [torch.arange(n + 2 * margin, dtype=torch.float64) + 0.5 - margin for n in (11, 9)]
    for view in range(2):
        m = matrix[0, view]
        places = torch.stack(
            torch.meshgrid(
                (m[0, 0] * at[0] + m[0, 2]) * 2 / 19 - 1, (m[1, 1] * at[1] + m[1, 2]) * 2 / 17 - 1, indexing="xy"
            ),
            -1,
        )
        expected = F.grid_sample(
            exact, places[None], padding_mode="border" if border else "zeros", align_corners=False
        )[0]
        assert torch.allclose(views[view].double(), expected, atol=1e-6)
        (theirs,) = torch.autograd.grad((expected * weights[view]).sum(), exact)
        (ours,) = torch.autograd.grad((views[view] * weights[view]).sum(), canvas, retain_graph=True)
        assert torch.allclose(ours.double(), theirs, atol=1e-5)
