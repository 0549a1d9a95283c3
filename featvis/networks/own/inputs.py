"""What a live network takes: mean, deviation, size, channels and names of classes, as it, or its user, says."""

from __future__ import annotations

import inspect
import operator
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import EnumMeta
from numbers import Real
from typing import Any, cast

import numpy as np
import timm
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import nn

from featvis.errors import UserError
from featvis.networks.own.outputs import is_sealed

Numbers = float | int | Sequence[float | int]
"""One for all channels, or one a channel."""
GUESSES = (224, 32, 28, 64, 96, 128, 256, 299, 384)
"""Sides that are tried with a network that does not say its own, the first that it takes."""


@dataclass(frozen=True)
class Input:
    """What a network takes; None where it is not known.

    Attributes:
        channels: of its input.
        mean: of each, of images in [0, 1].
        std: of each.
        size: (h, w) in pixels.
        labels: a name a class.
    """

    channels: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    size: tuple[int, int] | None = None
    labels: tuple[str, ...] | None = None

    def over(self, other: Input) -> Input:
        """The same, what is not known taken from `other`."""
        return replace(other, **{k: v for k, v in vars(self).items() if v is not None})


_NOTHING = Input()


def describe(
    net: nn.Module,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    input_size: int | Sequence[int] | None = None,
    labels: Sequence[str] | None = None,
    preprocess: Any = None,
    run: nn.Module | None = None,
) -> Input:
    """What a network takes: what is given, else what `preprocess` says, else what the network says of itself.

    A network that says nothing is taken to want images in [0, 1] as they are, which a warning says. What nobody says
    for sure, its channels and its size, are the first of what it may take that it runs on.

    Args:
        net: the network.
        mean: see `classifier_of`, as of the next four.
        std: see there.
        input_size: see there.
        labels: see there.
        preprocess: see there.
        run: what is run to find out, a copy of the network in eval mode; None: the network.

    Raises:
        UserError: for values that cannot be used, a `preprocess` of an unknown kind, or a Hugging Face network without
            its processor.
    """
    if labels is not None and (isinstance(labels, str | Mapping) or not isinstance(labels, Iterable)):
        raise UserError(f"labels must be a list of names, one a class, not {labels!r:.60}")
    given = Input(
        mean=_numbers("mean", mean),
        std=_numbers("std", std),
        size=None if input_size is None else _given_size(input_size),
        labels=None if labels is None else tuple(map(str, labels)),
    )
    said = given if preprocess is None else given.over(_of_preprocess(preprocess, given))
    found = said.over(_of_network(net))
    if (found.mean is None or found.std is None) and type(net).__module__.startswith("transformers."):
        raise UserError(
            f"a {type(net).__name__} does not say what its images are normalised with; give its processor, "
            "preprocess=AutoImageProcessor.from_pretrained(...), or mean and std"
        )
    several = max(len(found.mean or ()), len(found.std or ()))
    channels, size = _kernel(net), found.size
    # Where the first convolution and who describes the images agree there is nothing to find out.
    if size is None or channels != several:
        channels, size = _tried(net if run is None else run, _channels(net, several), size)
    unknown = [n for n, v in (("mean", found.mean), ("std", found.std), ("input_size", found.size)) if v is None]
    mean_, std_ = _each("mean", found.mean, channels, 0.0), _each("std", found.std, channels, 1.0)
    found = replace(found, channels=channels, mean=mean_, std=std_, size=size)
    if unknown:
        assert found.size is not None
        warnings.warn(
            f"featvis: {type(net).__name__} does not say its {', '.join(unknown)}; taken are mean {found.mean[0]:g}, "  # type: ignore[index]
            f"std {found.std[0]:g} and {found.size[0]} x {found.size[1]} pixels; give mean=, std= and input_size= "  # type: ignore[index]
            "where it was trained on others", RuntimeWarning, stacklevel=3,
        )  # fmt: skip
    return found


def _numbers(name: str, value: Numbers | None) -> tuple[float, ...] | None:
    if value is None:
        return None
    try:
        found = (float(value),) if isinstance(value, int | float | Real) else tuple(float(v) for v in value)
    except (TypeError, ValueError):
        found = ()
    if not found or (name == "std" and not all(v > 0 for v in found)):
        raise UserError(f"{name} must be a number a channel{', above 0' if name == 'std' else ''}, not {value!r:.60}")
    return found


def _given_size(value: int | Sequence[int]) -> tuple[int, int]:
    try:
        height, width = (operator.index(v) for v in (value if isinstance(value, Sequence) else (value, value)))
        return _size((height, width))
    except (TypeError, ValueError):
        raise UserError(f"input_size must be one side in pixels, or (height, width), not {value!r:.60}") from None


def _size(value: Sequence[int]) -> tuple[int, int]:
    found = tuple(int(v) for v in value)
    if len(found) not in (2, 3) or min(found) < 1:
        raise UserError(f"input_size must be one side in pixels, or (height, width), not {tuple(value)!r:.60}")
    return found[-2], found[-1]


