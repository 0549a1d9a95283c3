"""Plans, and what earlier versions left behind: read, or refused in one sentence that names the version."""

from __future__ import annotations

import dataclasses
import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sample_records import TOP1, metric, record

from benchmark.running import runner
from benchmark.scoring import evaluate, recording
from benchmark.scoring.evaluate import read_plan, record_path
from benchmark.scoring.plan import Plan, Row
from benchmark.suites.suite import Suite
from featvis import __version__
from featvis.errors import UserError
from featvis.generators.arguments import public_path
from featvis.metrics import Transferability
from featvis.storage import images

PLAN = Plan(
    out="out", suite="quick", model="vit", classifiers=[], frechet="vit", data=None, seed=0, units=["301"],
    labels=["ladybug"], canvas=[64, 64], rows=[Row("real", "real"), Row("maco", folder="a")],
)  # fmt: skip


def test_a_plan_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(dataclasses.asdict(PLAN)))
    assert read_plan(path) == PLAN


def test_a_plan_of_another_version_is_refused_by_its_name(tmp_path):
    path = tmp_path / "plan.json"
    before = dataclasses.asdict(PLAN)
    del before["version"]
    for row in before["rows"]:
        del row["kind"]
    path.write_text(json.dumps(before))
    with pytest.raises(UserError, match=rf"plan of featvis before 0.2, and this is {__version__}; start the run again"):
        read_plan(path)
    path.write_text(json.dumps(dataclasses.asdict(PLAN) | {"version": "9.9"}))
    with pytest.raises(UserError, match="plan of featvis 9.9"):
        read_plan(path)
    for text in ("half a fi", "[]", json.dumps(dataclasses.asdict(PLAN) | {"more": 1})):
        path.write_text(text)
        with pytest.raises(UserError, match="is no plan of a run"):
            read_plan(path)


def test_a_runs_folder_of_another_version_is_refused_by_its_name(tmp_path):
    theirs = record("maco", config_hash="0" * 12, versions={"featvis": "0.1.0"})
    theirs.write(theirs.record_path(tmp_path))
    cell = SimpleNamespace(method="maco", generator=SimpleNamespace(config_hash=lambda device: "1" * 12))
    job = SimpleNamespace(
        out=tmp_path, suite=Suite("flexivit", "301", {"maco": {}}), classifier=SimpleNamespace(alias=theirs.alias),
        cells=[cell],
    )  # fmt: skip
    with pytest.raises(UserError, match=r"another configuration \(0{12}, made by featvis 0.1.0\); name another folder"):
        runner.check_claim(job)
    cell.generator.config_hash = lambda device: "0" * 12
    runner.check_claim(job)


def test_a_row_whose_images_were_made_anew_is_scored_again_only_where_they_are_others(tmp_path, monkeypatch):
    grey = np.full((4, 4, 3), 99, np.uint8)
    folder, row = tmp_path / "vit" / "maco", Row("maco", folder="vit/maco")
    plan = dataclasses.replace(PLAN, out=str(tmp_path), rows=[row], units=["301", "323"])
    paths = [folder / f"{unit}.png" for unit in plan.units]
    for path in paths:
        images.write(path, grey, grey[..., 0], {})
    done = record(
        "maco", units=tuple(plan.units), images="vit/maco", n=2, images_sha256=images.pixels_hash(paths),
        config_hash=None, config={"evaluation": recording.definition(plan, row)}, alias="vit",
    )  # fmt: skip
    done.write(record_path(plan, row))
    written = record_path(plan, row).stat().st_mtime_ns
    digest, read = images.pixels_hash, []
    monkeypatch.setattr(images, "pixels_hash", lambda made: read.append(made) or digest(made))

    def scored(value: int, since: int) -> bool:
        images.write(paths[0], np.full_like(grey, value), grey[..., 0], {})
        os.utime(paths[0], ns=(written, written + since))
        return evaluate.scored(plan, row)

    os.utime(paths[1], ns=(written, written))
    assert scored(99, 0)
    assert read == [], "what was there all the time is not read again"
    assert scored(99, 10**9)
    assert not scored(98, 10**9)
    paths[0].write_bytes(b"cut off")
    assert not evaluate.scored(plan, row)
    paths[0].unlink()
    assert not evaluate.scored(plan, row), "nor is a row done that lacks one"


