"""Targeted adversarial examples by activation maximisation (Zhu and Cangelosi 2025, section 4.4).

In: an image as the network sees it, (3, H, W) in [0, 1] on the 256 levels of a byte, and a class. Out: an image of the
same size whose every value lies within epsilon of the original's, on those levels too, and in which the network sees
the class. A unit of the `Attack` is such a pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from featvis.data.channels import alpha_fact
from featvis.data.files import ImageFile, as_seen, digest
from featvis.errors import UserError
from featvis.generators.base import Generator
from featvis.networks.classifier import Classifier
from featvis.networks.objectives import LOGITS
from featvis.networks.units import ImageUnit, Unit, stream_seed

LEVELS = 255
"""Steps between black and white in an image file."""


@dataclass(frozen=True, kw_only=True)
class Pair(ImageUnit):
    """An image and the class that it shall be taken for: the unit of an attack, whose `index` is that class.

    Attributes:
        own: the class that the image shows by its name, or None where that carries none.
    """

    own: int | None

    @property
    def id(self) -> str:
        """Its name in file names and records: `n01440764_141.3fa9c120-to-301`."""
        return f"{self.image}-to-{self.index}"


def total_variation(x: Float[Tensor, "b c h w"]) -> Float[Tensor, b]:
    """Anisotropic total variation: the sum of |differences| between neighbours down and across, of each image."""
    down = (x[..., 1:, :] - x[..., :-1, :]).abs().flatten(1).sum(1)
    across = (x[..., 1:] - x[..., :-1]).abs().flatten(1).sum(1)
    return down + across


def project(
    x: Float[Tensor, "b c h w"], original: Float[Tensor, "b c h w"], epsilon: float
) -> Float[Tensor, "b c h w"]:
    """clip01(x0 + clip(x - x0, -e, e)): the nearest image of the L-infinity ball around the original and of [0, 1]."""
    return (original + (x - original).clamp(-epsilon, epsilon)).clamp(0, 1)


def radius(epsilon: float) -> int:
    """How many levels of an image file a value may change: the largest n <= 255 with n / 255 <= epsilon.

    A file is on whole levels: epsilon .01 leaves 2 of them (.0078), .05 leaves 12 (.0471).
    """
    n = min(LEVELS, int(epsilon * LEVELS))
    # 4/255 times 255 may be below 4 in floating point.
    return n + 1 if n < LEVELS and (n + 1) / LEVELS <= epsilon else n


def quantise(
    x: Float[Tensor, "b c h w"], original: Float[Tensor, "b c h w"], epsilon: float
) -> Float[Tensor, "b c h w"]:
    """The nearest image on the levels of a file that lies inside the ball, |q / 255 - x0| <= e, and in [0, 1].

    Args:
        x: an image; what is not finite stays so.
        original: x0, on the levels of a file.
        epsilon: radius of the ball.

    Returns:
        Multiples of 1 / 255.
    """
    k, n = (original * LEVELS).round(), radius(epsilon)
    low, high = (k - n).clamp_min(0), (k + n).clamp_max(LEVELS)
    return torch.minimum(torch.maximum((x * LEVELS).round(), low), high) / LEVELS


class _Itself:
    """The canvas itself is what moves."""

    def init(self, generators: Sequence[torch.Generator]) -> tuple[Tensor, Tensor | None]:
        raise TypeError("an attack starts from its images: `Attack.start`")

    def decode(self, parameters: Tensor, fixed: Tensor | None = None) -> Tensor:
        return parameters


class Attack(Generator):
    """Targeted attack: x <- clip01(x0 + clip(x + a grad(f_t(x) - l TV(x - x0)) - x0, -e, e)), f_t the target's logit.

    Zhu and Cangelosi 2025, section 4.4. The canvas has the size of the network's input, and the network sees it as it
    is. What is written is on the 256 levels of an image file and lies inside the ball as it stands there.

    Args:
        model: see `Generator`.
        steps: optimisation steps.
        epsilon: radius of the L-infinity ball, for values in [0, 1].
        lr: step size a; null: an eighth of epsilon, which suits steps by the sign.
        tv: weight l of the perturbation's total variation.
        sign: step by the sign of the gradient (Madry et al. 2018) instead of the gradient itself.
        seed: of the random targets, and of nothing else.
        micro_batch: see `Generator`.

    Raises:
        UserError: for an epsilon outside [0, 1], a negative `tv`, or an argument that `Generator` refuses.
    """

    sees = "one image"

    def __init__(
        self,
        model: str | torch.nn.Module = "efficientnet_lite0",
        steps: int = 30,
        epsilon: float = 4 / LEVELS,
        lr: float | None = None,
        tv: float = 1e-4,
        sign: bool = True,
        seed: int = 0,
        micro_batch: int | None = None,
    ) -> None:
        if not 0 <= epsilon <= 1:
            raise UserError(f"epsilon must be between 0 and 1, not {epsilon}")
        if not tv >= 0:
            raise UserError(f"tv must be at least 0, not {tv}")
        # A ball of radius 0 takes back whatever step is made.
        step = (epsilon / 8 or 1.0) if lr is None else lr
        # The network is judged in float32, so it is attacked in float32.
        super().__init__(model, steps, lr=step, seed=seed, micro_batch=micro_batch, precision="float32")
        self.epsilon, self.tv, self.sign = epsilon, tv, sign
        self.parametrization = _Itself()

    def in_channels(self, channels: int) -> _Itself:
        """The images have as many."""
        return _Itself()

    def load_classifier(self) -> Classifier:
        """The network, whose input is the canvas."""
        classifier = super().load_classifier()
        self.size = classifier.input_size
        return classifier

    def facts(self) -> dict[str, Any]:
        """The canvas, which is the network's and no argument; and whether alpha is seen."""
        network = self.load_classifier()
        return {"canvas": list(network.input_size), **alpha_fact(network.channels)}

    def start(self, units: list[Unit], streams: Sequence[torch.Generator]) -> tuple[Tensor, Tensor]:
        """The images, to begin with and to stay near."""
        pairs = [unit for unit in units if isinstance(unit, Pair)]
        if len(pairs) < len(units):
            raise UserError("an attack needs images: its units are pairs of an image and a class (`Pair`)")
        original = torch.stack([as_seen(pair.path, self.size, self._channels) for pair in pairs]).to(self.device)
        return original.clone(), original

    def penalty(self, canvas: Float[Tensor, "b c h w"], fixed: Tensor | None) -> Float[Tensor, b] | None:
        """l TV(x - x0)."""
        return self.tv * total_variation(canvas - fixed) if self.tv and fixed is not None else None

    def optimizer(self, parameters: list[Tensor]) -> torch.optim.Optimizer:
        """Plain steps along the gradient, or along its sign."""
        optimizer = torch.optim.SGD(parameters, lr=self.lr)
        if self.sign:
            optimizer.register_step_pre_hook(_to_signs)
        return optimizer

    def project(self, parameters: Tensor, fixed: Tensor | None) -> None:
        """Back into the ball and into [0, 1]."""
        assert fixed is not None
        parameters.copy_(project(parameters, fixed, self.epsilon))

    def finish(self, canvas: Float[Tensor, "b c h w"], fixed: Tensor | None) -> Float[Tensor, "b c h w"]:
        """On the levels of a file, still inside the ball."""
        assert fixed is not None
        return quantise(canvas, fixed, self.epsilon)

    def about(self, unit: Unit) -> dict[str, Any]:
        """Of which image, and what for."""
        assert isinstance(unit, Pair)
        return {
            "image": unit.path.name,
            "image_digest": f"{unit.digest:016x}",
            "own_class": unit.own,
            "target": unit.index,
            "epsilon": self.epsilon,
        }


