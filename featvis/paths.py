"""Where the shipped files lie: configs (beside the packages in a checkout, inside the package once installed), assets."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parent
CONFIGS = next((p for p in (PACKAGE.parent / "configs", PACKAGE / "configs") if p.is_dir()), PACKAGE / "configs")
ASSETS = PACKAGE / "assets"
