"""Several cells one after the other in one process: Python and the network are loaded once.

`python -m benchmark.running.cells a.yaml "what to say" b.yaml ...`: configurations as `featvis generate --config` takes
them. As each ends its exit code is left beside it, in `a.code`: a cell without one was not done, or killed.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from benchmark import launch
from benchmark.running.generate import main as generate
from featvis.errors import UserError, full_disk
from featvis.networks.classifier import Classifier
from featvis.storage import images


def main(arguments: Sequence[str]) -> int:
    """Generate each cell, whatever became of the one before; 0, for what matters are the codes left behind."""
    networks: dict[str, Classifier] = {}
    for path, said in zip(arguments[::2], arguments[1::2], strict=True):
        print(said, flush=True)
        code = _one(path, networks)
        images.write_atomic(Path(path).with_suffix(".code"), str(code).encode())
    return 0


def _one(path: str, networks: dict[str, Classifier]) -> int:
    try:
        return generate(["--config", path], networks)
    except UserError as error:
        print(f"featvis: {error}", file=sys.stderr, flush=True)
    except Exception as error:  # a cell that fails must not take the others with it
        if (text := full_disk(error)) is not None:
            print(f"featvis: {text}", file=sys.stderr, flush=True)
        else:
            traceback.print_exc()
    return 1


if __name__ == "__main__":
    launch.end(lambda: main(sys.argv[1:]))
