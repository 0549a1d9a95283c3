"""The weights of networks: a `ModelSpec` in; the file that holds them, and the network filled with it, out.

Weights are looked for in the folder FEATVIS_WEIGHTS, an installed package, the hub's cache and the hub, in that order;
only safetensors and `weights_only` files are read.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from featvis.errors import Unreachable, UserError
from featvis.networks.names import ModelSpec, local_file, short, untagged, weights_directory
from featvis.storage.hashing import config_hash

HUB_TIMEOUT = 5.0
"""Seconds until the hub counts as unreachable."""

WAYS_OUT = (
    "put {stem}.safetensors into a folder and name that folder in FEATVIS_WEIGHTS, use a network whose weights come "
    "with featvis (MODEL=efficientnet_lite0), or run once where the hub can be reached so that its cache holds the "
    "file (HF_HOME)"
)


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


def locate(spec: ModelSpec) -> Weights:
    """Where the weights are, in the order directory, package, cache, hub. Nothing is downloaded, nothing is asked.

    Raises:
        UserError: when the network is in none of the four, or the directory has a file that may be its or not.
    """
    directory = weights_directory()
    for stem in dict.fromkeys((spec.alias, spec.name)):
        if directory is not None and (path := local_file(directory, stem)) is not None:
            return Weights("directory", path, str(path))
    if directory is not None and (path := untagged(directory, spec)) is not None:
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


def setting_of(
    net: nn.Module, spec: ModelSpec, mean: Sequence[float], std: Sequence[float], size: Sequence[int]
) -> dict[str, str]:
    """What `content_hash` does not see of anyone's own network, for the facts of what is made of it.

    Its input's mean, deviation and size, its layers with their settings (a ReLU in the place of a GELU has the same
    weights), and the layer of `flat`. What the code of a forward pass says is not seen.

    Returns:
        `setting`, 12 hex digits; nothing for a network that timm makes by its name, whose weights say all of it.
    """
    if spec.own is None:
        return {}
    try:
        layers = repr(net)
    except Exception:  # anyone's code may raise anything
        layers = type(net).__name__
    # Places in memory, and on which device a list of parameters lies, are another process's business.
    layers = re.sub(r" at 0x[0-9A-Fa-f]+| \(GPU \d+\)", "", layers)
    seen = {"mean": list(mean), "std": list(std), "size": list(size), "flat": spec.flat}
    return {"setting": config_hash({**seen, "made": spec.own, "layers": layers})}
