"""The layers of a network: a module and its input's size in; each module's `Layer`, or why it is none, out.

Which dimension of an output holds the channels is measured, never guessed from a size that happens to fit: the network
runs on two input sizes, on PyTorch's meta device, where shapes are computed and nothing else. The dimensions that
follow the input's size are positions, the one that does not is the channel. So (N, C, H, W), (N, H, W, C) and
(N, T, C) are told apart module by module, inside one network too (ConvNeXt's MLPs, Swin's patch embedding). In a
network that takes one size alone, what PyTorch documents of the modules tells: a block has the channels of the last
linear layer in it that puts out the same shape. Its patches are those of a map or of tokens before it, or a grid of the
image's own sides.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from featvis.networks.layers import Layer
from featvis.networks.measuring.rectifiers import Rectifiers

_GROWTH = (2, 3)
"""By what the second input is higher and wider: a multiple of all that an input must be a multiple of."""
_MORE = math.prod(_GROWTH)


def measure(net: nn.Module, size: tuple[int, int], channels: int = 3) -> dict[str, Layer | str]:
    """Every module of a network: the layer that it is, or why it is none.

    Args:
        net: takes (N, channels, h, w), in eval mode; left as it is.
        size: (h, w) of its input.
        channels: of its input.
    """
    larger = (size[0] * _GROWTH[0], size[1] * _GROWTH[1])
    base, relus = _shapes(net, size, channels)
    other, _ = _shapes(net, larger, channels)
    class_token = any(
        getattr(m, "cls_token", None) is not None
        or getattr(m, "class_embedding", None) is not None
        or isinstance(getattr(m, "class_token", None), Tensor)  # of timm's it says whether there is one
        for m in net.modules()
    ) or bool(getattr(net, "has_class_token", False))
    modules = dict(net.named_modules())
    found: dict[str, Layer | str] = {}
    for name, module in modules.items():
        if name and name in base:
            shape, calls, at = base[name]
            after = other.get(name)
            inside = [(m, base[n][0]) for n, m in module.named_modules(prefix=name) if n in base]
            layer = _layer(name, inside, shape, calls, after[0] if after else None, size, class_token)
            if isinstance(layer, Layer) and at >= 0 and _pooled_from(layer, relus[at][0]):
                layer = replace(layer, rectifier=at, bound=relus[at][1])
            found[name] = layer
    known: list[tuple[int, int]] = []
    for name in base:  # in the order in which they run
        layer = found[name]
        if isinstance(layer, Layer) and layer.extra is None:
            layer = found[name] = _inferred(layer, known, size, class_token)
        if isinstance(layer, Layer) and (grid := _patches(layer, other.get(name))) is not None:
            known.append(grid)
    return found


def runs(net: nn.Module, shape: tuple[int, int, int]) -> bool:
    """Whether a network takes images of a shape (C, h, w)."""
    return _on_meta(net, shape)[2] or _in_fact(net, shape)[2]


def _pooled_from(layer: Layer, shape: tuple[int, ...]) -> bool:
    """Whether a layer has as many channels, in the same place, as a ReLU's output of a shape."""
    pooled = len(shape) == 4 and layer.channel == 1 and len(layer.shape) != 2 and layer.shape[0] == shape[1]
    return layer.shape == shape[1:] or pooled


def pools(module: nn.Module) -> bool:
    """Whether a module makes means or maxima of places of what goes in, or passes it on."""
    kinds = nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.AvgPool2d, nn.MaxPool2d, nn.Flatten, nn.Identity, nn.Dropout
    return isinstance(module, kinds) or type(module).__module__ == "timm.layers.adaptive_avgmax_pool"


