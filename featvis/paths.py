"""Where the shipped files lie: assets, and configs (beside the packages in a checkout, else inside the package)."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parent
CONFIGS = next((p for p in (PACKAGE.parent / "configs", PACKAGE / "configs") if p.is_dir()), PACKAGE / "configs")
ASSETS = PACKAGE / "assets"
