"""Where the project and the shared real images and weights lie."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("FEATVIS_SHARED", ROOT.parent / "shared"))