def _layer(
    name: str,
    inside: Sequence[tuple[nn.Module, tuple[int, ...] | str]],
    shape: tuple[int, ...] | str,
    calls: int,
    other: tuple[int, ...] | str | None,
    size: tuple[int, int],
    class_token: bool,
) -> Layer | str:
    if isinstance(shape, str):
        return f"puts out a {shape}, not a tensor"
    if not 2 <= len(shape) <= 4:
        return f"puts out {len(shape)} dimensions, not 2, 3 or 4"
    if shape[0] != 2:
        return f"works on parts of images (it puts out {shape[0] // 2} for one), so it has no unit an image"
    if len(shape) == 2:
        return Layer(name, shape[1:], "vector", 1, calls=calls)
    comparable = isinstance(other, tuple) and len(other) == len(shape)
    channel = _channel(shape, other) if comparable and isinstance(other, tuple) else None
    if channel is None:
        # The module itself, or the last inside that puts out the same shape.
        known = (_by_type(m, shape) for m, own in (inside[0], *reversed(inside)) if own == shape)
        channel = next((c for c in known if c is not None), None)
    if channel is None:
        return f"has no one channel dimension (its output for one image is {_text(shape[1:])})"
    places = [n for i, n in enumerate(shape) if i not in (0, channel)]
    if len(places) == 2:
        return Layer(name, shape[1:], "map", channel, (places[0], places[1]), calls=calls)
    if not comparable or not isinstance(other, tuple):
        return Layer(name, shape[1:], "tokens", channel, extra=None, calls=calls)
    after = math.prod(other) // other[0] // other[channel]
    # T = extra + g and T' = extra + 6 g, where only the patches follow the input's size.
    whole, rest = divmod(_MORE * places[0] - after, _MORE - 1)
    extra = whole if rest == 0 and 0 < whole < places[0] else 0
    grid = _grid(places[0] - extra, size)
    return Layer(name, shape[1:], "tokens", channel, grid, extra, class_token and extra > 0, calls)


def _grid(patches: int, size: tuple[int, int]) -> tuple[int, int] | None:
    """Rows and columns of about the sides of an image of `size`, or None."""
    rows = round(math.sqrt(patches * size[0] / size[1]))
    columns = patches // max(1, rows)
    return (rows, columns) if rows * columns == patches else None


def _patches(layer: Layer, other: tuple[tuple[int, ...] | str, int, int] | None) -> tuple[int, int] | None:
    """The rows and columns of the patches of a map, channels first, or of tokens that follow the input's size; or None.

    A map whose channels are last may be a transformer's heads.
    """
    if layer.kind == "map":
        return layer.grid if layer.channel == 1 else None
    if layer.kind == "vector" or layer.grid is None or layer.inferred:
        return layer.grid
    after = math.prod(other[0][1:]) // layer.channels if other and isinstance(other[0], tuple) else 0
    return layer.grid if after == layer.first + _MORE * math.prod(layer.grid) else None


def _inferred(layer: Layer, known: Sequence[tuple[int, int]], size: tuple[int, int], class_token: bool) -> Layer:
    """Tokens of a network of one size, with the patches of the last layer before that may have as many.

    Args:
        layer: whose tokens they are.
        known: the rows and columns of the patches of what ran before it, in its order.
        size: (h, w) of the input.
        class_token: whether the network has one.
    """
    for grid in reversed(known):
        extra = layer.places - math.prod(grid)
        # Other maps (a pooled one, say) have more places, or so few that most tokens would be no patches.
        if 0 <= extra < math.prod(grid):
            return replace(layer, grid=grid, extra=extra, class_token=class_token and extra > 0, inferred=True)
    # After patches were merged. With a class token more or a few registers a square is none any more, but for the
    # smallest, and one token may be the class token.
    own = _grid(layer.places, size)
    if own is not None and own[0] * size[1] == own[1] * size[0] and layer.places > 1:
        return replace(layer, grid=own, extra=0, inferred=True)
    return replace(layer, inferred=True)


def _channel(shape: tuple[int, ...], other: tuple[int, ...]) -> int | None:
    """The one dimension that does not follow the input's size; (N, C, 1, 1) has its channels in the only long one."""
    still = [i for i in range(1, len(shape)) if shape[i] == other[i]]
    long = [i for i in still if shape[i] > 1]
    left = long or still
    return left[0] if len(left) == 1 else None


