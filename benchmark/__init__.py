"""The harness: suites, records, tables, figures, the page, and Weights & Biases.

From Python: `benchmark.evaluate(folder, net)` scores a folder of pictures (`benchmark.evaluation`).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmark.evaluation import evaluate as evaluate


def __getattr__(name: str) -> Any:
    # Imported when it is asked for: commands answer before torch is there.
    if name == "evaluate":
        return importlib.import_module("benchmark.evaluation").evaluate
    raise AttributeError(f"module benchmark has no attribute {name}")
