"""What scoring units costs once the features are there: `python -m benchmark.perf.scores`; prints a Markdown table.

Features and activations are random numbers in files, as the passes over real images leave them, so that neither
networks nor images are needed. Memory is what scoring takes of its own beyond what the process held before, at its
peak; pages of mapped files, which the system takes back when it needs them, are not counted. Linux alone says it.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from tabulate import tabulate

from benchmark import launch
from benchmark.scoring.evaluators.units import Observer
from featvis.data import sweep
from featvis.data.gallery import Rows, excited
from featvis.data.reference import CHUNK
from featvis.metrics.resampling import prepare
from featvis.networks.names import family


def pool(folder: Path, images: int, units: int, width: int) -> tuple[Rows, Rows]:
    """A gallery and the activations of so many images, in files."""
    facts = {"kind": "random"}
    found: dict[str, list[dict[str, torch.Tensor]]] = {"gallery": [], "activations": []}
    for i, chunk in enumerate(sweep.chunks(range(images), CHUNK)):
        stream, n = torch.Generator().manual_seed(i), len(chunk.rows)
        about = {
            "rows": torch.tensor(chunk.rows), "labels": torch.arange(n) % 1000, "own": torch.rand(n).double(),
            "digests": torch.arange(n) + 1 + i * CHUNK,
        }  # fmt: skip
        seen = {key: torch.randn(n, width, generator=stream).half() for key in ("pooled", "middle")}
        said = {"activations": torch.randn(n, units, generator=stream)}
        for name, more in (("gallery", seen), ("activations", said)):
            sweep.write(folder / name, chunk, about | more, facts, [])
            read = sweep.read(folder / name / f"{chunk.name}.safetensors", facts, check=False)
            assert read is not None
            found[name].append(read[0])
    return Rows(tuple(found["gallery"])), Rows(tuple(found["activations"]))


def one(images: int, units: int, width: int) -> tuple[float, float]:
    """Seconds that the scores of one observer take, and MiB beyond what was held before."""
    with tempfile.TemporaryDirectory() as name:
        gallery, activations = pool(Path(name), images, units, width)
        prepare()
        with Peak() as peak:
            seconds = score(gallery, activations, units, width)
    return seconds, peak.most - peak.before


def score(gallery: Rows, activations: Rows, units: int, width: int) -> float:
    """Seconds of all scores that need an observer."""
    start = time.monotonic()
    natural: Any = SimpleNamespace(
        excited=[excited(activations.column("activations", u)) for u in range(units)],
        digests=activations.all("digests"), labels=activations.all("labels"), slopes={},
            units=[SimpleNamespace(layer=f"layer {u % 4}") for u in range(units)],
        groups=torch.arange(units) % 4, late=torch.arange(units) % 4 == 0,
    )  # fmt: skip
    pictures: Any = [SimpleNamespace(label=u % 1000) for u in range(units)]
    seen: Any = SimpleNamespace(ids=torch.zeros(units, dtype=torch.long), pictures=pictures)
    stream = torch.Generator().manual_seed(0)
    features = {key: torch.randn(units, width, generator=stream) for key in ("pooled", "middle")}
    features["logits"] = torch.randn(units, 1000, generator=stream)
    observer = Observer(natural, gallery, seen, torch.arange(units), features)
    facts: dict[str, Any] = {}
    observer.identification("identification_random", "random", facts)
    observer.choices("random", "random", facts)
    observer.percentile("transfer_percentile_random", "random", facts, seen, family("random"))
    observer.diversity("diversity_random", "random", facts)
    return time.monotonic() - start


class Peak(threading.Thread):
    """Watches the memory of this process while it is entered."""

    def __enter__(self) -> Peak:
        self.before = self.most = own_memory()
        self.over = threading.Event()
        self.start()
        return self

    def run(self) -> None:
        """Look again and again."""
        while not self.over.wait(0.005):
            self.most = max(self.most, own_memory())

    def __exit__(self, *error: object) -> None:
        self.over.set()
        self.join()


def own_memory() -> float:
    """MiB of this process that are no file's; NaN where the system does not say it."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return math.nan
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("RssAnon")), math.nan)


def main(words: Sequence[str]) -> int:
    """Time pools of several sizes, each in a process of its own, so that none sees another's memory."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.perf.scores", description=__doc__)
    parser.add_argument("--images", default="1000,10000,50000", help="real images, sizes separated by commas")
    parser.add_argument("--units", type=int, default=500, help="of the target")
    parser.add_argument("--width", type=int, default=1280, help="of an observer's features")
    parser.add_argument("--one", type=int, default=0, help=argparse.SUPPRESS)
    flags = parser.parse_args(words)
    if flags.one:
        seconds, memory = one(flags.one, flags.units, flags.width)
        print(f"{seconds:.2f} {memory:.0f}", flush=True)
        return 0
    rows = []
    for images in (int(n) for n in flags.images.split(",")):
        options = ["--units", str(flags.units), "--width", str(flags.width), "--one", str(images)]
        command = [sys.executable, "-m", "benchmark.perf.scores", *options]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        rows.append([images, flags.units, flags.width, *said.split()[-2:]])
    head = ["real images", "units", "features", "seconds an observer", "MiB"]
    print(tabulate(rows, head, tablefmt="github"))
    return 0


if __name__ == "__main__":
    launch.end(lambda: main(sys.argv[1:]))
