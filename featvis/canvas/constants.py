"""Small tensors that every step needs, made once a device: copying them there each time would have a GPU wait."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor


@lru_cache(maxsize=256)
def constant(values: Any, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """The tensor of a number or a tuple of tuples of numbers; it is shared, so nothing may be written to it."""
    # One that was made in inference mode could never be part of a gradient.
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)
