"""What an image is optimised for: the activations of N views in, N scalars out (pre-softmax, higher is more).

A term reads one tap of the network, written as `featvis.networks.layers` has it: (N, C), or (N, P, C) for `layer[:]`.

Objectives are values. `0.5 * logit(301) - channel("blocks.2", 7)` makes a new one and prints as it reads; no operator
changes its operands.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from featvis.canvas.constants import constant
from featvis.errors import UserError
from featvis.networks.layers import MIDDLE, tap

LOGITS = "logits"
"""The name of the classifier's output among the layers."""


@dataclass(frozen=True, eq=False)
class Function:
    """Any function of what some taps read.

    Attributes:
        function: a dict of activations, (N, C) each, or (N, P, C) for `layer[:]`, to (N,); or, where one tap is read,
            of its activations.
        taps: what is read.
    """

    function: Callable[..., Tensor]
    taps: tuple[str, ...]

    def read(self, activations: Mapping[str, Tensor]) -> Float[Tensor, n]:
        """One number a view.

        Raises:
            UserError: when the function raises, or gives something else.
        """
        given = {t: activations[t] for t in self.taps}
        try:
            found = self.function(given)
        except Exception as error:  # anyone's code may raise anything
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise UserError(
                f"the objective {self} cannot be computed ({reason:.200}); it is given {self._given(given)}"
            ) from error
        count = len(next(iter(given.values())))
        if not isinstance(found, Tensor) or found.shape != (count,):
            shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise UserError(
                f"the objective {self} gives {shape} for {count} views, not one number a view; reduce over all "
                "dimensions but the first"
            )
        return found

    def _given(self, given: Mapping[str, Tensor]) -> str:
        return ", ".join(f"{t}: {' x '.join(map(str, a.shape))}" for t, a in given.items())

    def __str__(self) -> str:
        name = getattr(self.function, "__name__", type(self.function).__name__)
        return f"{'function' if name == '<lambda>' else name}({', '.join(self.taps)})"


@runtime_checkable
class Term(Protocol):
    """One summand of an objective.

    One that has a text `content` says with it what its own text leaves out, so that others are told from it by name.
    """

    @property
    def tap(self) -> str:
        """What it reads."""
        ...

    def __call__(self, activation: Tensor) -> Tensor:
        """The activations of its tap, to (N,)."""
        ...


@dataclass(frozen=True)
class Channel:
    """One channel of a layer, or one logit: its mean over space (CNN) or over tokens, CLS included (ViT).

    Attributes:
        layer: its name.
        index: of the channel.
        where: other positions than all of them, see `featvis.networks.layers`.
    """

    content: ClassVar[str] = ""

    layer: str
    index: int
    where: str = ""

    @property
    def tap(self) -> str:
        """What it reads."""
        return tap(self.layer, self.where)

    def __call__(self, activation: Float[Tensor, "n c"]) -> Float[Tensor, n]:
        """The channel's mean activation."""
        return activation[:, self.index]

    def __str__(self) -> str:
        return f"{self.layer}:{self.index}" + (f"[{self.where}]" if self.where else "")


@dataclass(frozen=True)
class Direction:
    """The dot product of a layer's mean activation with a direction of its channel space.

    Attributes:
        layer: its name.
        vector: (C,).
        where: other positions than all of them, see `featvis.networks.layers`.
        cosine: dot * max(cos, .1)^2 instead. The dot product alone can grow along one strong channel; the cosine asks
            for the direction as a whole.
    """

    layer: str
    vector: tuple[float, ...]
    where: str = ""
    cosine: bool = False

    @property
    def tap(self) -> str:
        """What it reads."""
        return tap(self.layer, self.where)

    @property
    def content(self) -> str:
        """The vector, and where it is read."""
        return repr((self.vector, self.where))

    def __call__(self, activation: Float[Tensor, "n c"]) -> Float[Tensor, n]:
        """Raises ValueError if the direction has another number of channels than the layer."""
        if len(self.vector) != activation.shape[1]:
            raise ValueError(
                f"the direction has {len(self.vector)} components, but {self.layer} has {activation.shape[1]} channels"
            )
        vector = constant(self.vector, activation.device, activation.dtype)
        return agreement(activation, vector) if self.cosine else activation @ vector

    def __str__(self) -> str:
        return f"direction({self.layer}, {len(self.vector)} channels{', cosine' if self.cosine else ''})"


def agreement(activation: Float[Tensor, "n d"], target: Float[Tensor, "*m d"]) -> Float[Tensor, n]:
    """dot * max(cos, .1)^2 (Olah et al. 2017, "Caricatures" of Lucid), with one target or one each."""
    alike = F.cosine_similarity(activation, target.expand_as(activation), dim=1).clamp_min(0.1).square()
    return (activation @ target if target.ndim == 1 else (activation * target).sum(1)) * alike


@dataclass(frozen=True, eq=False)
class Match:
    """How well a layer's activations agree with given ones: dot * max(cos, .1)^2 over all positions and channels.

    The dot product alone could grow without end along one strong feature; the cosine asks for all of them (Olah et al.
    2017, "Caricatures" of Lucid; Fel et al. 2023, section 5, feature inversion). Each view is compared on its own.

    Attributes:
        layer: its name.
        target: (P, C), the activations asked for, as `Layer.read(..., ":")` gives them.
    """

    layer: str
    target: Float[Tensor, "p c"]

    @property
    def tap(self) -> str:
        """What it reads."""
        return tap(self.layer, ":")

    @property
    def content(self) -> str:
        """The target, by its numbers."""
        values = self.target.detach().double().cpu().contiguous().numpy().tobytes()
        return f"{tuple(self.target.shape)} {hashlib.sha256(values).hexdigest()}"

    def __call__(self, activation: Float[Tensor, "n p c"]) -> Float[Tensor, n]:
        """Divided by the target's norm, so that layers and images are comparable."""
        target = self.target.to(activation).flatten()
        return agreement(activation.flatten(1), target / target.norm().clamp_min(1e-12))

    def __str__(self) -> str:
        return f"match({self.layer})"


