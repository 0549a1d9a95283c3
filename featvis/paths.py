"""Where the shipped files lie: assets, and configs (beside the packages in a checkout, else inside the package)."""

from __future__ import annotations

import sys
from pathlib import Path

PACKAGE = Path(__file__).parent
CONFIGS = next((p for p in (PACKAGE.parent / "configs", PACKAGE / "configs") if p.is_dir()), PACKAGE / "configs")
ASSETS = PACKAGE / "assets"


def importable(folder: Path) -> None:
    """Let Python import what lies in a folder, after everything else: a file there cannot stand in for a library's."""
    path = str(folder.absolute())
    if path not in sys.path:
        sys.path.append(path)
