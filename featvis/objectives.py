"""What an image is optimised for: the activations of N views in, N scalars out (pre-softmax, higher is more).

Objectives are values. `0.5 * logit(301) - channel("blocks.2", 7)` makes a new one and prints as it reads; no operator
changes its operands.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

LOGITS = "logits"
"""The name of the classifier's output among the layers."""


@runtime_checkable
class Term(Protocol):
    """One summand of an objective."""

    @property
    def layer(self) -> str:
        """The layer that it reads."""
        ...

    def __call__(self, activation: Tensor) -> Tensor:
        """(N, C): activations averaged over positions, to (N,)."""
        ...


@dataclass(frozen=True)
class Channel:
    """One channel of a layer, or one logit: its mean over space (CNN) or over tokens, CLS included (ViT)."""

    layer: str
    index: int

    def __call__(self, activation: Float[Tensor, "n c"]) -> Float[Tensor, n]:
        """The channel's mean activation."""
        return activation[:, self.index]

    def __str__(self) -> str:
        return f"{self.layer}:{self.index}"


@dataclass(frozen=True)
class Direction:
    """The dot product of a layer's mean activation with a direction of its channel space."""

    layer: str
    vector: tuple[float, ...]

    def __call__(self, activation: Float[Tensor, "n c"]) -> Float[Tensor, n]:
        """Raises ValueError if the direction has another number of channels than the layer."""
        if len(self.vector) != activation.shape[1]:
            raise ValueError(
                f"the direction has {len(self.vector)} components, but {self.layer} has {activation.shape[1]} channels"
            )
        return activation @ torch.tensor(self.vector, dtype=activation.dtype, device=activation.device)

    def __str__(self) -> str:
        return f"direction({self.layer}, {len(self.vector)} channels)"


@dataclass(frozen=True)
class Objective:
    """A weighted sum of terms; immutable.

    Attributes:
        terms: (weight, term) pairs.
    """

    terms: tuple[tuple[float, Term], ...]

    @property
    def layers(self) -> frozenset[str]:
        """The layers that must be read."""
        return frozenset(term.layer for _, term in self.terms)

    def __call__(self, activations: Mapping[str, Float[Tensor, "n _"]]) -> Float[Tensor, n]:
        """One scalar a view, from each layer's activations averaged over positions."""
        return torch.stack([weight * term(activations[term.layer]) for weight, term in self.terms]).sum(0)

    def __add__(self, other: Objective) -> Objective:
        return Objective(self.terms + other.terms) if isinstance(other, Objective) else NotImplemented

    def __mul__(self, factor: float | int) -> Objective:
        return Objective(tuple((weight * factor, term) for weight, term in self.terms))

    __rmul__ = __mul__

    def __neg__(self) -> Objective:
        return self * -1.0

    def __sub__(self, other: Objective) -> Objective:
        return self + -other if isinstance(other, Objective) else NotImplemented

    def __str__(self) -> str:
        text = " + ".join(str(term) if weight == 1 else f"{weight:g}*{term}" for weight, term in self.terms)
        return text.replace("+ -1*", "- ").replace("+ -", "- ")


def logit(index: int) -> Objective:
    """The pre-softmax score of a class."""
    return channel(LOGITS, index)


def channel(layer: str, index: int) -> Objective:
    """The mean activation of a channel of a layer."""
    return Objective(((1.0, Channel(layer, index)),))


def direction(layer: str, vector: Tensor | tuple[float, ...]) -> Objective:
    """The mean activation of a layer along a direction (C,)."""
    values = vector.tolist() if isinstance(vector, Tensor) else vector
    return Objective(((1.0, Direction(layer, tuple(float(v) for v in values))),))
