"""DeepInversion: images of classes whose batch has the statistics that the batch norms keep (Yin et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from featvis.canvas.parametrizations import Pixel, ScaledSpectrum
from featvis.canvas.transforms import Flip, Roll, Transform
from featvis.errors import UserError
from featvis.generators.base import Generator
from featvis.generators.state import cosine
from featvis.networks.classifier import NORMS
from featvis.networks.layers import Layer, tap
from featvis.networks.measuring import MOMENTS
from featvis.networks.objectives import LOGITS, Objective, objective
from featvis.networks.units import Together, Unit


class DeepInversion(Generator):
    """Cross-entropy, batch statistics, total variation and norm (Yin et al. 2020, section 3.2, equations 2 to 4).

    The statistics are of all images of a group together, as they were of the training's batches, so the images of a
    group are optimised together and depend on one another.

    The paper's code adds up |mean - m| and |variance - v| over the batch norms, norms over the channels. That grows
    with the scale of each layer, and drowns the classes; by default each is taken relative to |sqrt v| and to |v|. To
    |m| it would not do: means may be near zero.

    Args:
        group: images of a group: a number, so many units that follow one another; or `unit`, the images of one unit.
        statistics: weight of the batch statistics.
        relative: see above; false: as published.
        tv: weight of the total variation: the norms of the differences to the four neighbours, added up.
        l2: weight of the canvas's norm.
        steps: optimisation steps.
        canvas: side of the canvas in pixels, or (height, width).
        domain: `spectrum`, scaled by frequency, or `pixel` as published.
        roll: pixels by which a view is rolled round, at most.
        lr: learning rate of Adam; it falls as a cosine.
        kwargs: of `Generator`.

    Raises:
        UserError: for a group of none; and, once the network is known, for one without batch norms.
    """

    sees = "batch statistics"

    def __init__(
        self,
        group: int | Literal["unit"] = 10,
        statistics: float = 0.2,
        relative: bool = True,
        tv: float = 1e-4,
        l2: float = 1e-5,
        steps: int = 96,
        canvas: int | tuple[int, int] = 224,
        domain: Literal["spectrum", "pixel"] = "spectrum",
        roll: int = 30,
        lr: float = 0.05,
        **kwargs: Any,
    ) -> None:
        super().__init__(steps=steps, canvas=canvas, lr=lr, **kwargs)
        if group != "unit" and group < 1:
            raise UserError(f"group must be at least 1, or unit, not {group}")
        self.together: Together = group
        self.statistics, self.relative, self.tv, self.l2 = statistics, relative, tv, l2
        self.chain: list[Transform] = [Roll(roll), Flip()]
        self.parametrization = (
            ScaledSpectrum(self.size) if domain == "spectrum" else Pixel(self.size, std=1.0, min_max=False)
        )

    def check_units(self, units: Sequence[Unit]) -> None:
        """Raise a UserError for a unit that is no class, or a network without batch norms."""
        for unit in units:
            if unit.layer != LOGITS:
                raise UserError(f"DeepInversion is of classes, and {unit.text} is a unit of a layer; name classes")
        if not self.running():
            raise UserError(
                f"DeepInversion reads the statistics of batch norms, and {self.load_classifier().alias} has none; take "
                "a network that has, for example efficientnet_lite0, or another method"
            )

    def running(self) -> dict[str, tuple[Tensor, Tensor]]:
        """The running mean and variance of each batch norm that the network runs, by what reads its input.

        Those of parts of images are left out: what goes in says nothing of one image.
        """
        network = self.load_classifier()
        return {
            tap(name, MOMENTS): (m.running_mean.float(), m.running_var.float())
            for name, m in network.net.named_modules()
            if isinstance(m, NORMS)
            and isinstance(network.measured().get(name), Layer)
            and m.running_mean is not None
            and m.running_var is not None
        }

    def transforms(self, step: int) -> Sequence[Transform]:
        """The canvas rolled round, and mirrored or not."""
        return self.chain

    def rate(self, step: int) -> float:
        """A cosine."""
        return cosine(self.lr, step, self.steps)

    def objective(self, unit: Unit) -> Objective:
        """The cross-entropy of the unit's class, with a minus."""

        def log_probability(a: Mapping[str, Tensor]) -> Float[Tensor, n]:
            return F.log_softmax(a[LOGITS], dim=1)[:, unit.index]

        return objective(log_probability, LOGITS)

    def shared_taps(self) -> frozenset[str]:
        """What goes into each batch norm."""
        return super().shared_taps() | frozenset(self.running())

    def shared(
        self, activations: Mapping[str, Tensor], units: Sequence[Unit]
    ) -> Float[Tensor, "b v"] | Float[Tensor, ""]:  # fmt: skip
        """The distance of the group's statistics to the running ones, with a minus; and diversity."""
        total = torch.zeros(())
        for name, (mean, variance) in self.running().items():
            means, variances = activations[name].unbind(1)
            off = (means.mean(0) - mean.to(means)).norm()
            # The variance of a batch: what it is within its images, and what is between them.
            wrong = (variances.mean(0) + means.var(0, correction=0) - variance.to(means)).norm()
            if self.relative:
                off, wrong = off / variance.sqrt().norm(), wrong / variance.norm()
            total = total.to(off) + off + wrong
        return super().shared(activations, units).to(total) - self.statistics * total

    def penalty(self, canvas: Float[Tensor, "b c h w"], fixed: Tensor | None) -> Float[Tensor, b]:
        """Total variation and norm."""
        y, x = canvas[..., 1:, :] - canvas[..., :-1, :], canvas[..., 1:] - canvas[..., :-1]
        falling = canvas[..., 1:, 1:] - canvas[..., :-1, :-1]
        rising = canvas[..., 1:, :-1] - canvas[..., :-1, 1:]
        variation = torch.stack([d.flatten(1).norm(dim=1) for d in (y, x, falling, rising)]).sum(0)
        return self.tv * variation + self.l2 * canvas.flatten(1).norm(dim=1)
