"""What a network puts out, as logits: a tensor, a tuple, a dict or a dataclass in; (N, K) out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from featvis.errors import UserError

NAMES = ("logits", "image_embeds", "image_features", "pooler_output", "output", "out", "pred", "predictions", "scores")
"""What outputs with named parts call the one that is meant, the first that there is."""


def logits_of(output: Any) -> Float[Tensor, "n k"]:
    """One row an image.

    A tensor (N, K), (N,) or (N, K, 1, 1); or the part of a dict, a dataclass, a named tuple or a tuple that is one:
    one of `NAMES`, else the only one.

    Raises:
        UserError: when there is no such tensor, or more than one.

    Example:
        >>> import torch
        >>> from featvis.networks.own.outputs import logits_of
        >>> logits_of({"loss": None, "logits": torch.zeros(2, 5)}).shape, logits_of(torch.zeros(2, 5, 1, 1)).shape
        (torch.Size([2, 5]), torch.Size([2, 5]))
    """
    if isinstance(output, Tensor):
        if (flat := _flat(output)) is None:
            raise UserError(f"the network puts out {_text(output)} for an image, not one number a class")
        return flat
    parts = _parts(output)
    for name in NAMES:
        if name in parts and isinstance(part := parts[name], Tensor) and (flat := _flat(part)) is not None:
            return flat
    found = [flat for part in parts.values() if isinstance(part, Tensor) and (flat := _flat(part)) is not None]
    # A tuple's first is its logits, by convention (loss aside, which eval mode does not give).
    if found and (len(found) == 1 or isinstance(output, tuple | list)):
        return found[0]
    what = ", ".join(f"{name}: {_text(part)}" for name, part in parts.items()) or "nothing in it"
    raise UserError(
        f"the network puts out a {type(output).__name__} ({what:.200}), in which no part is known to be its logits; "
        "name that part logits, or wrap the network in a module that puts out (N, classes)"
    )


def _flat(x: Tensor) -> Tensor | None:
    if x.ndim == 1:
        return x[:, None]
    return x.flatten(1) if x.ndim == 2 or (x.ndim == 4 and x.shape[2:] == (1, 1)) else None


def _parts(output: Any) -> dict[str, Any]:
    if isinstance(output, Mapping):
        return {str(k): v for k, v in output.items()}
    if dataclasses.is_dataclass(output):
        return {f.name: getattr(output, f.name) for f in dataclasses.fields(output)}
    if isinstance(output, tuple | list):
        names: Iterable[str] = getattr(output, "_fields", map(str, range(len(output))))
        return dict(zip(names, output, strict=True))
    return dict(vars(output)) if hasattr(output, "__dict__") else {}


def _text(part: Any) -> str:
    return " x ".join(map(str, part.shape[1:])) or "one number" if isinstance(part, Tensor) else type(part).__name__


def plain(net: nn.Module) -> nn.Module:
    """The same module, whose output is its logits (N, K), whatever it was; its layers keep their names.

    Its class becomes a subclass of what it was, as `torch.nn.utils.parametrize` makes them: a copy of it is one too.
    """
    cls = type(net)

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        return logits_of(cast(Any, super(made, self)).forward(*args, **kwargs))

    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
    made = type(cls.__name__, (cls,), {"forward": forward, **names})
    net.__class__ = made
    return net


class Sealed(nn.Module):
    """A module that Python does not run layer by layer (`torch.jit`): its logits can be read, its layers cannot."""

    def __init__(self, script: Any) -> None:
        super().__init__()
        self.script = script

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """Logits."""
        return logits_of(self.script(x))

    def named_modules(self, *args: Any, **kwargs: Any) -> Any:
        """Itself alone: hooks on what is inside would never be called."""
        yield "", self


def is_sealed(net: nn.Module) -> bool:
    """Whether layers of a module cannot be read."""
    return isinstance(net, torch.jit.ScriptModule)
