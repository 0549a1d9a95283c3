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

import hashlib
import importlib
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from featvis.errors import UserError, nearest
from featvis.networks.names import ModelSpec
from featvis.paths import importable

PREFIX = "wrap:"
_OWN = "featvis_wrap_"
"""Before the name of a package that stands for a folder, whose files are its modules."""
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
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
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
        own=json.dumps(values.get("init_args") or {}, sort_keys=True, default=str),
    )
    return spec, values


def imported(class_path: str, folder: Path, what: str) -> Any:
    """What a class path names: in a file of the YAML's folder, where that has it, else wherever Python finds it.

    Another folder may have a file of the same name, so files are imported as modules of a package of their folder's.

    Args:
        class_path: `module.Class`.
        folder: of the YAML.
        what: the option and its value, for messages.

    Raises:
        UserError: when it cannot be imported, whatever the file raises.
    """
    module, _, attribute = class_path.rpartition(".")
    importable(folder)
    importable(Path.cwd())
    place = folder.absolute().joinpath(*module.split("."))
    file = next((p for p in (place.with_name(f"{place.name}.py"), place / "__init__.py") if p.is_file()), None)
    package = f"{_package(folder)}." if module and file is not None else ""
    try:
        return getattr(importlib.import_module(package + module), attribute)
    except Exception as error:  # anyone's code may raise anything
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}".replace(package, "")
        where = f" from {file}" if package else ""
        raise UserError(
            f"{what}: {class_path} cannot be imported{where} ({reason:.200}); name it module.Class, of a file that runs"
        ) from error


def _package(folder: Path) -> str:
    """The name of a folder's package; what its files import by a plain name from beside them is its own from now on."""
    folder = folder.resolve()
    name = _OWN + hashlib.sha256(str(folder).encode()).hexdigest()[:12]
    if name not in sys.modules:
        sys.modules[name] = ModuleType(name)
        sys.modules[name].__path__ = [str(folder)]
    others = [Path(m.__path__[0]) for n, m in sys.modules.items() if re.fullmatch(_OWN + r"\w+", n) and n != name]
    sys.path.sort(key=lambda path: Path(path).resolve() in others)
    for key, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and not key.startswith(_OWN):
            beside = (Path(file).relative_to(other) for other in others if Path(file).is_relative_to(other))
            if any((folder / path).is_file() for path in beside):
                del sys.modules[key]
    return name


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
    try:
        # Editors of Windows put a mark at the beginning, which is no part of the first label.
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{what}: the labels {file} are no text in UTF-8 ({error}); save them as that") from error
    return tuple(line.strip() for line in text.splitlines() if line.strip())
