"""The moments of what goes into a layer: mean and variance of each channel, as DeepInversion wants of batch norms."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

MOMENTS = "moments"
"""What `layer[moments]` reads: (N, 2, C), the mean and the variance over the positions, of an image each."""


def moments(x: Float[Tensor, "n c *p"]) -> Float[Tensor, "n 2 c"]:
    """Mean and (biased) variance over the positions of each image and channel; of a vector itself and 0.

    Those of a whole batch follow without what is lost in a difference of large numbers: its mean is the mean of the
    means, its variance the mean of the variances and the variance of the means.
    """
    # Channels last, and in two sums: PyTorch's own variance takes as long as the convolutions on a CPU.
    rows = x.float().reshape(*x.shape[:2], -1).transpose(1, 2)
    mean = rows.mean(1)
    return torch.stack([mean, (rows - mean[:, None]).square().mean(1)], 1)


@contextmanager
def moments_read(net: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """The moments of what goes into layers during the with block, by name; their hooks are removed at its end."""
    found: dict[str, Tensor] = {}
    own = threading.get_ident()

    def keep(name: str) -> Any:
        def hook(module: nn.Module, args: Any) -> None:
            if threading.get_ident() == own:  # no other thread in the same network
                found[name] = moments(args[0])

        return hook

    handles = [net.get_submodule(layer).register_forward_pre_hook(keep(layer)) for layer in layers]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
