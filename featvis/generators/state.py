"""An optimisation under way: all that its next step depends on, as tensors, so that it can be put down and taken up."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from featvis.networks.units import Unit


@dataclass
class Part:
    """Units of a batch that are decoded and moved together, and share the network's micro-batch.

    Attributes:
        which: their places in the batch.
        parameters: what is optimised, (b, ...), a leaf without a gradient between the steps.
        fixed: what stays, or None.
        optimizer: of the parameters.
    """

    which: slice
    parameters: Tensor
    fixed: Tensor | None
    optimizer: torch.optim.Optimizer

    @classmethod
    def of(
        cls,
        which: slice,
        parameters: Tensor,
        fixed: Tensor | None,
        optimizer: Callable[[list[Tensor]], torch.optim.Optimizer],
    ) -> Part:
        """The part of a batch's parameters, in memory of its own: moving one part must not seem to change another."""
        # In the order of its axes: fused optimisers take a gradient to lie in memory as its parameter does.
        own = parameters[which].detach().clone(memory_format=torch.contiguous_format).requires_grad_()
        return cls(which, own, None if fixed is None else fixed[which], optimizer([own]))


@dataclass
class Optimisation:
    """A batch of B units being optimised.

    Attributes:
        units: the units.
        parts: their parameters and optimisers, in the order of the units.
        streams: each unit's random numbers.
        alpha: (B, H, W), the transparency so far.
        scores: (steps, B), the rows of the steps done.
        failed: (B,), the step at which a unit stopped being finite, or -1.
        step: how many are done.
        seconds: wall-clock time that was spent on them before this process.
    """

    units: list[Unit]
    parts: list[Part]
    streams: Sequence[torch.Generator]
    alpha: Float[Tensor, "b h w"]
    scores: Float[Tensor, "s b"]
    failed: Int[Tensor, b]
    step: int = 0
    seconds: float = 0.0

    def tensors(self) -> dict[str, Tensor]:
        """Everything, on the CPU, by name, however the batch was cut into parts."""
        found = {
            "parameters": torch.cat([p.parameters.detach() for p in self.parts]),
            "alpha": self.alpha,
            "scores": self.scores,
            "failed": self.failed,
            "step": torch.tensor(self.step),
            "seconds": torch.tensor(self.seconds, dtype=torch.float64),
            "streams": torch.stack([g.get_state() for g in self.streams]),
        }
        if self.parts[0].fixed is not None:
            found["fixed"] = torch.cat([p.fixed for p in self.parts if p.fixed is not None])
        kept = [p.optimizer.state.get(p.parameters, {}) for p in self.parts]
        for name, value in kept[0].items():
            if isinstance(value, Tensor) and value.ndim:
                found[f"optimizer.tensor.{name}"] = torch.cat([k[name] for k in kept])
            elif value is not None:
                # A counter, the same in all parts.
                kind = "tensor" if isinstance(value, Tensor) else "number"
                found[f"optimizer.{kind}.{name}"] = torch.as_tensor(value)
        return {name: t.detach().cpu().contiguous() for name, t in found.items()}

    def fits(self, tensors: Mapping[str, Tensor]) -> bool:
        """Whether the random streams of what `tensors` gave can go on here: a GPU's state is shorter than a CPU's."""
        return [len(state) for state in tensors["streams"]] == [len(g.get_state()) for g in self.streams]

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `tensors` gave."""
        self.alpha.copy_(tensors["alpha"])
        self.scores.copy_(tensors["scores"])
        self.failed.copy_(tensors["failed"])
        self.step, self.seconds = int(tensors["step"]), float(tensors["seconds"])
        for stream, state in zip(self.streams, tensors["streams"], strict=True):
            # A row of a tensor is read from its storage's beginning.
            stream.set_state(state.clone())
        for part in self.parts:
            with torch.no_grad():
                part.parameters.copy_(tensors["parameters"][part.which])
                if part.fixed is not None:
                    part.fixed.copy_(tensors["fixed"][part.which])
            kept: dict[str, Tensor | float] = {}
            for key, value in tensors.items():
                if key.startswith("optimizer."):
                    _, kind, name = key.split(".", 2)
                    if kind == "number":
                        kept[name] = value.item()
                        continue
                    # Optimisers keep a counter of one number on the CPU, but for those that are one operation.
                    there = value.ndim or any(group.get("fused") for group in part.optimizer.param_groups)
                    own = (value[part.which] if value.ndim else value).clone()
                    kept[name] = own.to(part.parameters.device) if there else own
            if kept:
                part.optimizer.state[part.parameters] = kept


def even(count: int, limit: int) -> list[int]:
    """`count` as a sum of as few numbers as possible, none above `limit`, that differ by one at most; large first."""
    parts = -(-count // limit)
    return [count // parts + (i < count % parts) for i in range(parts)]


def halves(chunk: tuple[slice, slice]) -> list[tuple[slice, slice]]:
    """The two halves of a micro-batch, the second one first (they are taken from the end of a list)."""
    which, views = chunk
    if which.stop - which.start > 1:
        middle = (which.start + which.stop) // 2
        return [(slice(middle, which.stop), views), (slice(which.start, middle), views)]
    middle = (views.start + views.stop) // 2
    return [(which, slice(middle, views.stop)), (which, slice(views.start, middle))]


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory ran out, on any device."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in text


@dataclass
class Visualizations:
    """What `predict_step` gives for a batch of B units.

    Attributes:
        units: the units.
        canvas: (B, C, H, W), RGB as a rule, in [0, 1], on the CPU.
        alpha: (B, H, W), the sum over the steps of |d score / d canvas|, channel mean; not scaled.
        scores: (steps, B), each step's mean score over the views.
        activations: (B,), the objective on the canvas as image files are seen (`Classifier.preprocess`).
        failed: step at which a unit's score, gradient or (`steps`: after the last one) canvas was not finite, by its
            place in the batch.
        seconds: wall-clock time of the batch.
        silent: places of units that had no gradient at any step.
    """

    units: list[Unit]
    canvas: Float[Tensor, "b c h w"]
    alpha: Float[Tensor, "b h w"]
    scores: Float[Tensor, "s b"]
    activations: Float[Tensor, b]
    failed: dict[int, int]
    seconds: float
    silent: list[int] = field(default_factory=list)


def adam(parameters: list[Tensor], lr: float) -> torch.optim.Optimizer:
    """Adam, upwards, in one operation where there is one: it reads no step count back from the device."""
    fused = parameters[0].device.type in ("cpu", "cuda")
    return torch.optim.Adam(parameters, lr=lr, fused=fused, maximize=True)


def cosine(lr: float, step: int, steps: int, warmup: float = 0.0) -> float:
    """A learning rate that rises linearly over the first `warmup` (a fraction of the steps), then falls as a cosine.

    Example:
        >>> from featvis.generators.state import cosine
        >>> [round(cosine(1.0, step, 8, warmup=0.25), 2) for step in range(8)]
        [0.5, 1.0, 1.0, 0.93, 0.75, 0.5, 0.25, 0.07]
    """
    rising = round(warmup * steps)
    if step < rising:
        return lr * (step + 1) / rising
    return lr * (1 + math.cos(math.pi * (step - rising) / (steps - rising))) / 2


def finite(x: Float[Tensor, "b ..."]) -> Float[Tensor, b]:
    """Which items of a batch hold finite values alone."""
    return x.flatten(1).sum(1).isfinite()
