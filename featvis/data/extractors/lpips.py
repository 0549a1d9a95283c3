"""LPIPS: how different two pictures look, learned from people (Zhang et al. 2018): two batches in, a number a pair out.

The backbone is torchvision's, from a weights file that is already here; the linear heads (version 0.1) come with
torchmetrics. Nothing is downloaded, and nothing is unpickled but tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import cast

import safetensors.torch
import torch
import torchvision
from jaxtyping import Float, Float32
from torch import Tensor, nn

from featvis.errors import UserError


@dataclass(frozen=True)
class _Layout:
    """A backbone: torchvision's name, its weights file, and the layers of its `features` whose outputs are compared."""

    network: str
    file: str
    layers: tuple[int, ...]


LAYOUTS: dict[str, _Layout] = {
    "alex": _Layout("alexnet", "alexnet-owt-7be5be79.pth", (1, 4, 7, 9, 11)),
    "vgg": _Layout("vgg16", "vgg16-397923af.pth", (3, 8, 15, 22, 29)),
    "squeeze": _Layout("squeezenet1_1", "squeezenet1_1-b8a52dc0.pth", (1, 4, 7, 9, 10, 11, 12)),
}
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""ImageNet's mean and deviation for values from -1 to 1, as the published network has them."""
LEAST_SIDE = 32
"""Below this a backbone's last map is empty, or says little."""


class Lpips(nn.Module):
    """A frozen backbone and a weight for each of its channels; see `lpips_distance`.

    Args:
        backbone: its name.
        features: torchvision's `features`.
        weights: one vector a compared layer, not negative.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, backbone: str, features: nn.Sequential, weights: Sequence[Tensor]) -> None:
        super().__init__()
        self.backbone, self.layers = backbone, LAYOUTS[backbone].layers
        # torchvision's ReLUs work in place, on what is to be compared.
        for module in features.modules():
            if isinstance(module, nn.ReLU):
                module.inplace = False
        self.features = features.eval().requires_grad_(False)
        for i, weight in enumerate(weights):
            self.register_buffer(f"weight{i}", weight)
        self.register_buffer("shift", torch.tensor(SHIFT).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(SCALE).view(1, 3, 1, 1))

    def train(self, mode: bool = True) -> Lpips:
        """Always in eval mode."""
        return super().train(False)

    def forward(self, x: Float[Tensor, "n 3 h w"], y: Float[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
        """The distance of each pair, RGB in [0, 1]; differentiable."""
        x, y = ((2 * images - 1 - self.shift) / self.scale for images in (x, y))
        total = x.new_zeros(len(x))
        for i, layer in enumerate(self.features[: self.layers[-1] + 1]):
            x, y = layer(x), layer(y)
            if i in self.layers:
                weight = self.get_buffer(f"weight{self.layers.index(i)}").view(1, -1, 1, 1)
                total = total + (weight * (_directions(x) - _directions(y)).square()).sum(1).mean((1, 2))
        return total


def _directions(maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Unit vectors over the channels; zeros where there is nothing."""
    return maps / (maps.square().sum(1, keepdim=True).sqrt() + 1e-10)


def load_lpips(backbone: str = "alex", search: Sequence[Path] = ()) -> Lpips | None:
    """Load LPIPS, frozen, if its backbone's weights are found.

    Args:
        backbone: `alex` (the published default for judging), `vgg` or `squeeze`.
        search: folders to look in, in this order, for torchvision's file or one of the same name that ends in
            `.safetensors`; torch.hub's cache of checkpoints is the last.

    Returns:
        The network, float32, for `lpips_distance`; None where no folder holds a weights file.

    Raises:
        UserError: for a backbone that there is not, or a file that is broken, holds anything but tensors, or is another
            network's.
    """
    if backbone not in LAYOUTS:
        raise UserError(f"LPIPS has no backbone {backbone}; take one of {', '.join(LAYOUTS)}")
    path = find_lpips(backbone, search)
    return None if path is None else _load(backbone, path)