def _to_signs(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad.sign_()


def pair_up(
    files: Sequence[ImageFile], targets: Sequence[int] | None, classifier: Classifier, seed: int = 0
) -> list[Pair]:
    """The pairs of images and targets, image by image.

    Args:
        files: images that can be decoded.
        targets: classes, each for every image; None: a random one for each image, a function of (seed, content) alone,
            never the class that the image shows: by its name or, where that carries none, by `classifier`.
        classifier: whose classes they are.
        seed: of the random targets.

    Returns:
        The pairs; one for images of the same name and content.

    Raises:
        UserError: for a target that an image shows already, or a network that has no other class.
    """
    if classifier.num_classes < 2:
        raise UserError(f"{classifier.alias} puts out one logit, so it has no other class to be taken for")
    pairs: dict[str, Pair] = {}
    for file in files:
        own, content = file.label, digest(file.path)
        shown = own if own is not None else _predicted(file.path, classifier)
        for target in [_random(seed, content, shown, classifier.num_classes)] if targets is None else targets:
            if target == shown:
                how = "by its name" if own is not None else f"as {classifier.alias} sees it"
                raise UserError(
                    f"{file.path} is of the class {target} ({classifier.labels[target]}) already, {how}; "
                    "name other classes, or random"
                )
            label = f"{classifier.labels[shown]} to {classifier.labels[target]}"
            pair = Pair(LOGITS, target, label, path=file.path, digest=content, own=own)
            pairs.setdefault(pair.id, pair)
    return list(pairs.values())


@torch.no_grad()
def _predicted(path: Path, classifier: Classifier) -> int:
    image = as_seen(path, classifier.input_size, classifier.channels)[None].to(classifier.device)
    return int(classifier(image).argmax())


def _random(seed: int, content: int, shown: int, classes: int) -> int:
    """One of the other classes."""
    drawn = stream_seed(seed, f"target of {content:016x}") % (classes - 1)
    return drawn + (drawn >= shown)