@dataclass(frozen=True)
class Objective:
    """A weighted sum of terms; immutable.

    Attributes:
        terms: (weight, term) pairs.
    """

    terms: tuple[tuple[float, Term | Function], ...]

    @property
    def taps(self) -> frozenset[str]:
        """What must be read of the network."""
        return frozenset(tap for _, term in self.terms for tap in taps_of(term))

    @functools.cached_property
    def content(self) -> str:
        """Its text and what that leaves out: the numbers of vectors and targets, and of weights further digits."""
        said = [str(self)]
        for i, (weight, term) in enumerate(self.terms):
            if float(f"{weight:g}") != weight:
                said.append(f"{i} {weight!r}")
            if more := getattr(term, "content", ""):
                said.append(f"{i} {more}")
        return "\n".join(said)

    @property
    def unsaid(self) -> tuple[object, ...]:
        """The functions in it, and other terms of which nothing says what they are."""
        return tuple(getattr(term, "function", term) for _, term in self.terms if not hasattr(term, "content"))

    def __call__(self, activations: Mapping[str, Tensor]) -> Float[Tensor, n]:
        """One scalar a view, from the activations of each tap."""
        rows = [
            weight * (term.read(activations) if isinstance(term, Function) else term(activations[term.tap]))
            for weight, term in self.terms
        ]
        return torch.stack(rows).sum(0)

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


def taps_of(term: Term | Function) -> tuple[str, ...]:
    """What a summand reads."""
    return term.taps if isinstance(term, Function) else (term.tap,)


def logit(index: int) -> Objective:
    """The pre-softmax score of a class.

    Example:
        >>> import torch
        >>> from featvis.networks.objectives import logit
        >>> objective = logit(1) - 0.5 * logit(0)
        >>> print(objective)
        logits:1 - 0.5*logits:0
        >>> objective({"logits": torch.tensor([[4.0, 5.0]])}).tolist()
        [3.0]
    """
    return channel(LOGITS, index)


def channel(layer: str, index: int, where: str = "") -> Objective:
    """The activation of a channel of a layer, its mean over all positions or over those of `where`.

    Example:
        >>> import torch
        >>> from featvis.networks.objectives import channel
        >>> objective = channel("blocks.2", 1)
        >>> objective({"blocks.2": torch.tensor([[4.0, 5.0]])}).tolist()
        [5.0]
    """
    return Objective(((1.0, Channel(layer, index, where)),))


def neuron(layer: str, index: int, position: tuple[int, int] | None = None) -> Objective:
    """The activation of a channel at one position, (row, column); None: the middle of a map, which is known later.

    Example:
        >>> from featvis.networks.objectives import neuron
        >>> print(neuron("layer3", 7, (4, 5)))
        layer3:7[4,5]
    """
    return channel(layer, index, MIDDLE if position is None else f"{position[0]},{position[1]}")


def objective(function: Callable[[Mapping[str, Tensor]], Tensor], *taps: str) -> Objective:
    """Any function of activations, as an objective that can be added to others.

    Args:
        function: a dict of what the taps read, (N, C) each (or (N, P, C) for `layer[:]`), to one number a view, (N,).
        taps: layers, written as units are: `layer4`, `layer4[cls]`, `layer4[:]`, `logits`.

    Raises:
        UserError: when no tap is named.

    Example:
        >>> import torch
        >>> from featvis.networks.objectives import objective
        >>> contrast = objective(lambda a: a["layer4"][:, 3] - a["layer4"].mean(1), "layer4")
        >>> contrast({"layer4": torch.tensor([[0.0, 0.0, 0.0, 4.0]])}).tolist()
        [3.0]
    """
    if not taps:
        raise UserError("an objective needs the names of the layers that its function reads: objective(f, 'layer4')")
    return Objective(((1.0, Function(function, taps)),))


def direction(layer: str, vector: Tensor | tuple[float, ...], where: str = "", cosine: bool = False) -> Objective:
    """The mean activation of a layer along a direction (C,); `cosine`: see `Direction`.

    Example:
        >>> import torch
        >>> from featvis.networks.objectives import direction
        >>> objective = direction("blocks.2", (0.6, 0.8))
        >>> round(float(objective({"blocks.2": torch.tensor([[5.0, 5.0]])})), 4)
        7.0
    """
    values = vector.tolist() if isinstance(vector, Tensor) else vector
    return Objective(((1.0, Direction(layer, tuple(float(v) for v in values), where, cosine)),))


def match(layer: str, target: Float[Tensor, "p c"]) -> Objective:
    """The agreement of a layer's activations with given ones, position by position.

    Example:
        >>> import torch
        >>> from featvis.networks.objectives import match
        >>> target = torch.tensor([[3.0, 0.0], [0.0, 4.0]])  # two positions, two channels
        >>> objective = match("blocks.2", target)
        >>> round(float(objective({"blocks.2[:]": target[None]})), 4)  # its own norm
        5.0
    """
    return Objective(((1.0, Match(layer, target)),))
