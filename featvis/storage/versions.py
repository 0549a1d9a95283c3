"""The versions of the packages that an image or a score depends on."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence

VERSIONED = ("featvis", "torch", "timm", "lightning", "numpy", "pillow")


def versions(packages: Sequence[str] = VERSIONED) -> dict[str, str]:
    """The versions of the packages that an image or a score depends on."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
