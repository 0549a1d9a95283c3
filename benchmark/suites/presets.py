"""The files of configs/generator: a name in, a class path and its arguments out; no torch."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import yaml

from featvis.errors import UserError, nearest
from featvis.paths import CONFIGS, PACKAGE


def presets(kind: str = "generator") -> list[str]:
    """The names in configs/generator, or in another folder of configs."""
    return sorted(p.stem for p in (CONFIGS / kind).glob("*.yaml"))


def read_preset(name: str) -> tuple[str, dict[str, Any]]:
    """Class path and arguments of a preset.

    Raises:
        UserError: when there is none of that name.
    """
    path = CONFIGS / "generator" / f"{name}.yaml"
    if name not in presets():
        raise UserError(
            f"unknown method or preset {name} (--methods; a class of your own is named by its class path, as in "
            f"my_methods.Mine): {nearest(name, presets())}"
        )
    model = yaml.safe_load(path.read_text(encoding="utf-8"))["model"]
    return model["class_path"], dict(model.get("init_args") or {})


NO_METHODS = frozenset(("Generator", "Visualizations", "Accentuation", "Attack", "Inversion"))
"""What featvis.generators has beside the methods of suites: the last three make something of an image that is named."""


def own_methods() -> list[str]:
    """The methods of featvis.generators, read from its text: importing it takes torch."""
    for node in ast.parse((PACKAGE / "generators" / "__init__.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == "__all__":
            return sorted(set(ast.literal_eval(node.value)) - NO_METHODS)
    return []


def constructor_arguments(*files: Path) -> list[str]:
    """The arguments of all constructors that Python files define, in their order."""
    nodes = (node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    found = [n.args for n in nodes if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
    return list(
        dict.fromkeys(a.arg for arguments in found for a in (*arguments.args, *arguments.kwonlyargs) if a.arg != "self")
    )