def _each(name: str, values: tuple[float, ...] | None, channels: int, otherwise: float) -> tuple[float, ...]:
    """A value a channel; a network of other channels than the three that are described gets the mean of these."""
    if values is None:
        return (otherwise,) * channels
    if len(values) == channels:
        return values
    if len(values) not in (1, 3):
        raise UserError(f"{name} has {len(values)} numbers, but the network takes {channels} channels")
    return (sum(values) / len(values),) * channels


def _kernel(net: nn.Module) -> int:
    """The channels of the first convolution, in the order in which modules were made; 0 where there is none.

    A script has its weights alone; of any other module those of four dimensions may be positions, say.
    """
    weights = (p.shape[1] for p in net.parameters() if p.ndim == 4)
    known = weights if is_sealed(net) else (m.in_channels for m in net.modules() if isinstance(m, nn.Conv2d))
    return next(iter(known), 0)


def _channels(net: nn.Module, several: int) -> list[int]:
    """What a network's channels may be, the likeliest first: its first convolution may be a part of its head.

    Args:
        net: the network.
        several: numbers of its mean or deviation, which somebody has counted where they are more than one.
    """
    own = next((p.shape[1] for p in net.parameters() if p.ndim == 4), 0)
    return [n for n in dict.fromkeys((several if several > 1 else 0, _kernel(net), 3, 1, own)) if n]


# --- what a network says of itself ----------------------------------------------------------------------------------


def _of_network(net: nn.Module) -> Input:
    found = Input()
    for part in (_of_timm(net), _of_torchvision(net), _of_config(net), _of_attributes(net)):
        found = found.over(part)
    return found


def _of_timm(net: nn.Module) -> Input:
    cfg = getattr(net, "pretrained_cfg", None) or getattr(net, "default_cfg", None)
    if not isinstance(cfg, Mapping) or not {"mean", "std"} <= set(cfg):
        return Input()
    return _of_mapping(timm.data.resolve_model_data_config(net))


def _of_torchvision(net: nn.Module) -> Input:
    """What the transforms of the weights say that torchvision has for this architecture."""
    module = sys.modules.get(type(net).__module__)
    if module is None or not type(net).__module__.startswith("torchvision.models."):
        return Input()
    enums = [e for e in vars(module).values() if isinstance(e, EnumMeta)]
    weights: list[Any] = [w for e in enums for w in cast(Any, e) if hasattr(w, "transforms")]
    own = sum(p.numel() for p in net.parameters())
    # ResNet-18 and -50 are one class; how many parameters there are tells them apart, unless the head is another.
    same = [w for w in weights if w.meta.get("num_params") == own] or weights
    said = [_of_preprocess(w.transforms()) for w in same]
    if not said:
        return Input()
    side = getattr(net, "image_size", None)
    size = (side, side) if isinstance(side, int) else Counter(s.size for s in said).most_common(1)[0][0]
    common = Counter((s.mean, s.std) for s in said).most_common(1)[0][0]
    return Input(mean=common[0], std=common[1], size=size)


def _of_config(net: nn.Module) -> Input:
    """Hugging Face's config: names of classes, size."""
    config = getattr(net, "config", None)
    if config is None:
        return Input()
    get = config.get if isinstance(config, Mapping) else lambda key: getattr(config, key, None)
    names, side = get("id2label"), get("image_size")
    labels = None
    if isinstance(names, Mapping) and names:
        labels = tuple(str(name) for _, name in sorted(names.items(), key=lambda item: int(item[0])))
        if labels == tuple(f"LABEL_{i}" for i in range(len(labels))):
            labels = None  # nobody named them
    return Input(labels=labels, size=_sides(side))


def _of_attributes(net: nn.Module) -> Input:
    """open_clip's towers, DINOv2, and anyone who says it the same way."""
    cfg = getattr(net, "preprocess_cfg", None)
    found = _of_mapping(cfg) if isinstance(cfg, Mapping) else Input()
    pick = {name: getattr(net, name, None) for name in ("image_mean", "image_std", "image_size", "labels")}
    labels = pick["labels"]
    own = Input(
        # A tensor of that name is a buffer, of a network that normalises by itself.
        mean=_sequence(pick["image_mean"]) if isinstance(pick["image_mean"], list | tuple) else None,
        std=_sequence(pick["image_std"]) if isinstance(pick["image_std"], list | tuple) else None,
        size=_sides(pick["image_size"]),
        labels=tuple(map(str, labels)) if isinstance(labels, list | tuple) else None,
    )
    if type(net).__module__.startswith("dinov2."):
        own = own.over(Input(mean=IMAGENET_DEFAULT_MEAN, std=IMAGENET_DEFAULT_STD, size=(224, 224)))
    return found.over(own)


def _sequence(value: Any) -> tuple[float, ...] | None:
    """The numbers of a list, a tensor or an array, or one alone; None for what holds none.

    Those of float32 are the shortest that round to them: 0.485, as whoever made the tensor wrote it.
    """
    single = str(getattr(value, "dtype", "")).endswith("float32")
    try:
        flat = np.asarray(value.tolist() if hasattr(value, "tolist") else value, dtype=np.float64).ravel()
    except (TypeError, ValueError, RuntimeError):
        return None
    if not flat.size or not np.isfinite(flat).all():
        return None
    return tuple(float(str(np.float32(v))) if single else float(v) for v in flat)


