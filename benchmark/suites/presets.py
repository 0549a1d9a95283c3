"""The files of configs/generator: a name in, a class path and its arguments out; no torch."""

from __future__ import annotations

from typing import Any

import yaml

from featvis.errors import UserError, nearest
from featvis.paths import CONFIGS


def presets() -> list[str]:
    """The names in configs/generator."""
    return sorted(p.stem for p in (CONFIGS / "generator").glob("*.yaml"))


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
    model = yaml.safe_load(path.read_text())["model"]
    return model["class_path"], dict(model.get("init_args") or {})
