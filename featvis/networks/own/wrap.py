"""Anyone's network: a YAML that names a torch.nn.Module and says what timm would know of it, in; a `ModelSpec` out.

# net.yaml, for --model wrap:net.yaml
class_path: my_package.MyNet    # a Module, or a function that gives one: images (N, C, h, w) to logits (N, classes)
init_args: {depth: 18}
weights: my_net.safetensors     # a state dict, beside the YAML; left out where the module loads its own
mean: [0.485, 0.456, 0.406]     # of RGB in [0, 1]; one number a channel, however many it takes
std: [0.229, 0.224, 0.225]
input_size: [224, 224]          # height, width
labels: labels.txt              # a name a line, beside the YAML; or a list; else ImageNet's, if 1000
flat: layer4                    # the layer of the `flat` plausibility; left out: the last map before the pooling
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from featvis.errors import UserError, nearest
from featvis.networks.names import ModelSpec

PREFIX = "wrap:"
KEYS = ("class_path", "init_args", "weights", "mean", "std", "input_size", "labels", "flat")
_NEEDED = ("class_path", "mean", "std", "input_size")


def read(name: str, flag: str = "--model") -> tuple[ModelSpec, dict[str, Any]]:
    """What `wrap:FILE` says: a spec, and the file's keys.

    Raises:
        UserError: for a missing file, an unknown or missing key, or a value that cannot be used.
    """
    path = Path(name.removeprefix(PREFIX))
    if not path.is_file():
        raise UserError(f"{flag} {name}: there is no file {path}; name a YAML with {', '.join(_NEEDED)}")
    try:
        values = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{flag} {name} cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise UserError(f"{flag} {name} must hold keys and values: {', '.join(KEYS)}")
    for key in values:
        if key not in KEYS:
            raise UserError(f"{flag} {name} has the unknown key {key}: {nearest(str(key), KEYS)}")
    for key in _NEEDED:
        if key not in values:
            raise UserError(f"{flag} {name} lacks {key}; it needs {', '.join(_NEEDED)}")
    channels = values["mean"] if isinstance(values["mean"], list) and values["mean"] else [0.0] * 3
    for key, length in (("mean", len(channels)), ("std", len(channels)), ("input_size", 2)):
        found = values[key]
        numbers = isinstance(found, list) and all(isinstance(v, int | float) and v >= 0 for v in found)
        if not numbers or len(found) != length or (key != "mean" and 0 in found):
            raise UserError(f"{flag} {name}: {key} must be a list of {length} numbers, not {found!r:.60}")
    if not isinstance(values.get("flat") or "", str):
        raise UserError(f"{flag} {name}: flat must be the name of a layer, not {values['flat']!r:.60}")
    if not isinstance(values["class_path"], str) or not isinstance(values.get("init_args") or {}, dict):
        raise UserError(f"{flag} {name}: class_path must be a text such as my_package.MyNet, init_args keys and values")
    size = (int(values["input_size"][0]), int(values["input_size"][1]))
    spec = ModelSpec(
        alias_of(name),
        values["class_path"],
        mean=tuple(map(float, values["mean"])),
        std=tuple(map(float, values["std"])),
        input_size=size,
        labels=_labels(values.get("labels"), path, f"{flag} {name}"),
        flat=values.get("flat") or None,
        given=name,
    )
    return spec, values


def alias_of(name: str) -> str:
    """What a network is called in paths and records: `wrap:FILE` by its file's stem, any other as it is.

    Example:
        >>> from featvis.networks.own.wrap import alias_of
        >>> alias_of("wrap:nets/mine.yaml"), alias_of("efficientnet_lite0")
        ('wrap-mine', 'efficientnet_lite0')
    """
    stem = re.sub(r"[^A-Za-z0-9_.+-]", "_", Path(name.removeprefix(PREFIX)).stem)
    return f"wrap-{stem}" if name.startswith(PREFIX) else name


def _labels(given: Any, path: Path, what: str) -> tuple[str, ...] | None:
    if given is None:
        return None
    if isinstance(given, list):
        return tuple(map(str, given))
    file = path.parent / str(given)
    if not file.is_file():
        raise UserError(f"{what}: labels must be a list, or a file with a name a line; there is no {file}")
    return tuple(line.strip() for line in file.read_text().splitlines() if line.strip())
