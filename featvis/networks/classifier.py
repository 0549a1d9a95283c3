"""A network as a frozen `Classifier`: images (N, C, h, w) in [0, 1], RGB as a rule, to logits (N, classes)."""

from __future__ import annotations

import copy
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar, cast

import timm
import torch
from jaxtyping import Float
from torch import Tensor, nn

from featvis import engine
from featvis.canvas.sampling import cover
from featvis.errors import UserError, nearest
from featvis.networks.devices import Precision, compute_dtype, in_float32, own_dtype
from featvis.networks.features import Ends, class_names, ends, grey, last_block_of_timm, middle_of, sixteenths
from featvis.networks.layers import Layer, find, split_tap
from featvis.networks.measuring import MOMENTS, Rectifiers, measure, moments_read
from featvis.networks.names import ModelSpec
from featvis.networks.objectives import LOGITS
from featvis.networks.weights import content_hash, setting_of
from featvis.storage.hashing import config_hash

# One of the threads that want a version of a network makes it, and none hooks the network while it is copied. Not an
# attribute: locks cannot be copied.
_MAKING = threading.RLock()

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

T = TypeVar("T")


class _Enough(BaseException):
    """Ends a forward pass of which everything wanted has been read."""


class Classifier(nn.Module):
    """A frozen classifier that takes images in [0, 1]; its own mean and std are applied here and nowhere else.

    timm's networks, and any other module that takes (N, C, h, w) to (N, classes) where `spec` has mean, std and
    input_size. Weights of another type than float32 are computed with in their own type, unless another is asked for.

    Attributes:
        alias: the name as the user says it; `wrap-net` of `wrap:net.yaml`, so that no file is called as timm's `net`.
        given: what `load` takes for it.
        name: full timm tag.
        input_size: (h, w) of its input, in pixels.
        channels: of its input: 3 are RGB.
        num_classes: how many.
        labels: a short name a class.
        synsets: WordNet id a class, or an empty list where the classes are not ImageNet's.
        weights_hash: of all tensors.
        setting: what they do not say of anyone's own network, for facts (`weights.setting_of`).
        reentrant: several threads may run it at once, as they may timm's networks.
    """

    mean: Tensor
    std: Tensor
    net: Any

    def __init__(self, net: nn.Module, spec: ModelSpec, source: str = "", precision: Precision = "auto") -> None:
        super().__init__()
        cfg = timm.data.resolve_model_data_config(net)
        self.alias, self.name, self.source, self.precision = spec.alias, spec.name, source, precision
        self.given = spec.given or spec.alias
        self.input_size: tuple[int, int] = spec.input_size or tuple(cfg["input_size"][-2:])
        self.weights_hash = content_hash(net)
        # Anyone else's module may keep something from one line of its forward pass to the next.
        self.reentrant = type(net).__module__.startswith("timm.")
        self.net = net.eval().requires_grad_(False)
        convolutional = any(isinstance(m, nn.Conv2d) and m.kernel_size != m.stride for m in net.modules())
        self.channels_last = convolutional
        if convolutional:
            self.net = self.net.to(memory_format=torch.channels_last)
        mean, std = spec.mean or tuple(cfg["mean"]), spec.std or tuple(cfg["std"])
        self.channels = len(mean)
        self._setting = setting_of(net, spec, mean, std, self.input_size)
        # Where the network is: it is run before anybody moves it.
        where = next((t.device for t in (*net.parameters(), *net.buffers())), torch.device("cpu"))
        self.register_buffer("mean", torch.tensor(mean, device=where).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, device=where).view(1, -1, 1, 1), persistent=False)
        # The type of the weights where that is not float32: such a network computes in it, if nothing else is asked.
        self.own_dtype = own_dtype(net)
        if self.own_dtype is not None and precision != "auto":
            self.net, self.own_dtype = self.net.float(), None
        self.num_classes = self._classes()
        self.labels, self.synsets = class_names(net, self.num_classes)
        if spec.labels is not None:
            if len(spec.labels) != self.num_classes:
                raise UserError(f"there are {len(spec.labels)} labels, but the network has {self.num_classes} classes")
            self.labels, self.synsets = list(spec.labels), []
        if any(m.running_mean is None for m in net.modules() if isinstance(m, NORMS)):
            warnings.warn(
                f"featvis: {self.alias} has batch norms without running statistics: each picture depends on the batch "
                "that it is made and scored in", RuntimeWarning, stacklevel=2,
            )  # fmt: skip
        self._flat = spec.flat
        self._made: dict[tuple[str, torch.dtype, torch.device], Any] = {}
        self._measured: dict[str, Layer | str] | None = None
        self._ends: Ends | None = None

    @property
    def setting(self) -> dict[str, str]:
        """See `setting_of`; and of networks of one input size the tokens beside the patches, once taken for patches."""
        # Such tokens of timm's are parameters (1, tokens, channels): only then the network is measured.
        may = self._setting or any(p.ndim == 3 for p in self.net.parameters())
        found = {n: layer.extra for n, layer in self.layers().items() if layer.inferred and layer.extra} if may else {}
        return {"setting": config_hash({**self._setting, "extra": found})} if found else self._setting

    def in_precision(self, precision: Precision) -> Classifier:
        """The same network that computes in another precision; itself where that is the same.

        The weights are shared, unless they have a type of their own: then the other network's are copies in float32.
        """
        if precision == self.precision:
            return self
        other = copy.copy(self)
        other.precision, other._made = precision, {}
        if self.own_dtype is not None:
            # What holds modules and buffers is shared as well: else this network would change with the other.
            other._modules, other._buffers = {"net": in_float32(self.net)}, dict(self._buffers)
            other.own_dtype = None
        return other

    def train(self, mode: bool = True) -> Classifier:
        """Always in eval mode: a Trainer that switches modes must not switch on batch statistics or dropout."""
        return super().train(False)

    def _classes(self) -> int:
        """How many there are: timm's networks say it, any other shows it."""
        said, head = getattr(self.net, "num_classes", None), getattr(self.net, "get_classifier", lambda: None)()
        # Whoever puts another head on a network of timm's seldom tells it.
        if self.reentrant and isinstance(said, int) and said > 0 and getattr(head, "out_features", said) == said:
            return said
        try:
            with torch.no_grad():
                logits = self.net(self._normalise(self.example(1)))
        except UserError:
            raise
        except Exception as error:  # anyone's code may raise anything
            reason = " ".join(str(error).split())
            size = " x ".join(map(str, self.input_size))
            raise UserError(
                f"the network does not take a batch of images of {self.channels} channels and {size} pixels "
                f"({reason:.200})"
            ) from error
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            shape = tuple(logits.shape[1:]) if isinstance(logits, Tensor) else type(logits).__name__
            raise UserError(f"the network puts out {shape} for an image, not one logit a class")
        return int(logits.shape[1])

    def example(self, count: int) -> Float[Tensor, "n c h w"]:
        """The same images each time, of which no two are alike."""
        stream = torch.Generator().manual_seed(0)
        return torch.rand(count, self.channels, *self.input_size, generator=stream).to(self.device)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.mean.device

    @property
    def dtype(self) -> torch.dtype:
        """The type in which the network computes."""
        return self.own_dtype or compute_dtype(self.precision, self.device)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """Logits, float32, of RGB in [0, 1] at the network's input size."""
        folded = self._folded()
        if folded is None:
            return self._through(self.frozen(), x)
        return folded(engine.normalise(x, self.mean, self.std, self.dtype, self.channels_last)).float()

    def shipped(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "m k"]:
        """`forward` through timm's network as it is: a row an image, unless a hook replaces them (`concepts.sobol`)."""
        return self._through(self.net, x)

    def _through(self, net: nn.Module, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "m k"]:
        with self._autocast(), engine.attention(self.device, self.dtype):
            return cast(Tensor, net(self._normalise(x))).float()

    def _normalise(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        return engine.normalise(x, self.mean, self.std, self.own_dtype, channels_last=self.channels_last)

    def _autocast(self) -> torch.autocast:
        # Off where the network has a type of its own, also inside of somebody else's.
        wanted = self.own_dtype is None and self.dtype != torch.float32
        return torch.autocast(self.device.type, torch.bfloat16, enabled=wanted)

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
        if not engine.on("folding") or self.own_dtype in (torch.float16, torch.bfloat16):
            return None
        return self._once("folded", lambda x: engine.folded(self.net, x, self.dtype, freeze=self.reentrant))

    def _once(self, what: str, make: Callable[[Tensor], T | None]) -> T | None:
        """What `make` makes of an example's input, for the type and device at hand."""
        key = (what, self.dtype, self.device)
        with _MAKING:
            if key not in self._made:
                self._made = {k: v for k, v in self._made.items() if k[1:] == key[1:]}
                # What is made in inference mode could never be part of a gradient. What is compared is in full float32.
                flags = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
                with torch.inference_mode(False), torch.no_grad(), flags:
                    self._made[key] = make(self._normalise(self.example(1)))
            return cast("T | None", self._made[key])

    def preprocess(self, canvas: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c ho wo"]:
        """The canvas as image files are seen: it covers the network's input, never stretched; RGB in [0, 1]."""
        return canvas if tuple(canvas.shape[-2:]) == self.input_size else cover(canvas, self.input_size)

    def activations(self, x: Float[Tensor, "n c h w"], taps: frozenset[str]) -> dict[str, Tensor]:
        """What `taps` read of the network (see `networks.layers`), (N, C) each, or (N, P, C); `logits` is the output.

        Layers are read in the network as timm ships it, or, where a gradient is wanted, in `frozen`, which has the
        same; it runs no further than the last of them. A network of one channel sees the luminance of RGB images.

        Raises:
            UserError: for a layer that is not there or has no units, or a place that it does not have.
        """
        x = grey(x, self.channels)
        if taps == {LOGITS}:
            return {LOGITS: self(x)}
        into = {tap: split_tap(tap)[0] for tap in taps if split_tap(tap)[1] == MOMENTS}
        layers = {tap: self.layer(split_tap(tap)[0]) for tap in taps - {LOGITS} - into.keys()}
        names = {layer.name for layer in layers.values()}
        net = self.frozen() if x.requires_grad else self.net
        kept = frozenset(layer.rectifier for layer in layers.values() if layer.rectifier >= 0 and x.requires_grad)
        relus = Rectifiers(kept)
        stop = not into and LOGITS not in taps
        reading = moments_read(net, [*into.values()])
        with relus if kept else nullcontext(), reading as moments, self.tapped(names, stop, net) as outputs:
            found = {LOGITS: logits} if (logits := self._as_far_as_needed(net, x)) is not None else {}
        found |= {tap: moments[name] for tap, name in into.items()}
        for tap, layer in layers.items():
            output, where = outputs[layer.name], split_tap(tap)[1]
            if layer.rectifier in relus.before:
                output = layer.revive(output, relus.before[layer.rectifier], where)
            found[tap] = layer.read(output, where)
        return found

    def _as_far_as_needed(self, net: nn.Module, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"] | None:
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
            self._measured = measure(self.net, self.input_size, self.channels)
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
        if not (known := self.measured()):
            raise UserError(
                f"layers of {self.alias} cannot be read (torch.jit has compiled it, say); give the module that it was "
                "made of, or take its classes"
            )
        for wrapper in ("module.", "_orig_mod.", "visual."):
            # As a DataParallel, a compiled module or CLIP, which have been taken off, called it.
            name = name if name in known else name.removeprefix(wrapper)
        return find(known, name, self.alias)

    @torch.no_grad()
    def features(self, x: Float[Tensor, "n k h w"], flat: bool = True, middle: bool = False) -> dict[str, Tensor]:
        """What the metrics read: `logits` (N, K), `pooled` (N, D) before the head, `flat` (N, L) of the last block.

        A network of one channel sees the luminance of RGB images.

        `pooled` is what goes into the layer that makes the logits (timm's `forward_head(pre_logits=True)`); a network
        without such a layer has its logits there. `flat` is the last block's feature map or tokens, `middle` (N, 16 C)
        what a layer halfway sees in each sixteenth of the image; each left out where it is not asked for, or the
        network has none.
        """
        x = grey(x, self.channels)
        block = self.last_block() if flat else ""
        halfway = middle_of(self.measured()) if middle else None
        with self.tapped({block, halfway.name if halfway else ""} - {""}) as taps, self._autocast():
            pooled, logits = self._pooled(self._normalise(x))
        found = {"logits": logits.float(), "pooled": pooled.float().flatten(1)}
        found |= {"flat": taps[block].float().flatten(1)} if block else {}
        return found | ({"middle": sixteenths(taps[halfway.name], halfway)} if halfway else {})

    def _pooled(self, x: Float[Tensor, "n c h w"]) -> tuple[Tensor, Tensor]:
        if self.reentrant and hasattr(self.net, "forward_head"):
            maps = self.net.forward_features(x)
            return self.net.forward_head(maps, pre_logits=True), self.net.forward_head(maps)
        kept: list[Tensor] = []
        handles = []
        if name := self.ends().head:
            head = self.net.get_submodule(name)
            handles = [head.register_forward_pre_hook(lambda module, args: kept.append(args[0]))]
        try:
            logits = self.net(x)
        finally:
            for handle in handles:
                handle.remove()
        return (kept[-1] if kept else logits), logits

    def ends(self) -> Ends:
        """The layer that makes the logits, and the last map before its pooling, as the network runs."""
        if self._ends is None:
            with self._autocast():
                self._ends = ends(self.net, self._normalise(self.example(2)), self.measured())
        return self._ends

    def last_block(self) -> str:
        """The layer of the `flat` plausibility: the last map or tokens before the pooling; empty where there are none.

        timm's networks: the last of their blocks, which is what the paper's numbers and all records are of.
        """
        if self._flat is not None:
            return self.layer(self._flat).name
        named = last_block_of_timm(self.net) if self.reentrant else ""
        layer = self.measured().get(named)
        if isinstance(layer, Layer) and layer.kind != "vector":
            return named
        return self.ends().flat
