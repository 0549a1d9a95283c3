"""The addressable layers of a network: a module and its input size in; for each layer what a channel is, out.

Which dimension of an output holds the channels is measured, never guessed from a size that happens to fit: the network
runs on two input sizes, on PyTorch's meta device, where shapes are computed and nothing else. The dimensions that
follow the input's size are positions, the one that does not is the channel. So (N, C, H, W), (N, H, W, C) and
(N, T, C) are told apart module by module, inside one network too (ConvNeXt's MLPs, Swin's patch embedding).

What is read of a layer is written `layer`, `layer[patches]`, `layer[cls]`, `layer[reg0]`, `layer[3,4]`,
`layer[middle]` or `layer[:]`: the mean over all positions, over those that are image patches, one extra token, one
position (row, column, or the middle one), or all.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from featvis.errors import UserError, nearest
from featvis.networks.rectifiers import Rectifiers

Kind = Literal["map", "tokens", "vector"]
MIDDLE = "middle"
"""The position in the middle of a map, or of a transformer's patches."""
_GROWTH = (2, 3)
"""By what the second input is higher and wider: a multiple of all that an input must be a multiple of."""


@dataclass(frozen=True)
class Layer:
    """One layer whose output has a channel dimension.

    Attributes:
        name: timm's module name.
        shape: of its output for one image, the batch left out.
        kind: `map` with rows and columns, `tokens`, or `vector` without positions.
        channel: the dimension of the channels in a batch's output.
        grid: (rows, columns) of its positions, or None.
        extra: tokens before the patches: class token, registers.
        class_token: whether the first of them is the class token.
        calls: how often the network runs it; the last output counts.
        rectifier: the ReLU whose output this layer's is, or is pooled from, by its place in a forward pass (see
            `featvis.networks.rectifiers`); -1: there is none.
        bound: of that ReLU: 6 or infinity, say.
    """

    name: str
    shape: tuple[int, ...]
    kind: Kind
    channel: int
    grid: tuple[int, int] | None = None
    extra: int = 0
    class_token: bool = False
    calls: int = 1
    rectifier: int = -1
    bound: float = math.inf

    @property
    def channels(self) -> int:
        """How many units it has."""
        return self.shape[self.channel - 1]

    @property
    def places(self) -> int:
        """How many positions it has."""
        return math.prod(self.shape) // self.channels

    @property
    def what(self) -> str:
        """What a channel is, in words."""
        if self.kind == "vector":
            return "one value"
        if self.kind == "map":
            assert self.grid is not None
            order = "channels first" if self.channel == 1 else "channels last"
            return f"mean over {self.grid[0]} x {self.grid[1]} positions ({order})"
        count = self.places
        extra = [*(["cls"] if self.class_token else []), *(f"reg{i}" for i in range(self.extra - self.class_token))]
        return f"mean over {count} tokens" + (f", {', '.join(extra)} included" if extra else "")

    def check(self, where: str) -> None:
        """Raise a UserError unless `where` names positions of this layer."""
        self._place(where)

    def read(self, output: Tensor, where: str = "") -> Float[Tensor, "n c"] | Float[Tensor, "n p c"]:
        """The activations of a batch: (N, C), or with `:` (N, P, C), position by position, extra tokens first."""
        a = output.float().movedim(self.channel, -1)
        a = a.reshape(len(a), -1, a.shape[-1])
        place = self._place(where)
        if isinstance(place, int):
            return a[:, place]
        return a if where == ":" else a[:, place].mean(1)

    def revive(self, output: Tensor, before: Tensor, where: str = "") -> Tensor:
        """The same output, with a gradient for the channels that a ReLU holds at a bound wherever an image is read.

        A channel that is zero at every position gives no direction to ascend; what goes into its ReLU does (the
        redirected ReLU of Lucid, Olah et al. 2017). So it is with one that a ReLU6 holds at 6 at every position, and
        with one that is read at one position and held there. As soon as a position is between, the gradient is the
        network's own.

        Args:
            output: of a batch.
            before: what went into the ReLU: of the same shape or, where the layer pools, (N, C, H, W).
            where: which positions are read.
        """
        pooled = before.shape != output.shape
        channel = 1 if pooled else self.channel
        rows = before.movedim(channel, -1)
        shape = rows.shape
        rows = rows.reshape(len(rows), -1, rows.shape[-1])
        given, place = rows.detach(), slice(None) if pooled else self._place(where)
        held = ~(given > 0), ~(given < self.bound)
        if isinstance(place, int):
            spot = (torch.arange(rows.shape[1], device=rows.device) == place)[:, None]
            stuck = (held[0] | held[1]) & spot
        else:
            silent, full = (h[:, place].all(dim=1, keepdim=True) for h in held)
            stuck = silent | full
        change = (stuck * (rows - given)).reshape(shape).movedim(-1, channel)
        if pooled:
            size = (output.shape[2], output.shape[3]) if output.ndim == 4 else (1, 1)
            change = F.adaptive_avg_pool2d(change, size).view(output.shape)
        return output + change

    def position(self, place: int) -> tuple[int, int] | None:
        """The (row, column) of a place in `read(..., ":")`, None for an extra token or where there is no grid."""
        if self.grid is None or place < self.extra:
            return None
        return divmod(place - self.extra, self.grid[1])

    def _place(self, where: str) -> int | slice:
        if where in ("", ":"):
            return slice(None)
        if where == MIDDLE and self.grid is not None:
            return self.extra + self.grid[0] // 2 * self.grid[1] + self.grid[1] // 2
        if self.kind == "vector":
            raise UserError(f"layer {self.name} has no space, so no position [{where}]; leave the brackets out")
        if where == "patches":
            return slice(self.extra, None)
        if where == "cls" or re.fullmatch(r"reg\d{1,4}", where):
            at = 0 if where == "cls" else int(where[3:]) + self.class_token
            if at >= self.extra or (where == "cls" and not self.class_token):
                known = re.findall(r"cls|reg\d+", self.what)
                has = f"has {', '.join(known)} beside its patches" if known else "has no tokens beside its positions"
                raise UserError(f"layer {self.name} {has}, so no [{where}]")
            return at
        match = re.fullmatch(r"(\d{1,5}),(\d{1,5})", where)
        if match is None:
            raise UserError(f"[{where}] is no position; write [row,column], [middle], [patches], [cls] or [reg0]")
        if self.grid is None:
            raise UserError(f"layer {self.name} has no rows and columns, so no position [{where}]")
        row, column = int(match[1]), int(match[2])
        if row >= self.grid[0] or column >= self.grid[1]:
            raise UserError(
                f"layer {self.name} has the rows 0 to {self.grid[0] - 1} and the columns 0 to {self.grid[1] - 1}, "
                f"so no position [{where}]"
            )
        return self.extra + row * self.grid[1] + column


