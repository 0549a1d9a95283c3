"""What a run costs beside the work itself: processes, networks loaded, image sets listed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import put

from benchmark import launch
from benchmark.cli import main
from benchmark.records.record import Record
from benchmark.running import cells, generate
from featvis.data.sets import FolderImages
from featvis.networks.classifier import Classifier

pytestmark = pytest.mark.usefixtures("plain_engine")


@pytest.fixture
def counted(monkeypatch):
    """Counts of (process, what) while a run goes on in this process, and those that it starts in it too, in turn."""
    process, loads, listings = [0], Counter[tuple[int, str]](), Counter[str]()
    load, listing = Classifier.__init__, FolderImages.__init__

    def loaded(self, net, spec, *args, **kwargs):
        loads[process[0], spec.alias] += 1
        load(self, net, spec, *args, **kwargs)

    def listed(self, folder, *args, **kwargs):
        listings[str(folder)] += 1
        listing(self, folder, *args, **kwargs)

    def call(arguments, alone=False):
        process[0] += 1
        here, process[0] = process[0], process[0]
        work = {"benchmark.running.cells": cells.main, "benchmark": lambda given: generate.main(list(given[1:]))}
        try:
            return work[arguments[1]](arguments[2:])
        finally:
            process.append(here)
            process[0] = 0

    monkeypatch.setattr(Classifier, "__init__", loaded)
    monkeypatch.setattr(FolderImages, "__init__", listed)
    monkeypatch.setattr(launch, "call", call)
    return process, loads, listings


def put_down(folder: Path, seed: int = 0) -> None:
    """Real images of two classes."""
    rng = np.random.default_rng(seed)
    for i, name in enumerate(("301", "323", "301", "323", "301")):
        path = folder / name / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)).resize((96, 96)).save(path)


@pytest.mark.parametrize("given", ["one set for all", "two sets"])
def test_networks_are_loaded_once_a_process_and_image_sets_listed_once(tmp_path, monkeypatch, counted, given):
    monkeypatch.chdir(tmp_path)
    put_down(tmp_path / "data")
    put_down(tmp_path / "val", seed=1)
    sets = ["--data", "data"] + (["--frechet-data", "val"] if given == "two sets" else [])
    monkeypatch.setenv("FEATVIS_WEIGHTS", str(put(tmp_path / "weights", "test_resnet", "test_efficientnet")))
    (tmp_path / "small.yaml").write_text(
        "model: test_resnet\nunits: 301,323\nmethods: [maco, fourier]\n"
        "classifiers: [test_efficientnet]\nfrechet: test_efficientnet\n"
    )
    small = ["--suite", "small.yaml", "--steps", "1", "--crops", "1", "--canvas", "48", "--wandb", "disabled"]
    assert main(["run", *small, *sets, "--out", "out"]) == 0
    process, loads, listings = counted
    assert process[1:] == [1], "one process makes the images of all methods, and this one scores them"
    assert max(loads.values()) == 1, loads
    assert {name for at, name in loads if at == 0} == {"test_resnet", "test_efficientnet"}
    assert {name for at, name in loads if at == 1} == {"test_resnet"}, "a judge is no business of generating"
    assert listings == ({"data": 1} if given == "one set for all" else {"data": 1, "val": 1})


def test_a_cell_that_left_no_code_is_not_done(tmp_path, monkeypatch, capsys):
    """Whatever the process that should have made it says."""
    monkeypatch.chdir(tmp_path)
    asked = []
    monkeypatch.setattr(launch, "call", lambda arguments, alone=False: asked.append(arguments[1]) or 0)
    small = ["--units", "301", "--steps", "1", "--crops", "1", "--canvas", "48", "--wandb", "disabled"]
    (tmp_path / "small.yaml").write_text(
        "model: efficientnet_lite0\nunits: '301'\nclassifiers: []\nmetrics: [spectrum]\n"
        "methods: {maco: {}, fourier: {}, cbr: {}}\n"
    )
    assert main(["run", "--suite", "small.yaml", *small, "--out", "out"]) == 1
    said = capsys.readouterr().err
    assert asked == ["benchmark.running.cells"] * 2 + ["benchmark"], "the other cells are tried all the same"
    assert all(f"{method} failed" in said for method in ("maco", "fourier"))
    found = [Record.read(path) for path in (tmp_path / "out" / "records").rglob("*.json")]
    assert {r.method: r.status for r in found if r.budget} == dict.fromkeys(("maco", "fourier", "cbr"), "failed")


def test_a_path_may_hold_an_equals_sign(tmp_path, monkeypatch, capsys):
    given = []
    monkeypatch.setattr(cells, "generate", lambda arguments, networks: given.append(arguments[1]) or 0)
    paths = [str(tmp_path / "a=b" / f"{i}.yaml") for i in range(2)]
    assert cells.main([paths[0], "one = first", paths[1], "two"]) == 0
    assert given == paths
    assert capsys.readouterr().out == "one = first\ntwo\n"
    assert sorted(p.name for p in (tmp_path / "a=b").iterdir()) == ["0.code", "1.code"]


def test_a_pass_over_real_images_that_fails_ends_a_run_with_1(tmp_path, monkeypatch, capsys):
    """The images were made, so that it is no bad input with nothing written (2)."""
    monkeypatch.chdir(tmp_path)
    put_down(tmp_path / "data")
    monkeypatch.setenv("FEATVIS_WEIGHTS", str(put(tmp_path / "weights", "test_resnet")))
    asked = []

    def call(arguments, alone=False):
        asked.append(arguments[1])
        if arguments[1] == "benchmark":
            return generate.main([*arguments[3:], "--trainer.devices", "1", "--trainer.strategy", "auto"])
        return 1  # as on a disk without room, which the pass has said

    monkeypatch.setattr(launch, "call", call)
    (tmp_path / "small.yaml").write_text(
        "model: test_resnet\nunits: '301'\nmethods: [fourier]\nclassifiers: []\nfrechet: test_resnet\n"
    )
    small = ["--suite", "small.yaml", "--steps", "1", "--crops", "1", "--canvas", "48", "--wandb", "disabled"]
    assert main(["run", *small, "--data", "data", "--devices", "2", "--out", "out"]) == 1
    assert asked == ["benchmark", "benchmark.scoring.references"]
    assert len(list((tmp_path / "out").rglob("301.png"))) == 1
    assert "featvis: the pass over data ended with exit code 1; its message stands above" in capsys.readouterr().err