def test_class_paths_of_before_the_modules_moved_are_known():
    for before in ("featvis.generators.maco.MACO", "featvis.generators.MACO"):
        assert public_path(before) == "featvis.generators.MACO"
    assert public_path("featvis.attacks.Attack") == "featvis.generators.Attack"
    assert public_path("featvis.inversion.Inversion") == "featvis.generators.Inversion"
    assert public_path("my_file.Mine") == "my_file.Mine"


def test_a_record_of_what_was_scored_over_grey_does_not_say_without_transparency():
    scored = [metric(TOP1, 0.5, definition={"text": Transferability("vgg16.tv_in1k").text, "classifier": "vgg16"})]
    network = SimpleNamespace(name="vit", alias="vit", given="vit", device=torch.device("cpu"))
    rows = (Row("maco", "generated", transparency=True), Row("maco_no_transparency", "generated"))
    texts = [recording.of_row(PLAN, row, network, metrics=scored, n=2).metrics[0].definition["text"] for row in rows]
    assert ["over a middle grey by its transparency" in text for text in texts] == [True, False]
    assert ["without transparency" in text for text in texts] == [False, True]


def test_a_record_says_where_its_images_were_made_not_where_they_are_scored():
    timings = [{"device": "one (bfloat16)"}, {"device": "another (bfloat16)"}, {"device": "one (bfloat16)"}, {}]
    assert recording.made_on(timings) == "another (bfloat16) and one (bfloat16)"
    assert recording.made_on([{"seconds": 1.0}]) is None


def test_weights_of_ones_own_network_are_said_with_how_it_is_made():
    networks = {"vit": SimpleNamespace(alias="vit", weights_hash="0a", setting={"setting": "1b"})}
    assert recording.weights_of(PLAN, networks, {}) == {"vit": "0a-1b"}
    networks["vit"].setting = {}
    assert recording.weights_of(PLAN, networks, {}) == {"vit": "0a"}, "as records of timm's networks have it"


@pytest.mark.parametrize(("error", "traces"), [(TypeError("a mistake"), 1), (UserError("a wish"), 0), (OSError(), 0)])
def test_a_row_that_cannot_be_scored_leaves_the_place_of_a_mistake(tmp_path, monkeypatch, capsys, error, traces):
    failed = record("maco", status="failed", error="a mistake")

    def score(*args):
        raise error

    monkeypatch.setattr(evaluate, "Scorer", lambda *args: SimpleNamespace(networks={}, target=None))
    monkeypatch.setattr(evaluate, "flat_distances", lambda *args: {})
    monkeypatch.setattr(evaluate, "evaluate_row", score)
    monkeypatch.setattr(evaluate, "of_row", lambda *args, error: failed)
    assert evaluate.evaluate(dataclasses.replace(PLAN, out=str(tmp_path), rows=PLAN.rows[1:])) == 1
    said = capsys.readouterr().err
    assert "maco cannot be scored" in said
    assert said.count("Traceback") == traces


@pytest.mark.parametrize("code", [0, 1])
def test_a_ranks_plan_does_not_outlive_the_process_that_reads_it(tmp_path, monkeypatch, code):
    monkeypatch.setattr(runner.references, "passes", lambda plan: [SimpleNamespace(kind="nearest")])
    monkeypatch.setattr(runner.references, "make", lambda tasks, devices: None)
    monkeypatch.setattr(runner.launch, "call", lambda arguments, alone=False: code)
    monkeypatch.setattr(runner.scoring, "evaluate", lambda *args: 0)
    monkeypatch.setattr(runner, "log_scores", lambda plan: None)
    job = SimpleNamespace(plan=PLAN, out=tmp_path, classifier=SimpleNamespace(alias="vit"), sources=None, networks={})
    assert runner.evaluate(job, devices=2) == code
    assert list(tmp_path.rglob("plan-*.json")) == []