def split_tap(tap: str) -> tuple[str, str]:
    """`layer[where]` as (layer, where)."""
    match = re.fullmatch(r"(.*?)\[([^\[\]]*)\]", tap)
    return (match[1], match[2].replace(" ", "")) if match is not None else (tap, "")


def tap(layer: str, where: str = "") -> str:
    """(layer, where) as `layer[where]`."""
    return f"{layer}[{where}]" if where else layer


def find(layers: Mapping[str, Layer | str], name: str, alias: str) -> Layer:
    """A layer by name.

    Raises:
        UserError: when the network has none of that name (with the nearest ones), or it has no units (with the reason).
    """
    found = layers.get(name)
    if found is None:
        good = [n for n, layer in layers.items() if isinstance(layer, Layer)]
        raise UserError(f"{alias} has no layer {name}: {nearest(name, good)}")
    if isinstance(found, str):
        inside = [n for n, layer in layers.items() if isinstance(layer, Layer) and n.startswith(f"{name}.")]
        good = inside or [n for n, layer in layers.items() if isinstance(layer, Layer)]
        raise UserError(f"layer {name} of {alias} {found}; {nearest(name, good)}")
    return found


def stages(layers: Mapping[str, Layer | str], count: int = 5) -> list[str]:
    """`count` layers from early to late, evenly spaced among a network's blocks.

    Blocks are the elements of its longest sequence of modules with a channel dimension (`blocks.0`, `layer1.0`), or
    the outermost layers where it has no such sequence.
    """
    good = [n for n, layer in layers.items() if isinstance(layer, Layer) and layer.kind != "vector"]
    numbered = [n for n in good if n.rpartition(".")[2].isdecimal()]
    # Blocks within blocks: the outermost sequences alone.
    blocks = [n for n in numbered if not any(n.startswith(f"{o}.") for o in numbered)]
    levels = ([n for n in good if n.count(".") == depth] for depth in range(4))
    if len(blocks) < count:
        blocks = next((level for level in levels if len(level) >= count), numbered or good)
    if len(blocks) <= count:
        return blocks
    return [blocks[round(i * (len(blocks) - 1) / (count - 1))] for i in range(count)] if count > 1 else blocks[-1:]


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
    class_token = getattr(net, "cls_token", None) is not None or bool(getattr(net, "has_class_token", False))
    modules = dict(net.named_modules())
    found: dict[str, Layer | str] = {}
    for name, module in modules.items():
        if name and name in base:
            shape, calls, at = base[name]
            after = other.get(name)
            layer = _layer(name, module, shape, calls, after[0] if after else None, size, class_token)
            if isinstance(layer, Layer) and at >= 0 and _pooled_from(layer, relus[at][0]):
                layer = replace(layer, rectifier=at, bound=relus[at][1])
            found[name] = layer
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
    module: nn.Module,
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
        channel = _by_type(module, shape)
    if channel is None:
        return f"has no one channel dimension (its output for one image is {_text(shape[1:])})"
    places = [n for i, n in enumerate(shape) if i not in (0, channel)]
    if len(places) == 2:
        return Layer(name, shape[1:], "map", channel, (places[0], places[1]), calls=calls)
    extra = 0
    if comparable and isinstance(other, tuple):
        after = math.prod(other) // other[0] // other[channel]
        # T = extra + g and T' = extra + 6 g, where only the patches follow the input's size.
        growth = math.prod(_GROWTH)
        whole, rest = divmod(growth * places[0] - after, growth - 1)
        extra = whole if rest == 0 and 0 < whole < places[0] else 0
    rows = round(math.sqrt((places[0] - extra) * size[0] / size[1]))
    columns = (places[0] - extra) // max(1, rows)
    grid = (rows, columns) if rows * columns == places[0] - extra else None
    return Layer(name, shape[1:], "tokens", channel, grid, extra, class_token and extra > 0, calls)


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
        return _record(_shadow(net, shape[1:]), torch.empty(2, *shape, device="meta", dtype=_dtype(net)))
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


def _record(net: nn.Module, x: Tensor) -> tuple[_Seen, _Relus, bool]:
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
            net(x)
    except Exception:  # see `_shapes`
        return found, relus, False
    finally:
        for handle in handles:
            handle.remove()
    return found, relus, True
