"""The addressable layers of a network: what a channel is in each, and what is read of it.

What is read of a layer is written `layer`, `layer[patches]`, `layer[cls]`, `layer[reg0]`, `layer[3,4]`,
`layer[middle]` or `layer[:]`: the mean over all positions, over those that are image patches, one extra token, one
position (row, column, or the middle one), or all.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from featvis.errors import UserError, nearest

Kind = Literal["map", "tokens", "vector"]
MIDDLE = "middle"
"""The position in the middle of a map, or of a transformer's patches."""


@dataclass(frozen=True)
class Layer:
    """One layer whose output has a channel dimension.

    Attributes:
        name: timm's module name.
        shape: of its output for one image, the batch left out.
        kind: `map` with rows and columns, `tokens`, or `vector` without positions.
        channel: the dimension of the channels in a batch's output.
        grid: (rows, columns) of its positions, or None.
        extra: tokens before the patches: class token, registers; None where nobody knows which those are.
        class_token: whether the first of them is the class token.
        calls: how often the network runs it; the last output counts.
        rectifier: the ReLU whose output this layer's is, or is pooled from, by its place in a forward pass (see
            `featvis.networks.measuring`); -1: there is none.
        bound: of that ReLU: 6 or infinity, say.
        inferred: whether no second input size has told its patches from its other tokens; so it is in a network that
            takes one alone, where a layer before it tells them, or nothing does.
    """

    name: str
    shape: tuple[int, ...]
    kind: Kind
    channel: int
    grid: tuple[int, int] | None = None
    extra: int | None = 0
    class_token: bool = False
    calls: int = 1
    rectifier: int = -1
    bound: float = math.inf
    inferred: bool = False

    @property
    def channels(self) -> int:
        """How many units it has."""
        return self.shape[self.channel - 1]

    @property
    def places(self) -> int:
        """How many positions it has."""
        return math.prod(self.shape) // self.channels

    @property
    def first(self) -> int:
        """The place of the first patch: behind the extra tokens, as far as they are known."""
        return self.extra or 0

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
        if self.extra is None:
            return f"mean over {count} tokens, which may be more than patches"
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
        if self.grid is None or place < self.first:
            return None
        return divmod(place - self.first, self.grid[1])

    def _place(self, where: str) -> int | slice:
        if where in ("", ":"):
            return slice(None)
        if self.extra is None:
            raise UserError(
                f"it cannot be told which of the {self.places} tokens of layer {self.name} are patches (the network "
                f"takes one input size alone, and no layer before it tells), so no [{where}]; leave it out, for the "
                "mean over all, or name another layer"
            )
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
