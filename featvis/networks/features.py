"""Where a network ends: the layer that makes the logits, and the last map before its pooling, found by running it.

And the classes of these logits, by their names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset
from torch import Tensor, nn

from featvis.networks.layers import Layer, stages
from featvis.networks.measuring import pools

BLOCKS = ("blocks", "stages", "layers", "layer4", "features")
"""What timm's networks call the sequence of their blocks."""


LUMINANCE = (0.299, 0.587, 0.114)
"""Of RGB (ITU-R BT.601), as Pillow has it."""
GRID = 4
"""Parts of an image's side in which an observer's middle layer is read: where something is counts there."""


def grey(x: Float[Tensor, "n k h w"], channels: int) -> Float[Tensor, "n c h w"]:
    """Images as a network of so many channels takes them: the luminance of RGB for one channel, else as they are."""
    if channels != 1 or x.shape[1] != 3:
        return x
    return (x * x.new_tensor(LUMINANCE).view(1, 3, 1, 1)).sum(1, keepdim=True)


@dataclass(frozen=True)
class Ends:
    """The end of a network, by names of modules; empty where there is none.

    Attributes:
        head: the layer that makes the logits, whose input is what the network knows of an image.
        flat: the last map or tokens before they are pooled.
    """

    head: str = ""
    flat: str = ""


@torch.no_grad()
def ends(net: nn.Module, x: Float[Tensor, "n c h w"], layers: Mapping[str, Layer | str]) -> Ends:
    """What a network ends with.

    The head is the first module whose output is the logits, as numbers; else the last linear layer that ran. The map is
    the last output with positions before that which no pooling made.

    Args:
        net: puts out logits (N, K).
        x: images as it takes them, of which no two are the same.
        layers: its modules, as `featvis.networks.measuring.measure` gives them.
    """
    order: list[tuple[str, Any]] = []
    modules = dict(net.named_modules())

    def note(name: str) -> Any:
        return lambda module, args, output: order.append((name, output.clone() if isinstance(output, Tensor) else None))

    handles = [m.register_forward_hook(note(name)) for name, m in modules.items() if name]
    try:
        logits = net(x)
    finally:
        for handle in handles:
            handle.remove()
    leaves = [(i, name, y) for i, (name, y) in enumerate(order) if not any(modules[name].children())]
    same = [(i, name) for i, name, y in leaves if y is not None and y.numel() == logits.numel() and _same(y, logits)]
    linear = [(i, name) for i, name, _ in leaves if isinstance(modules[name], nn.Linear)]
    at, head = same[0] if same else linear[-1] if linear else (len(order), "")
    maps = [
        (name, layer)
        for name, _ in order[:at]
        if isinstance(layer := layers.get(name), Layer) and layer.kind != "vector" and not pools(modules[name])
    ]
    wide = [name for name, layer in maps if layer.places > 1]
    return Ends(head, (wide or [name for name, _ in maps] or [""])[-1])


def _same(y: Tensor, logits: Tensor) -> bool:
    return len(y) == len(logits) and torch.equal(y.reshape(logits.shape).float(), logits.float())


def last_block_of_timm(net: nn.Module) -> str:
    """The last of a timm network's blocks by its name, which is what its records are of; empty where it has none."""
    for group in BLOCKS:
        module = getattr(net, group, None)
        if isinstance(module, nn.Module) and (children := [name for name, _ in module.named_children()]):
            return f"{group}.{children[-1]}"
    return ""


def middle_of(layers: Mapping[str, Layer | str]) -> Layer | None:
    """The middle one of a network's blocks that have rows and columns; None where none has.

    Args:
        layers: its modules, as `featvis.networks.measuring.measure` gives them.
    """
    wide = {n: x for n, x in layers.items() if isinstance(x, Layer) and x.grid is not None and min(x.grid) >= GRID}
    blocks = stages(wide, 3)
    return wide[blocks[len(blocks) // 2]] if blocks else None


def sixteenths(output: Tensor, layer: Layer) -> Float[Tensor, "n d"]:
    """Means over the 4 x 4 parts of a layer's positions: what is seen, and roughly where.

    Args:
        output: of the layer.
        layer: which has rows and columns.

    Returns:
        (N, 16 C), the channels of the first part first.
    """
    assert layer.grid is not None
    patches = layer.read(output, ":")[:, layer.first :]
    maps = patches.movedim(2, 1).unflatten(2, layer.grid)
    return F.adaptive_avg_pool2d(maps, GRID).flatten(2).movedim(1, 2).flatten(1)


def class_names(net: nn.Module, count: int) -> tuple[list[str], list[str]]:
    """The short names and the synsets of a network's classes; numbers where they are not ImageNet's.

    A network of timm's without a head (DINOv2) is an extractor: what it puts out are features, however many.
    """
    headless = isinstance(getattr(net, "get_classifier", lambda: None)(), nn.Identity)
    if headless and getattr(net, "num_classes", None) == 0:
        return [f"dimension {i}" for i in range(count)], []
    subset = infer_imagenet_subset(net)
    if subset is None and count == 1000:
        subset = "imagenet-1k"
    info = None if subset is None else ImageNetInfo(subset)
    if info is None or info.num_classes() != count:
        return [f"class {i}" for i in range(count)], []
    return [info.index_to_description(i).split(",")[0] for i in range(count)], list(info.label_names())
