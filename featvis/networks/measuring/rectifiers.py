"""ReLUs of a network as they run: modules, shared modules and functions alike, told apart by their place in the pass.

A unit behind a ReLU that is zero for an image gives no direction to ascend; what goes into that ReLU does (the
redirected ReLU of Lucid, Olah et al. 2017). For that its input must be had, whatever the network calls it.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any, no_type_check

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

Seen = Callable[[int, float, Tensor, Tensor], None]
"""Told of a ReLU: its place, its upper bound, what went in (before it is overwritten, if kept) and what came out."""

_PLAIN = {F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}
_BOUNDED = {F.relu6: (0.0, 6.0), F.hardtanh: None, F.hardtanh_: None}


class Rectifiers(TorchFunctionMode):
    """Numbers the ReLUs of whatever runs during the with block, in this thread, from 0.

    Args:
        keep: places whose input is kept, by place, in `before`: a copy, as a ReLU may work in place.
        seen: told of each.
    """

    def __init__(self, keep: frozenset[int] = frozenset(), seen: Seen | None = None) -> None:
        super().__init__()
        self.keep, self.seen = keep, seen
        self.before: dict[int, Tensor] = {}
        self.count = 0

    @no_type_check  # each of a network's operations comes by here: checks of types would take longer than it does
    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """One function of torch's."""
        kwargs = kwargs or {}
        bound = _bound(function, args, kwargs) if function in _PLAIN or function in _BOUNDED else None
        if bound is None:
            return function(*args, **kwargs)
        place, given = self.count, args[0] if args else kwargs["input"]
        self.count += 1
        if place in self.keep:
            self.before[place] = given.clone()
        output = function(*args, **kwargs)
        if self.seen is not None:
            self.seen(place, bound, given, output)
        return output


def _bound(function: Any, args: Any, kwargs: Any) -> float | None:
    """The upper bound of a ReLU, infinite where it has none; None for any other function."""
    if function in _PLAIN:
        return math.inf
    if function not in _BOUNDED:
        return None
    limits = _BOUNDED[function]
    if limits is None:
        given = inspect.signature(F.hardtanh).bind(*args, **kwargs)
        given.apply_defaults()
        limits = float(given.arguments["min_val"]), float(given.arguments["max_val"])
    return limits[1] if limits[0] == 0 else None
