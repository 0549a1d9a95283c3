"""Networks by name: a name in, a frozen `Classifier` out: RGB (N, 3, h, w) in [0, 1] to logits (N, classes)."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import timm
import torch
import torch.nn.functional as F
from jaxtyping import Float
from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset
from torch import Tensor, nn

from featvis import engine
from featvis.errors import UserError, nearest
from featvis.networks.devices import Precision, compute_dtype
from featvis.networks.layers import Layer, find, measure, split_tap
from featvis.networks.names import ModelSpec
from featvis.networks.objectives import LOGITS
from featvis.networks.weights import content_hash

# One of the threads that want a version of a network makes it, and none hooks the network while it is copied. Not an
# attribute: locks cannot be copied.
_MAKING = threading.RLock()


T = TypeVar("T")


class _Enough(BaseException):
    """Ends a forward pass of which everything wanted has been read."""


class Classifier(nn.Module):
    """A frozen classifier that takes RGB in [0, 1]; its own mean and std are applied here and nowhere else.

    timm's networks, and any other module that takes (N, 3, h, w) to (N, classes) where `spec` has mean, std and
    input_size.

    Attributes:
        alias: the name as the user says it.
        name: full timm tag.
        input_size: (h, w) of its input, in pixels.
        num_classes: how many.
        labels: a short name a class.
        synsets: WordNet id a class, or an empty list where the classes are not ImageNet's.
        weights_hash: of all tensors.
        reentrant: several threads may run it at once, as they may timm's networks.
    """

    mean: Tensor
    std: Tensor
    net: Any

    def __init__(self, net: nn.Module, spec: ModelSpec, source: str = "", precision: Precision = "auto") -> None:
        super().__init__()
        cfg = timm.data.resolve_model_data_config(net)
        self.alias, self.name, self.source, self.precision = spec.alias, spec.name, source, precision
        self.input_size: tuple[int, int] = spec.input_size or tuple(cfg["input_size"][-2:])
        self.crop_pct, self.interpolation = float(cfg["crop_pct"]), str(cfg["interpolation"])
        self.weights_hash = content_hash(net)
        # Anyone else's module may keep something from one line of its forward pass to the next.
        self.reentrant = type(net).__module__.startswith("timm.")
        self.net = net.eval().requires_grad_(False)
        convolutional = any(isinstance(m, nn.Conv2d) and m.kernel_size != m.stride for m in net.modules())
        self.channels_last = convolutional
        if convolutional:
            self.net = self.net.to(memory_format=torch.channels_last)
        self.register_buffer("mean", torch.tensor(spec.mean or cfg["mean"]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std or cfg["std"]).view(1, 3, 1, 1), persistent=False)
        self.num_classes = self._classes()
        self.labels, self.synsets = class_names(net, self.num_classes)
        if spec.labels is not None:
            if len(spec.labels) != self.num_classes:
                raise UserError(f"there are {len(spec.labels)} labels, but the network has {self.num_classes} classes")
            self.labels, self.synsets = list(spec.labels), []
        self._made: dict[tuple[str, torch.dtype, torch.device], Any] = {}
        self._measured: dict[str, Layer | str] | None = None

    def in_precision(self, precision: Precision) -> Classifier:
        """The same network, its weights shared, that computes in another precision; itself where that is the same."""
        if precision == self.precision:
            return self
        other = copy.copy(self)
        other.precision, other._made = precision, {}
        return other

    def train(self, mode: bool = True) -> Classifier:
        """Always in eval mode: a Trainer that switches modes must not switch on batch statistics or dropout."""
        return super().train(False)

    def _classes(self) -> int:
        """How many there are: timm's networks say it, any other shows it."""
        said = getattr(self.net, "num_classes", None)
        if isinstance(said, int) and said > 0:
            return said
        try:
            with torch.no_grad():
                logits = self.net(self._normalise(torch.full((1, 3, *self.input_size), 0.5)))
        except Exception as error:  # anyone's code may raise anything
            reason = " ".join(str(error).split())
            size = " x ".join(map(str, self.input_size))
            raise UserError(f"the network does not take a batch of images of {size} pixels ({reason:.200})") from error
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            shape = tuple(logits.shape[1:]) if isinstance(logits, Tensor) else type(logits).__name__
            raise UserError(f"the network puts out {shape} for an image, not one logit a class")
        return int(logits.shape[1])

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.mean.device

    @property
    def dtype(self) -> torch.dtype:
        """The type in which the network computes."""
        return compute_dtype(self.precision, self.device)

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n k"]:
        """Logits, float32, of RGB in [0, 1] at the network's input size."""
        folded = self._folded()
        if folded is None:
            return self._through(self.frozen(), x)
        return folded(engine.normalise(x, self.mean, self.std, self.dtype, self.channels_last)).float()

    def shipped(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "m k"]:
        """`forward` through timm's network as it is: a row an image, unless a hook replaces them (`concepts.sobol`)."""
        return self._through(self.net, x)

    def _through(self, net: nn.Module, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "m k"]:
        with self._autocast():
            return cast(Tensor, net(self._normalise(x))).float()

    def _normalise(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
        return engine.normalise(x, self.mean, self.std, channels_last=self.channels_last)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def make_ready(self, taps: frozenset[str]) -> None:
        """Make what `activations` of these taps will want with gradients, before several threads want it."""
        if LOGITS not in taps or taps - {LOGITS} or self._folded() is None:
            self.frozen()

    def frozen(self) -> nn.Module:
        """`net`, layer by layer and name by name, with faster gradients of its input; nobody's hooks are on it.

        Only timm's networks: of anyone else's it is not known whether a copy is the same.
        """
        if not (self.reentrant and engine.on("convolutions")):
            return self.net
        found = self._once("frozen", lambda example: engine.frozen(self.net, example))
        return self.net if found is None else found

    def _folded(self) -> engine.Folded | None:
        """The same function for less, of which no layer can be read."""
        if not engine.on("folding"):
            return None
        return self._once("folded", lambda x: engine.folded(self.net, x, self.dtype, freeze=self.reentrant))

    def _once(self, what: str, make: Callable[[Tensor], T | None]) -> T | None:
        """What `make` makes of an example's input, for the type and device at hand."""
        key = (what, self.dtype, self.device)
        with _MAKING:
            if key not in self._made:
                self._made = {k: v for k, v in self._made.items() if k[1:] == key[1:]}
                h, w = self.input_size
                # What is made in inference mode could never be part of a gradient.
                with torch.inference_mode(False), torch.no_grad():
                    example = torch.rand(1, 3, h, w, generator=torch.Generator().manual_seed(0)).to(self.device)
                    self._made[key] = make(self._normalise(example))
            return cast("T | None", self._made[key])

    def preprocess(self, canvas: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 ho wo"]:
        """The whole canvas, resized with antialiasing to the network's input; RGB in [0, 1]."""
        if tuple(canvas.shape[-2:]) == self.input_size:
            return canvas
        resized = F.interpolate(canvas, self.input_size, mode="bicubic", antialias=True, align_corners=False)
        return resized.clamp(0, 1)

    def activations(self, x: Float[Tensor, "n 3 h w"], taps: frozenset[str]) -> dict[str, Tensor]:
        """What `taps` read of the network (see `networks.layers`), (N, C) each, or (N, P, C); `logits` is the output.

        Layers are read in the network as timm ships it, or, where a gradient is wanted, in `frozen`, which has the
        same; it runs no further than the last of them.

        Raises:
            UserError: for a layer that is not there or has no units, or a place that it does not have.
        """
        if taps == {LOGITS}:
            return {LOGITS: self(x)}
        layers = {tap: self.layer(split_tap(tap)[0]) for tap in taps - {LOGITS}}
        rectifiers = {layer.rectifier for layer in layers.values() if layer.rectifier} if x.requires_grad else set()
        names = {layer.name for layer in layers.values()}
        net = self.frozen() if x.requires_grad else self.net
        with self._before(rectifiers, net) as before, self.tapped(names, LOGITS not in taps, net) as outputs:
            found = {LOGITS: logits} if (logits := self._as_far_as_needed(net, x)) is not None else {}
        for layer in {layer.name: layer for layer in layers.values() if layer.rectifier in before}.values():
            outputs[layer.name] = layer.revive(outputs[layer.name], before[layer.rectifier])
        return found | {tap: layer.read(outputs[layer.name], split_tap(tap)[1]) for tap, layer in layers.items()}

    @contextmanager
    def _before(self, names: set[str], net: nn.Module) -> Iterator[dict[str, Tensor]]:
        """What goes into modules of `net` during the with block, by name."""
        # Other threads may be in the same network.
        kept, own = dict[str, Tensor](), threading.get_ident()

        def keep(name: str) -> Any:
            def hook(module: nn.Module, args: Any) -> None:
                if threading.get_ident() == own:
                    # timm's ReLUs work in place: what went in is lost afterwards.
                    kept[name] = args[0].clone()

            return hook

        with _MAKING:
            handles = [net.get_submodule(name).register_forward_pre_hook(keep(name)) for name in sorted(names)]
        try:
            yield kept
        finally:
            with _MAKING:
                for handle in handles:
                    handle.remove()

    def _as_far_as_needed(self, net: nn.Module, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n k"] | None:
        try:
            return self._through(net, x)
        except _Enough:
            return None

    @contextmanager
    def tapped(
        self, layers: frozenset[str] | set[str], stop: bool = False, net: nn.Module | None = None
    ) -> Iterator[dict[str, Tensor]]:
        """The raw outputs of `layers` during the with block, by name; the hooks are removed at its end.

        Args:
            layers: names of modules.
            stop: end the forward pass, with an exception that `activations` catches, once all have been read.
            net: `frozen`, to have them from it instead of from `net`.
        """
        modules = dict((self.net if net is None else net).named_modules())
        for layer in sorted(layers):
            if layer not in modules or not layer:
                raise UserError(f"{self.alias} has no layer {layer}: {nearest(layer, [m for m in modules if m])}")
        taps: dict[str, Tensor] = {}
        left = {layer: self.layer(layer).calls for layer in layers} if stop else {}
        own = threading.get_ident()

        def keep(name: str) -> Any:
            def hook(module: nn.Module, args: Any, output: Any) -> None:
                if threading.get_ident() != own:
                    return  # another thread in the same network
                taps[name] = output
                if stop:
                    left[name] -= 1
                    if all(n <= 0 for n in left.values()):
                        raise _Enough
                # The network goes on, and its next layer may work in place.
                taps[name] = output.clone() if isinstance(output, Tensor) else output

            return hook

        with _MAKING:
            handles = [modules[layer].register_forward_hook(keep(layer)) for layer in sorted(layers)]
        try:
            yield taps
        finally:
            with _MAKING:
                for handle in handles:
                    handle.remove()

    def measured(self) -> dict[str, Layer | str]:
        """Every module that the network runs, in order: the layer that it is, or why it has no units."""
        if self._measured is None:
            self._measured = measure(self.net, self.input_size)
        return self._measured

    def layers(self) -> dict[str, Layer]:
        """The addressable layers, in the network's order."""
        return {name: layer for name, layer in self.measured().items() if isinstance(layer, Layer)}

    def layer(self, name: str) -> Layer:
        """A layer by name, `logits` for the output.

        Raises:
            UserError: when there is none of that name, or it has no units; the message names others.
        """
        if name == LOGITS:
            return Layer(LOGITS, (self.num_classes,), "vector", 1)
        return find(self.measured(), name, self.alias)

    @torch.no_grad()
    def features(self, x: Float[Tensor, "n 3 h w"], flat: bool = True) -> dict[str, Tensor]:
        """What the metrics read: `logits` (N, K), `pooled` (N, D) before the head, `flat` (N, L) of the last block.

        `pooled` is timm's `forward_head(pre_logits=True)` (in another network the input of its last linear layer),
        `flat` the last block's feature map or tokens, left out where `flat` is false.
        """
        block = self.last_block()
        with self.tapped({block} if flat else set()) as taps, self._autocast():
            pooled, logits = self._pooled(self._normalise(x))
        found = {"logits": logits.float(), "pooled": pooled.float().flatten(1)}
        return found | ({"flat": taps[block].float().flatten(1)} if flat else {})

    def _pooled(self, x: Float[Tensor, "n 3 h w"]) -> tuple[Tensor, Tensor]:
        if hasattr(self.net, "forward_head"):
            maps = self.net.forward_features(x)
            return self.net.forward_head(maps, pre_logits=True), self.net.forward_head(maps)
        # Not timm's: what goes into the last linear layer.
        last = [m for m in self.net.modules() if isinstance(m, nn.Linear)][-1:]
        kept: list[Tensor] = []
        handles = [m.register_forward_pre_hook(lambda module, args: kept.append(args[0])) for m in last]
        try:
            logits = self.net(x)
        finally:
            for handle in handles:
                handle.remove()
        return (kept[-1] if kept else logits), logits

    def last_block(self) -> str:
        """The layer of the `flat` plausibility: the last of `blocks`, `stages`, `layers`, `features`, or of the net."""
        if not hasattr(self.net, "forward_head"):
            return next(n for n, m in reversed(self.layers().items()) if m.kind != "vector")
        for group in ("blocks", "stages", "layers", "layer4", "features"):
            module = getattr(self.net, group, None)
            if isinstance(module, nn.Module) and (children := [name for name, _ in module.named_children()]):
                return f"{group}.{children[-1]}"
        heads = {"global_pool", "fc", "head", "classifier", "head_drop", "fc_norm", "drop", "norm", "head_hidden"}
        names = [n for n, m in self.net.named_children() if n not in heads and not isinstance(m, nn.Identity)]
        return names[-1]


def class_names(net: nn.Module, count: int) -> tuple[list[str], list[str]]:
    """The short names and the synsets of a network's classes; numbers where they are not ImageNet's."""
    subset = infer_imagenet_subset(net)
    if subset is None and count == 1000:
        subset = "imagenet-1k"
    if subset is None:
        return [f"class {i}" for i in range(count)], []
    info = ImageNetInfo(subset)
    return [info.index_to_description(i).split(",")[0] for i in range(count)], list(info.label_names())