def find_lpips(backbone: str = "alex", search: Sequence[Path] = ()) -> Path | None:
    """The weights file that `load_lpips` takes, or None."""
    name = LAYOUTS[backbone].file
    folders = [*search, Path(torch.hub.get_dir()) / "checkpoints"]
    found = (folder / n for folder in folders for n in (name, Path(name).with_suffix(".safetensors").name))
    return next((file for file in found if file.is_file()), None)


def _load(backbone: str, path: Path) -> Lpips:
    layout = LAYOUTS[backbone]
    try:
        if path.suffix == ".safetensors":
            state: Mapping[str, Tensor] = safetensors.torch.load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
            raise ValueError("not a state dict")
        # The classifier's layers are not needed, and are most of the file.
        own = {k.removeprefix("features."): v for k, v in state.items() if k.startswith("features.")}
        # On no device: the classifier alone would take half a gigabyte, and seconds for its random numbers.
        with torch.device("meta"):
            features = cast(nn.Sequential, getattr(torchvision.models, layout.network)(weights=None).features)
        features.load_state_dict(own, strict=True, assign=True)
    except Exception as error:  # a broken file can fail in any of torch's, pickle's and zip's ways
        raise UserError(
            f"{path} does not hold the weights of torchvision's {layout.network} (broken, or another network's); "
            f"replace it with a complete {layout.file}, or delete it to do without"
        ) from error
    return Lpips(backbone, features.float(), heads(backbone))


def heads(backbone: str) -> list[Float32[Tensor, " c"]]:
    """The learned weights of the channels, a vector a layer, as torchmetrics ships them.

    Args:
        backbone: its name.

    Example:
        >>> from featvis.data.extractors.lpips import heads
        >>> [len(weights) for weights in heads("alex")]
        [64, 192, 384, 256, 256]
    """
    folder = Path(str(files("torchmetrics"))) / "functional" / "image" / "lpips_models"
    state = torch.load(folder / f"{backbone}.pth", map_location="cpu", weights_only=True)
    return [state[f"lin{i}.model.1.weight"].flatten() for i in range(len(LAYOUTS[backbone].layers))]


@torch.inference_mode()
def lpips_distance(
    model: Lpips, x: Float[Tensor, "n 3 h w"], y: Float[Tensor, "n 3 h w"], batch_size: int = 32
) -> Float32[Tensor, " n"]:
    """How different the pictures of each pair look (Zhang et al. 2018, equation 1).

    Args:
        model: from `load_lpips`.
        x: pictures, RGB in [0, 1].
        y: as many, of the same size: the distance compares place with place. It was fitted to sides of 64 pixels, and
            grows less telling on larger ones.
        batch_size: pairs at once.

    Returns:
        A distance of at least 0 a pair, on the network's device.

    Raises:
        UserError: for two batches of other shapes, pictures too small for the network, or values outside [0, 1].

    Example:
        >>> import torch, torchvision
        >>> from featvis.data.extractors.lpips import Lpips, heads, lpips_distance
        >>> _ = torch.manual_seed(0)
        >>> model = Lpips("squeeze", torchvision.models.squeezenet1_1(weights=None).features, heads("squeeze"))
        >>> x = torch.rand(1, 3, 64, 64)
        >>> float(lpips_distance(model, x, x)), bool(lpips_distance(model, x, x.flip(3)) > 0)
        (0.0, True)
    """
    if x.shape != y.shape:
        raise UserError(f"LPIPS compares pictures of one shape, not {tuple(x.shape)} with {tuple(y.shape)}")
    if min(x.shape[-2:]) < LEAST_SIDE:
        raise UserError(f"LPIPS needs pictures of at least {LEAST_SIDE} pixels a side, not {tuple(x.shape[-2:])}")
    if not all(bool(((images >= 0) & (images <= 1)).all()) for images in (x, y)):
        raise UserError("the pictures must be RGB in [0, 1]")
    device = model.shift.device
    pairs = zip(x.float().split(batch_size), y.float().split(batch_size), strict=True)
    return torch.cat([model(a.to(device), b.to(device)) for a, b in pairs])
