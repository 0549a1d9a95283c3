"""Anyone's folder of pictures: what is left out of it is said, and what is written beside it becomes none of it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from tiny import network
from torch import nn

from benchmark.checks import check_apart
from benchmark.evaluation import evaluate
from benchmark.scoring import folders
from benchmark.scoring.plan import Sources
from featvis.data.files import digest
from featvis.errors import UserError
from featvis.networks.own.modules import classifier_of
from featvis.networks.units import parse_units
from featvis.storage.locks import held


def pictures(folder, *names):
    rng = np.random.default_rng(0)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(folder / name)


def test_a_folder_is_not_scored_into_one_that_another_process_holds(tmp_path, monkeypatch):
    plan, begun = SimpleNamespace(out=str(tmp_path / "out")), []
    monkeypatch.setattr(folders, "folder_plan", lambda *args, **options: (plan, []))
    monkeypatch.setattr(folders, "_scores", lambda *args: begun.append(args) or ["a record"])
    with held(tmp_path / "out"), pytest.raises(UserError, match=r"--out .*out is in use .* name another folder"):
        folders.evaluate_folder(tmp_path, None, None)
    assert begun == []
    assert folders.evaluate_folder(tmp_path, None, None) == (plan, ["a record"])


def test_out_lies_outside_of_the_pictures(tmp_path, monkeypatch):
    pictures(tmp_path / "seen", "1.png")
    monkeypatch.chdir(tmp_path / "seen")
    sentence = r"--out runs/evaluate lies in FOLDER \..*; name a folder elsewhere with --out"
    with pytest.raises(UserError, match=sentence):
        evaluate(".", None, metrics=["logit"])
    for out in ("../seen", "../seen/new/out", tmp_path / "seen" / "out"):
        with pytest.raises(UserError, match="lies in FOLDER"):
            check_apart("../seen", str(out))
    for out in ("../seen-out", "..", "../out"):
        check_apart(".", out)


def test_lines_and_pictures_that_a_table_of_units_does_not_bring_together_are_named(tmp_path, capsys):
    pictures(tmp_path, "a.png", "b.png", "sub/7.png", "sub/8.png")
    table, target = tmp_path / folders.TABLE, network()
    table.write_text("file,unit\na.png,cat\nb.png,dog\nsub/7.png,fox\nsub/8.png,owl\n")
    assert len(folders._units_of(tmp_path, target)) == 4
    assert capsys.readouterr().err == ""
    table.write_text("./a.png,cat\nb.png,dog\nsub\\7.png,fox\nsub/8.png\n")
    assert [path.name for path in folders._units_of(tmp_path, target)] == ["b.png"]
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert f"2 lines of units.csv name no image of {tmp_path} (./a.png is one) and are left out" in said[0]
    assert "3 images without a unit in units.csv are left out (a.png is one)" in said[1]


def test_pictures_that_featvis_named_itself_are_of_the_classes_that_they_were_made_of(tmp_path):
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2000))
    target = classifier_of(net, mean=0.5, std=0.5, input_size=16)
    units = parse_units("2,5,301,1234@0-3,1999@1", target)
    pictures(tmp_path, *(f"{unit.id}.png" for unit in units))
    options = {"out": str(tmp_path / "out"), "suite": "evaluate", "classifiers": [], "frechet": None, "data": None}
    plan, found = folders.folder_plan(tmp_path, target, Sources(), metrics=["logit"], **options)
    # By the files' digests, whatever order they are found in.
    labels = {digest(tmp_path / f"{unit.id}.png"): unit.index for unit in units}
    assert {picture.digest: picture.label for picture in found} == labels
    assert sorted(plan.units) == sorted(["2", "5", "301", "1234", "1234@1", "1234@2", "1234@3", "1999"])
