"""Anyone's network: a YAML that names a torch.nn.Module and says what timm would know of it, in; the module, out.

# net.yaml, for --model wrap:net.yaml
class_path: my_package.MyNet    # a Module, or a function that gives one: (N, 3, h, w) to logits (N, classes)
init_args: {depth: 18}
weights: my_net.safetensors     # a state dict, beside the YAML; left out where the module loads its own
mean: [0.485, 0.456, 0.406]     # of RGB in [0, 1]
std: [0.229, 0.224, 0.225]
input_size: [224, 224]          # height, width
labels: labels.txt              # a name a line, beside the YAML; or a list; left out where they are ImageNet's
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import yaml
from torch import nn

from featvis.errors import UserError, nearest
from featvis.networks.weights import ModelSpec, Weights

PREFIX = "wrap:"
KEYS = ("class_path", "init_args", "weights", "mean", "std", "input_size", "labels")
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
    for key, length in (("mean", 3), ("std", 3), ("input_size", 2)):
        found = values[key]
        numbers = isinstance(found, list) and all(isinstance(v, int | float) and v >= 0 for v in found)
        if not numbers or len(found) != length or (key != "mean" and 0 in found):
            raise UserError(f"{flag} {name}: {key} must be a list of {length} numbers, not {found!r:.60}")
    if not isinstance(values["class_path"], str) or not isinstance(values.get("init_args") or {}, dict):
        raise UserError(f"{flag} {name}: class_path must be a text such as my_package.MyNet, init_args keys and values")
    size = (int(values["input_size"][0]), int(values["input_size"][1]))
    spec = ModelSpec(
        path.stem,
        values["class_path"],
        mean=tuple(map(float, values["mean"])),
        std=tuple(map(float, values["std"])),
        input_size=size,
        labels=_labels(values.get("labels"), path, f"{flag} {name}"),
    )
    return spec, values


def _labels(given: Any, path: Path, what: str) -> tuple[str, ...] | None:
    if given is None:
        return None
    if isinstance(given, list):
        return tuple(map(str, given))
    file = path.parent / str(given)
    if not file.is_file():
        raise UserError(f"{what}: labels must be a list, or a file with a name a line; there is no {file}")
    return tuple(line.strip() for line in file.read_text().splitlines() if line.strip())


def build(name: str, flag: str = "--model") -> tuple[nn.Module, ModelSpec, Weights]:
    """The module of `wrap:FILE`, filled with its weights, in eval mode.

    Raises:
        UserError: when it cannot be imported or made, or the weights are not its own.
    """
    spec, values = read(name, flag)
    path = Path(name.removeprefix(PREFIX))
    module, _, attribute = spec.name.rpartition(".")
    for folder in (str(path.parent.absolute()), str(Path.cwd())):
        if folder not in sys.path:
            sys.path.insert(0, folder)
    try:
        make = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"{flag} {name}: {spec.name} cannot be imported ({error}); name it module.Class") from error
    try:
        # Every process of a run must get the same network, whatever is random in making it.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            net = make(**(values.get("init_args") or {}))
    except Exception as error:  # anyone's code may raise anything
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UserError(f"{flag} {name}: {spec.name} cannot be made ({reason:.200})") from error
    if not isinstance(net, nn.Module):
        raise UserError(f"{flag} {name}: {spec.name} gives a {type(net).__name__}, not a torch.nn.Module")
    weights = Weights("directory", path, f"as {spec.name} makes it")
    if values.get("weights") is not None:
        weights = Weights("directory", path.parent / str(values["weights"]), str(path.parent / str(values["weights"])))
        _fill(net, path.parent / str(values["weights"]), f"{flag} {name}")
    return net.eval(), spec, weights


def _fill(net: nn.Module, path: Path, what: str) -> None:
    if path.suffix != ".safetensors":
        raise UserError(f"{what}: weights must be a .safetensors file (pickles are never loaded), not {path.name}")
    try:
        state = safetensors.torch.load_file(path)
    except Exception as error:  # see weights._read
        raise UserError(f"{what}: the weights {path} cannot be read ({' '.join(str(error).split()):.160})") from error
    try:
        net.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise UserError(
            f"{what}: the weights {path} are of another network ({' '.join(str(error).split()):.200})"
        ) from error
