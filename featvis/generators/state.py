"""An optimisation under way: all that its next step depends on, as tensors, so that it can be put down and taken up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from featvis.units import Unit


@dataclass
class Optimisation:
    """A batch of B units being optimised.

    Attributes:
        units: the units.
        parameters: what is optimised, (B, ...).
        fixed: what stays, or None.
        optimizer: of the parameters.
        streams: each unit's random numbers.
        alpha: (B, H, W), the transparency so far.
        scores: (steps, B), the rows of the steps done.
        failed: the step at which a unit stopped being finite, by its place in the batch.
        step: how many are done.
        seconds: wall-clock time that was spent on them before this process.
    """

    units: list[Unit]
    parameters: Tensor
    fixed: Tensor | None
    optimizer: torch.optim.Optimizer
    streams: Sequence[torch.Generator]
    alpha: Float[Tensor, "b h w"]
    scores: Float[Tensor, "s b"]
    failed: dict[int, int] = field(default_factory=dict)
    step: int = 0
    seconds: float = 0.0

    def tensors(self) -> dict[str, Tensor]:
        """Everything, on the CPU, by name."""
        failed = torch.tensor([self.failed.get(i, -1) for i in range(len(self.units))])
        found = {
            "parameters": self.parameters.detach(),
            "alpha": self.alpha,
            "scores": self.scores,
            "failed": failed,
            "step": torch.tensor(self.step),
            "seconds": torch.tensor(self.seconds, dtype=torch.float64),
            "streams": torch.stack([g.get_state() for g in self.streams]),
        }
        if self.fixed is not None:
            found["fixed"] = self.fixed
        for name, value in self.optimizer.state.get(self.parameters, {}).items():
            if value is not None:
                kind = "tensor" if isinstance(value, Tensor) else "number"
                found[f"optimizer.{kind}.{name}"] = torch.as_tensor(value)
        return {name: t.detach().cpu().contiguous() for name, t in found.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `tensors` gave."""
        device = self.parameters.device
        with torch.no_grad():
            self.parameters.copy_(tensors["parameters"])
        if self.fixed is not None:
            self.fixed.copy_(tensors["fixed"])
        self.alpha.copy_(tensors["alpha"])
        self.scores.copy_(tensors["scores"])
        self.failed = {i: int(s) for i, s in enumerate(tensors["failed"]) if int(s) >= 0}
        self.step, self.seconds = int(tensors["step"]), float(tensors["seconds"])
        for stream, state in zip(self.streams, tensors["streams"], strict=True):
            # A row of a tensor is read from its storage's beginning.
            stream.set_state(state.clone())
        kept: dict[str, Tensor | float] = {}
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                _, kind, name = key.split(".", 2)
                # A counter of one number stays on the CPU, where PyTorch's optimisers have it.
                kept[name] = value.item() if kind == "number" else value.clone() if not value.ndim else value.to(device)
        if kept:
            self.optimizer.state[self.parameters] = kept