def _by_type(module: nn.Module, shape: tuple[int, ...]) -> int | None:
    """Where the sizes do not tell: what PyTorch documents of a module."""
    if isinstance(module, nn.Linear) or type(module) is nn.LayerNorm:
        return len(shape) - 1
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.BatchNorm1d | nn.BatchNorm2d | nn.GroupNorm):
        return 1
    return None


def _text(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


_Seen = dict[str, tuple[tuple[int, ...] | str, int, int]]
_Relus = list[tuple[tuple[int, ...], float]]


def _shapes(net: nn.Module, size: tuple[int, int], channels: int) -> tuple[_Seen, _Relus]:
    """The shape of each module's output for two images, or the type of what is no tensor; how often it ran; its ReLU.

    And the shapes and bounds of all ReLUs, in the order in which they run. A network that cannot take the size, or
    cannot run on the meta device nor in fact, gives what ran before that.
    """
    on_meta = _on_meta(net, (channels, *size))
    if on_meta[2]:
        return on_meta[:2]
    return max(_in_fact(net, (channels, *size)), on_meta, key=lambda found: len(found[0]))[:2]


def _on_meta(net: nn.Module, shape: tuple[int, int, int]) -> tuple[_Seen, _Relus, bool]:
    try:
        shadow, x = _shadow(net, shape[1:]), torch.empty(2, *shape, device="meta", dtype=_dtype(net))
        found = _record(shadow, x)
        # Hugging Face's transformers take another size than their own only if they are asked to.
        return found if found[2] else max(found, _record(shadow, x, interpolate_pos_encoding=True), key=lambda f: f[2])
    except Exception:  # anyone's code may raise anything; then nothing is known of this size
        return {}, [], False


def _in_fact(net: nn.Module, shape: tuple[int, int, int]) -> tuple[_Seen, _Relus, bool]:
    device = next((p.device for p in net.parameters()), torch.device("cpu"))
    return _record(net, torch.full((2, *shape), 0.5, device=device, dtype=_dtype(net)))


def _dtype(net: nn.Module) -> torch.dtype:
    return next((p.dtype for p in net.parameters() if p.is_floating_point()), torch.float32)


def _shadow(net: nn.Module, size: tuple[int, int]) -> nn.Module:
    """A copy of a network on the meta device, for inputs of `size`: nothing is copied but the structure."""
    tensors = [*net.parameters(), *net.buffers()]
    memo: dict[int, Any] = {id(t): torch.empty_like(t, device="meta") for t in tensors}
    copied = copy.deepcopy(net, memo)
    for module in copied.modules():
        # No hook of the caller's may see shapes without values.
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
    # timm's transformers are made for one size; this is its way of changing that.
    resize: Callable[..., Any] | None = getattr(copied, "set_input_size", None)
    if resize is not None:
        resize(img_size=size)
    return copied


def _identity(x: Any) -> tuple[int, int]:
    """A tensor, and how often it was written to: something may have been added to it in place."""
    return id(x), x._version if isinstance(x, Tensor) and not x.is_inference() else 0


def _record(net: nn.Module, x: Tensor, **options: Any) -> tuple[_Seen, _Relus, bool]:
    found: _Seen = {}
    relus: _Relus = []
    # Kept alive, so that no other tensor gets the same identity.
    rectified: dict[tuple[int, int], tuple[Tensor, int]] = {}

    def relu(place: int, bound: float, before: Tensor, output: Tensor) -> None:
        relus.append((tuple(output.shape), bound))
        rectified[_identity(output)] = (output, place)

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            key = _identity(output)
            if pools(module) and isinstance(output, Tensor) and args and _identity(args[0]) in rectified:
                rectified.setdefault(key, (output, rectified[_identity(args[0])][1]))
            shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            found[name] = (shape, found.get(name, ((), 0, -1))[1] + 1, rectified.get(key, (None, -1))[1])

        return hook

    handles = [m.register_forward_hook(note(name)) for name, m in net.named_modules() if name]
    try:
        with torch.no_grad(), Rectifiers(seen=relu):
            net(x, **options)
    except Exception:  # see `_shapes`
        return found, relus, False
    finally:
        for handle in handles:
            handle.remove()
    return found, relus, True
