"""The versions of the packages that an image or a score depends on, and the engine that computed it."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Sequence

from featvis.choice import in_use

VERSIONED = ("featvis", "torch", "timm", "lightning", "numpy", "pillow", "engine")


def versions(packages: Sequence[str] = VERSIONED) -> dict[str, str]:
    """The versions of installed packages; `engine` is no package, but the one in use (`featvis.choice`)."""
    found = {}
    for package in packages:
        if package == "engine":
            found[package] = in_use()
            continue
        if package == "featvis":
            # Also where it is not installed, but lies on the path.
            found[package] = importlib.import_module(package).__version__
            continue
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
