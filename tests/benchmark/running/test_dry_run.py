"""What a dry run times, and what follows from it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmark.running.dry_run import timing
from featvis.networks.units import LOGITS, Unit

UNITS = [Unit(LOGITS, index, str(index)) for index in range(4)]


class Timed:
    """A generator whose step of a batch takes a quarter of a second."""

    views, together = 2, None

    def __init__(self, steps: int) -> None:
        self.steps, self.calls = steps, []

    def to(self, device):
        return self

    def predict_step(self, batch):
        self.calls.append((self.steps, len(batch)))
        return SimpleNamespace(seconds=0.25 * self.steps)


def cell(method, steps, class_path="featvis.generators.MACO", missing=("0", "1", "2", "3"), folder=None):
    init_args = {"model": "efficientnet_lite0", "steps": steps, "views": 2}
    generator = Timed(steps)
    return SimpleNamespace(
        method=method,
        generator=generator,
        class_path=class_path,
        init_args=init_args,
        missing=list(missing),
        folder=Path(folder or method),
    )


def test_cells_that_differ_in_steps_alone_are_timed_once():
    short, long = cell("short", 10), cell("long", 1000)
    other, done = cell("other", 10, "featvis.generators.CBR"), cell("done", 10, "featvis.generators.DAS", ())
    job = SimpleNamespace(cells=[short, long, other, done], units=UNITS, suite=SimpleNamespace(batch_size=2))
    table = {row["method"]: row for row in timing(job)}
    assert short.generator.calls == other.generator.calls == [(1, 2), (3, 2)]
    assert long.generator.calls == done.generator.calls == []
    assert short.generator.steps == 10
    assert table["short"]["seconds"] == pytest.approx(0.25 / 2 * 10 * 4)
    assert table["long"]["seconds"] == pytest.approx(100 * table["short"]["seconds"])
    assert table["long"]["passes"] == 1000 * 2 * 4
    assert table["done"]["seconds"] == 0


def test_rows_that_share_their_images_cost_them_once():
    rows = [cell("over grey", 10, folder="shared"), cell("plain", 10, folder="shared")]
    table = timing(SimpleNamespace(cells=rows, units=UNITS, suite=SimpleNamespace(batch_size=2)))
    assert [(row["images"], row["passes"]) for row in table] == [(4, 10 * 2 * 4), (0, 0)]
    assert table[1]["seconds"] == 0
