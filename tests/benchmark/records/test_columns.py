"""The list of all metrics, and a new one in three places: a function, its class, a line of `columns`."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image

from benchmark.cli import main
from benchmark.records import columns
from benchmark.records.columns import COLUMNS, Column, column_of, wanted
from benchmark.records.record import load_all
from benchmark.report import figures, report
from benchmark.report.tables import frame
from featvis.errors import UserError
from featvis.metrics import (
    ClipDistance,
    DeadShare,
    ExcessActivation,
    FrechetDistance,
    Identification,
    KernelDistance,
    LogitMagnitude,
    Plausibility,
    SeedDiversity,
    SpectrumDeviation,
    SphereDistance,
    Transferability,
    TransferPercentile,
    TwoAlternatives,
    ZeroShot,
)

MINE = '''
import torch
from featvis.metrics import PerImage


def brightness(canvas):
    """Mean of each canvas, (n,)."""
    return canvas.double().mean((1, 2, 3))


class Brightness(PerImage):
    """Mean brightness of the images, 0 to 1."""

    higher_is_better = True

    def __init__(self, **kwargs):
        super().__init__("Mean of all values of an image; mean over the images.", **kwargs)

    def update(self, canvas):
        self.values.append(brightness(canvas))
'''
LINE = Column(
    "brightness", "brightness", "Brightness", True, "0 to 1", evaluator="metric", metric="my_metrics.Brightness",
    reads=("canvas",),
)  # fmt: skip


def test_a_new_metric_is_in_the_table_the_csv_the_figure_and_the_page(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_metrics.py").write_text(MINE)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.setattr(columns, "COLUMNS", (*COLUMNS, LINE))
    rng, means = np.random.default_rng(0), []
    (tmp_path / "pictures").mkdir()
    for name, size in (("301", (60, 80)), ("323", (50, 50))):
        pixels = rng.integers(0, 120, (*size, 3), dtype=np.uint8)
        means.append(pixels.mean() / 255)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{name}.png")
    one = ["--model", "efficientnet_lite0", "--classifiers", "efficientnet_lite0", "--frechet", "efficientnet_lite0"]
    assert main(["evaluate", "pictures", *one, "--metrics", "brightness,logit", "--out", "out"]) == 0
    assert "Brightness ↑" in capsys.readouterr().out
    report.everything(tmp_path / "out")
    found = {r.method: r for r in load_all(tmp_path / "out" / "records")}
    assert {m.name for m in found["pictures"].metrics} == {"brightness", "logit"}
    value = found["pictures"].metric("brightness")
    assert value.value == pytest.approx(np.mean(means), rel=1e-6)
    assert value.n == 2
    assert "the reference keeps no canvas" in found["real"].metric("brightness").absent
    table = tmp_path / "out" / "tables" / "evaluate" / "efficientnet_lite0"
    assert "Brightness ↑" in table.with_suffix(".md").read_text()
    assert "Unit: 0 to 1; higher is better" in table.with_suffix(".md").read_text()
    assert "brightness" in table.with_suffix(".csv").read_text()
    assert "Brightness" in (tmp_path / "out" / "index.html").read_text()
    drawn = figures._scores(frame(found.values()), "title")
    assert "Brightness ↑" in [axis.get_title() for axis in drawn.axes]


def test_names_headings_and_groups_are_told_apart():
    assert column_of("frechet_efficientnet_lite1").group == "frechet"
    assert column_of("plausibility").heading == "Plausibility"
    assert column_of("plausibility_flat").heading == "Plausibility, raw flat"
    assert column_of("nothing") is None
    names = [c.name for c in COLUMNS]
    assert len(set(names)) == len(names)
    # No measurement may be of two columns.
    for name in [c.name.replace("{network}", "x").replace("{layer}", "x").replace("{concept}", "1") for c in COLUMNS]:
        assert sum(c.fits(name) for c in COLUMNS) == 1, name


def test_the_directions_are_those_of_the_metric_classes():
    classes = {
        "plausibility": Plausibility, "frechet": FrechetDistance, "kernel": KernelDistance, "fid": FrechetDistance,
        "fd": FrechetDistance, "kd": KernelDistance, "cmmd": ClipDistance, "clip": ZeroShot,
        "kid": KernelDistance, "logit": LogitMagnitude, "top1": Transferability, "spectrum": SpectrumDeviation,
        "identification": Identification, "afc": TwoAlternatives, "excess": ExcessActivation, "dead": DeadShare,
        "transfer": TransferPercentile, "diversity": SeedDiversity, "sphere": SphereDistance,
    }  # fmt: skip
    scored = [c for c in COLUMNS if c.evaluator]
    assert {c.name.split("_")[0] for c in scored} == set(classes)
    for column in scored:
        assert column.higher_is_better == classes[column.name.split("_")[0]].higher_is_better, column.name


def test_what_a_suite_asks_for():
    assert [c.name for c in wanted(["logit", "kid"])] == ["kid", "logit"]
    assert {c.name for c in wanted(["frechet"])} == {"fid", "kid", "frechet_{network}", "kernel_{network}"}
    assert {c.name for c in wanted(["clip"])} == {"cmmd", "clip_top1", "clip_top5"}
    assert wanted([]) == [c for c in COLUMNS if c.evaluator]
    with pytest.raises(UserError, match=r"--metrics plausibilty: there is no such metric; did you mean .*plausibility"):
        columns.check(["plausibilty"], "--metrics")


def test_a_group_is_read_in_one_unit():
    """Tables turn fractions into percent by the group of a column."""
    for group in columns.percent_groups():
        assert {c.percent for c in COLUMNS if c.group == group} == {True}, group