# --- what a preprocessing says --------------------------------------------------------------------------------------


def _of_mapping(cfg: Mapping[str, Any]) -> Input:
    """timm's data config, or open_clip's."""
    return Input(
        mean=_sequence(cfg.get("mean")),
        std=_sequence(cfg.get("std")),
        size=_sides(cfg.get("input_size") or cfg.get("size")),
    )


def _of_preprocess(given: Any, told: Input = _NOTHING) -> Input:
    """Torchvision's transforms, a Hugging Face processor or timm's data config.

    Args:
        given: one of these.
        told: what need not be read of it.

    Raises:
        UserError: for another type, or where it has a mean or a deviation that cannot be read.
    """
    if isinstance(given, Mapping):
        mean, std = (_read(given, name, given.get(name), getattr(told, name)) for name in ("mean", "std"))
        return replace(_of_mapping(given), mean=mean, std=std)
    if hasattr(given, "image_mean"):
        return _of_processor(given, told)
    found = Input()
    for part in _parts(given):
        said = {name: getattr(part, name, None) for name in ("mean", "std")}
        # GaussianNoise has a number for a mean, too, but no deviation.
        if isinstance(said["mean"], Real) and said["std"] is None:
            said["mean"] = None
        one = "normali" in type(part).__name__.lower()
        own = Input(
            mean=_read(part, "mean", said["mean"], told.mean, one),
            std=_read(part, "std", said["std"], told.std, one),
            size=_sides(getattr(part, "crop_size", None)) or _sides(getattr(part, "size", None)),
        )
        # The last word on the size is that of the crop.
        found = own.over(found)
    if found == _NOTHING:
        raise UserError(
            f"preprocess of type {type(given).__name__} says neither mean nor size; give torchvision's transforms, a "
            "Hugging Face image processor or timm's data config, or mean=, std= and input_size="
        )
    return found


def _read(
    part: Any, name: str, value: Any, told: tuple[float, ...] | None, one: bool = True
) -> tuple[float, ...] | None:
    """The mean or deviation of a part of a preprocessing; None where it has none.

    Args:
        part: which has it.
        name: `mean` or `std`.
        value: it, or None.
        told: what the user says in its place.
        one: whether a single number is for all channels; else it may be that of noise which the part adds.

    Raises:
        UserError: where it cannot be read.
    """
    if value is None or callable(value):
        return None
    if told is not None:
        return told
    found = _sequence(value) if one or not isinstance(value, Real) else None
    if found is None:
        text = " ".join(repr(value).split())
        raise UserError(
            f"the {name} of {type(part).__name__} in preprocess is not a number a channel but {text:.60}; give mean= "
            "and std= beside it"
        )
    return found


def _parts(transform: Any) -> Iterator[Any]:
    inner = getattr(transform, "transforms", None)
    if callable(inner) and not isinstance(inner, Sequence) and not inspect.isclass(transform):
        inner = None
    if isinstance(inner, Sequence):
        for part in inner:
            yield from _parts(part)
    else:
        yield transform


def _sides(value: Any) -> tuple[int, int] | None:
    if isinstance(value, int):
        return _size((value, value))
    if isinstance(value, list | tuple) and value and all(isinstance(v, int) for v in value):
        return _size(value * 2 if len(value) == 1 else value)
    return None


def _of_processor(given: Any, told: Input) -> Input:
    size = None
    for name in ("crop_size", "size"):
        value = getattr(given, name, None)
        if name == "crop_size" and not getattr(given, "do_center_crop", True):
            continue
        if value is None or size is not None:
            continue
        get = value.get if isinstance(value, Mapping) else lambda key, value=value: getattr(value, key, None)
        height, width, edge = get("height"), get("width"), get("shortest_edge")
        size = (int(height), int(width)) if height and width else (int(edge), int(edge)) if edge else None
    wanted = getattr(given, "do_normalize", True)
    if not wanted:
        return Input(mean=(0.0,), std=(1.0,), size=size)
    return Input(
        mean=_read(given, "image_mean", given.image_mean, told.mean),
        std=_read(given, "image_std", getattr(given, "image_std", None), told.std),
        size=size,
    )


def _tried(net: nn.Module, channels: Sequence[int], size: tuple[int, int] | None) -> tuple[int, tuple[int, int]]:
    """The first channels, and the first size where nobody says it, that a network takes.

    Raises:
        UserError: when it takes none of the sizes.
    """
    from featvis.networks.measuring import runs

    for count in channels:
        for sides in [(side, side) for side in GUESSES] if size is None else [size]:
            if runs(net, (count, *sides)):
                return count, sides
    likeliest = _kernel(net) or channels[0]
    if size is not None:
        return likeliest, size
    raise UserError(
        f"{type(net).__name__} takes none of the sizes {', '.join(map(str, GUESSES))} with {likeliest} channels; "
        "give input_size="
    )
