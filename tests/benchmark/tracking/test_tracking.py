"""What is logged to Weights & Biases: written offline, read back from W&B's own files, compared with the records."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from commands import ROOT
from PIL import Image
from sample_records import TOP1, metric, record, write_images
from wandb_files import Written, settle, written

from benchmark import tracking
from benchmark.arguments import wandb_mode
from benchmark.records.record import Record
from benchmark.running import runner
from benchmark.scoring import evaluate
from benchmark.scoring.plan import Plan, Row
from benchmark.tracking import records as rows
from benchmark.tracking import runs as sessions
from featvis.errors import UserError
from featvis.storage import images

UNITS = ("301", "323", "blocks.4-7")


@pytest.fixture(autouse=True)
def _own_settings(tmp_path, monkeypatch):
    settle(monkeypatch, tmp_path)


def suite(out: Path, **changes: Any) -> tuple[Plan, list[Record]]:
    """A scored suite of made-up records on disk: two methods, one of which lacks an image, and the references."""
    found = [
        record("real", metric("logit", 10.0, 1.0), metric(TOP1, 1.0, 0.0), units=UNITS),
        record("maco", metric("logit", 14.5, 0.5), metric("fid", None), metric(TOP1, 0.75, 0.25), units=UNITS),
        record("fourier", metric("logit", 53.5), metric(TOP1, 0.5, 0.5), units=UNITS, seconds_per_image=7.5),
        record("noise", metric("logit", -0.25, 0.125), units=UNITS),
    ]
    random = np.random.default_rng(0)
    for r in found:
        r.write(r.record_path(out))
        for i, unit in enumerate(UNITS if r.images else ()):
            facts = {"logit": 2.5 + i, "activation": 2.5 + i} if r.method == "maco" else {"label": "x"}
            pixels = random.integers(0, 256, (24, 32, 4), dtype=np.uint8)
            images.write(out / str(r.images) / f"{unit}.png", pixels[..., :3], pixels[..., 3], facts)
    (out / str(found[2].images) / "323.png").unlink()
    given: dict[str, Any] = {
        "out": str(out), "suite": "quick", "model": "flexivit", "classifiers": [], "frechet": "x", "data": None,
        "seed": 0, "units": list(UNITS), "labels": list(found[0].labels), "canvas": [24, 32],
        "rows": [Row(r.method) for r in found], "wandb": "offline",
    }  # fmt: skip
    return Plan(**given | changes), found


@pytest.fixture(scope="module", autouse=True)
def _end_of_wandb():
    """W&B's process and thread must not outlive these tests."""
    import wandb

    yield
    wandb.teardown()


@pytest.fixture(scope="module")
def logged(tmp_path_factory) -> tuple[Path, list[Record], dict[str, list[Written]]]:
    """A suite that is logged twice, as a run that was killed and went on."""
    out = tmp_path_factory.mktemp("logged")
    with pytest.MonkeyPatch.context() as patch:
        settle(patch, out)
        patch.delenv("WANDB_DATA_DIR")  # `start` sets it
        plan, found = suite(out)
        tracking.log_scores(plan)
        tracking.log_scores(plan, limit=2)
    return out, found, written(out)


def test_each_row_is_a_run_of_the_suites_group(logged):
    _, found, runs = logged
    assert set(runs) == {"flexivit/table", *(f"flexivit/{r.method}" for r in found)}
    for name, (first, second) in runs.items():
        kind = "table" if name.endswith("/table") else "score"
        for part in (first, second):
            assert (part.run.project, part.run.run_group, part.run.job_type) == ("featvis", "quick", kind)
            assert list(part.run.tags) == ["quick", *name.split("/")]
            assert part.all("exit")[0].exit_code == 0
            assert part.run.resume, "wandb sync must go on with it"


def test_a_resumed_run_keeps_its_id_and_no_other_run_has_it(logged, tmp_path):
    out, _, runs = logged
    for first, second in runs.values():
        assert first.path != second.path
        assert first.run.run_id == second.run.run_id
    ids = {parts[0].run.run_id for parts in runs.values()}
    assert len(ids) == len(runs)
    arguments = ("quick", "flexivit/maco", "score", "0123456789ab")
    assert sessions.run_id(out / "flexivit", *arguments) == runs["flexivit/maco"][0].run.run_id
    others = [sessions.run_id(tmp_path / folder, *arguments) for folder in ("a", "b", "a")]
    assert others[0] == others[2]
    assert len({*others, *ids}) == len(ids) + 2
    (tmp_path / "a" / "wandb.json").write_text("half a fi")
    assert sessions.run_id(tmp_path / "a", *arguments) == sessions.run_id(tmp_path / "a", *arguments) != others[0]


def test_the_summary_is_the_row_of_the_record(logged):
    _, found, runs = logged
    for r in found:
        summary = runs[f"flexivit/{r.method}"][1].values("summary")
        assert summary["n"] == r.n
        assert summary["seconds_per_image"] == r.seconds_per_image
        assert summary["passes_per_image"] == (r.budget.passes_per_image if r.budget else None)
        for m in r.metrics:
            assert summary[m.name] == m.value
            low, high = m.interval or (None, None)
            assert (summary[f"{m.name}/low"], summary[f"{m.name}/high"]) == (low, high)
    directions = {m.name: m.summary for m in runs["flexivit/maco"][0].all("metric")}
    assert {name: (d.min, d.max) for name, d in directions.items()} == {
        "logit": (False, True), TOP1: (False, True), "fid": (True, False),
    }  # fmt: skip


def test_a_row_that_failed_does_not_compete(tmp_path):
    _, found = suite(tmp_path)
    failed = replace(found[1], status="failed", error="unit 301 at step 3")
    rows._log_row("offline", tmp_path, failed)
    (run,) = written(tmp_path)["flexivit/maco"]
    assert run.values("summary")["logit"] is None
    assert run.values("config")["error"] == "unit 301 at step 3"


def test_the_config_says_what_was_run(logged):
    out, found, runs = logged
    config = runs["flexivit/maco"][0].values("config")
    plain = json.loads(json.dumps(found[1].to_dict()))
    for key in ("suite", "model", "method", "config", "config_hash", "units_hash", "budget", "git_commit", "versions"):
        assert config[key] == plain[key], key
    assert config["metrics"]["fid"] == {"label": "fid", "higher_is_better": False, "absent": "no weights"}
    first, second = (part.values("config") for part in runs["flexivit/table"])
    assert first["units"] == list(UNITS)
    assert first["pictures"] == "of the first 3 of 3 units"
    assert second["pictures"] == "of the first 2 of 3 units"
    assert str(out) not in json.dumps(first), "where things lie on this machine is nobody's business"


def test_the_pictures_stand_side_by_side_as_they_are_on_disk(logged):
    out, found, runs = logged
    files = runs["flexivit/table"][0].artifact("run_table")
    table = json.loads(files["visualizations.table.json"].read_text())
    columns = ["unit", "label", "maco", "maco/logit", "maco/activation", "fourier", "noise"]
    assert table["columns"] == columns
    assert [row[:2] for row in table["data"]] == [list(pair) for pair in zip(UNITS, found[0].labels, strict=True)]
    assert [row[3:5] for row in table["data"]] == [[2.5, 2.5], [3.5, 3.5], [4.5, 4.5]]
    for row in table["data"]:
        for column in ("maco", "fourier", "noise"):
            shown = row[columns.index(column)]
            if (column, row[0]) == ("fourier", "323"):
                assert shown is None, "this one was never made"
                continue
            assert shown["caption"] == f"{row[0]} {row[1]}"
            expected = out / "flexivit" / column / "0123456789ab" / f"{row[0]}.png"
            pixels = np.asarray(Image.open(files[shown["path"]]))
            assert np.array_equal(pixels, images.read(expected)[0])
    assert out in files["visualizations.table.json"].parents, "what waits to be sent lies in the run's folder"
    fewer = runs["flexivit/table"][1].artifact("run_table")
    assert len(json.loads(fewer["visualizations.table.json"].read_text())["data"]) == 2
    assert len([p for p in fewer if p.endswith(".png")]) == 5


def test_the_numbers_are_the_tables(logged):
    _, found, runs = logged
    run = runs["flexivit/table"][0]
    path = run.path.parent / "files" / run.values("history")["table", "path"]
    table = json.loads(path.read_text())
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    values = {(row["method"], row["metric"]): row["value"] for row in rows}
    for r in found:
        for m in r.metrics:
            assert values[r.method, m.name] == m.value


def test_the_artifact_holds_every_record(logged):
    _, found, runs = logged
    run = runs["flexivit/table"][0]
    assert {a.name for a in run.all("artifact") if a.type == "records"} == {"quick-flexivit-records"}
    files = run.artifact("records")
    assert set(files) == {f"{r.method}.json" for r in found}
    for r in found:
        assert Record.read(files[f"{r.method}.json"]) == r


def scored_again(out: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """What a run does of a suite that lacks a score, without its networks."""
    plan, found = suite(out)
    by_method = {r.method: r for r in found}
    monkeypatch.setattr(evaluate, "scored", lambda plan, row: False)
    monkeypatch.setattr(evaluate, "Scorer", lambda plan, *given: SimpleNamespace(networks=[]))
    monkeypatch.setattr(evaluate, "flat_distances", lambda *args: {})
    monkeypatch.setattr(evaluate, "evaluate_row", lambda plan, row, *args: by_method[row.method])
    job = SimpleNamespace(plan=plan, out=out, classifier=SimpleNamespace(alias=plan.model), sources=None, networks=None)
    return runner.evaluate(job, devices=1)


@pytest.mark.parametrize("what", ["disk", "network", "second start"])
def test_a_failure_is_one_sentence_and_changes_nothing(tmp_path, monkeypatch, capsys, what):
    import wandb

    def fail(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError("the line\nis dead")

    if what == "disk":
        # W&B's own error: there is no place for the files that wait to be sent.
        monkeypatch.setenv("WANDB_DATA_DIR", "/dev/null/x")
    elif what == "network":
        monkeypatch.setattr(wandb.Run, "finish", fail)
    else:
        begin, calls = wandb.init, []

        def once(**kwargs: Any) -> Any:
            calls.append(kwargs)
            return begin(**kwargs) if len(calls) == 1 else fail()

        monkeypatch.setattr(wandb, "init", once)
    assert scored_again(tmp_path, monkeypatch) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("featvis:")]
    assert len(lines) == 1, lines
    assert "table of flexivit is not logged to Weights & Biases any further: " in lines[0]


@pytest.mark.parametrize("what", ["records", "command", "generation"])
def test_a_run_that_cannot_start_is_one_sentence_and_changes_nothing(tmp_path, capsys, what):
    """By then there are records, or a batch that would be lost with the first cell."""
    (tmp_path / "flexivit" / "wandb.json").mkdir(parents=True)
    if what == "records":
        code = scored_again(tmp_path, pytest.MonkeyPatch())
        assert code == 0
    elif what == "command":
        (tmp_path / "wandb.json").mkdir()
        tracking.log_command("offline", tmp_path, "perf", "cpu", tracking.Content({}))
    else:
        (tmp_path / "cell" / "wandb.json").mkdir(parents=True)
        callback, trainer, generator = generation(tmp_path)
        callback.setup(trainer, generator, "predict")
        assert trainer.loggers == []
        callback.teardown(trainer, generator, "predict")
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("featvis:")]
    assert len(lines) == 1, lines
    assert "is not logged to Weights & Biases any further: --wandb offline: Weights & Biases cannot start" in lines[0]


@pytest.mark.parametrize("key", ["", "0" * 40])
def test_without_an_account_online_is_refused_before_anything_is_made(tmp_path, key):
    """In a process of its own: W&B reads its variables once."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "NETRC": str(tmp_path / "netrc")}
    env |= {"WANDB_MODE": "online", "WANDB_API_KEY": key}
    code = (
        "from benchmark.arguments import wandb_mode; from featvis.errors import UserError\n"
        "for given in ('online', None):\n"
        "    try: print(wandb_mode(given))\n"
        "    except UserError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True, env=env
    )
    refused = (
        "--wandb online: Weights & Biases knows no account here; set WANDB_API_KEY, call `wandb login` once, or log "
        "offline"
    )
    assert done.stdout.splitlines() == ["online" if key else refused] * 2


def generation(out: Path, rank_zero: bool = True) -> tuple[tracking.Logged, Any, Any]:
    config = {"wandb": "offline", "logs": str(out), "out": str(out / "cell"), "name": "net/maco", "group": "quick"}
    return (
        tracking.Logged(config),
        SimpleNamespace(is_global_zero=rank_zero, loggers=[]),
        SimpleNamespace(config_hash=lambda: "0123456789ab"),
    )


def test_a_generation_is_logged_and_resumed(tmp_path):
    for code in (1, 0):
        callback, trainer, generator = generation(tmp_path)
        callback.setup(trainer, generator, "predict")
        (logger,) = trainer.loggers
        logger.log_hyperparams({"steps": 3})
        logger.log_metrics({"score/301 ladybug": 1.5}, 2)
        pictures = [np.full((4, 5, 3), i, np.uint8) for i in range(30)]
        for _ in range(3):
            logger.log_image("visualizations", pictures, caption=[f"{i}" for i in range(30)])
        if code:
            callback.on_exception(trainer, generator, KeyboardInterrupt())
        callback.teardown(trainer, generator, "predict")
    first, second = written(tmp_path)["net/maco"]
    assert first.run.run_id == second.run.run_id
    assert (first.all("exit")[0].exit_code, second.all("exit")[0].exit_code) == (1, 0)
    for part in (first, second):
        assert (part.run.run_group, part.run.job_type) == ("quick", "generate")
        assert list(part.run.tags) == ["quick", "net", "maco"]
        assert part.values("config")["steps"] == 3
        history = part.values("history")
        assert history["score/301 ladybug"] == 1.5
        assert history["trainer/global_step"] == 2
        shown = list((part.path.parent / "files" / "media").rglob("visualizations_*.png"))
        assert len(shown) == sessions.PICTURES


def gone(process: Path) -> bool:
    """Whether a process is over, waited for or not."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def kill_wandb() -> None:
    """End W&B's own process, as the system does when memory is short, and wait until it is over."""
    for children in Path("/proc/self/task").glob("*/children"):
        for pid in children.read_text().split():
            if b"wandb-core" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(int(pid), signal.SIGKILL)
                while not gone(Path(f"/proc/{pid}")):
                    time.sleep(0.01)


@pytest.mark.parametrize("what", ["disk", "killed"])
def test_a_generation_goes_on_when_logging_fails(tmp_path, monkeypatch, capsys, what):
    import wandb

    callback, trainer, generator = generation(tmp_path)
    callback.setup(trainer, generator, "predict")

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    if what == "disk":
        monkeypatch.setattr(wandb.Run, "log", full)
    else:
        kill_wandb()
    for step in range(3):
        trainer.loggers[0].log_metrics({"score": 1.0}, step)
    callback.teardown(trainer, generator, "predict")
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("featvis:")]
    assert len(lines) == 1, lines
    assert "net/maco is not logged to Weights & Biases any further" in lines[0]


def test_only_the_first_process_logs(tmp_path):
    callback, trainer, generator = generation(tmp_path, rank_zero=False)
    callback.setup(trainer, generator, "predict")
    callback.teardown(trainer, generator, "predict")
    assert trainer.loggers == []
    assert list(tmp_path.iterdir()) == []


def test_disabled_nothing_happens_and_wandb_is_not_needed(tmp_path):
    """It cannot even be imported here: timm, which does so by itself where it can, does without."""
    plan, _ = suite(tmp_path, wandb="disabled")
    before = sorted(tmp_path.rglob("*"))
    code = (
        "import json, sys; sys.modules['wandb'] = None\n"
        "from benchmark import tracking; from benchmark.running import generate\n"
        "from benchmark.scoring.plan import Plan\n"
        "tracking.log_scores(Plan(**json.loads(sys.argv[1]))); print('done')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(asdict(plan))], cwd=tmp_path, capture_output=True, text=True,
        check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout.strip() == "done", done.stderr[-2000:]
    assert sorted(tmp_path.rglob("*")) == before


def test_pictures_of_others_need_no_facts(tmp_path):
    """A PNG without facts, as anyone's folder may hold them, is left out and does not end the logging."""
    plan, found = suite(tmp_path)
    write_images(found[1], tmp_path)
    table = rows._side_by_side(tmp_path, found, list(zip(plan.units, plan.labels, strict=True)))
    assert [row[table.columns.index("maco")] for row in table.data] == [None] * 3


@pytest.mark.parametrize(
    ("given", "said", "expected"),
    [
        (None, None, "offline"), (None, "", "offline"), (None, "disabled", "disabled"), (None, "online", "online"),
        (None, "dryrun", "offline"), (None, "run", "online"), ("offline", "disabled", "offline"),
        ("disabled", "nonsense", "disabled"),
    ],
)  # fmt: skip
def test_the_flag_goes_before_the_variable_and_that_before_the_default(monkeypatch, given, said, expected):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr("wandb.login", lambda prompt, verify: True)  # there is an account
    if said is not None:
        monkeypatch.setenv("WANDB_MODE", said)
    assert wandb_mode(given) == expected


@pytest.mark.parametrize("value", ["ofline", "shared", "Offline"])
def test_a_mode_that_is_none_is_a_sentence(monkeypatch, value):
    monkeypatch.setenv("WANDB_MODE", value)
    with pytest.raises(UserError, match=f"WANDB_MODE must be offline, online or disabled, not {value}"):
        wandb_mode(None)


def test_project_entity_and_folder_are_those_of_the_variables(tmp_path, monkeypatch):
    elsewhere = tmp_path / "not there yet"
    for name, value in (("PROJECT", "mine"), ("ENTITY", "we"), ("DIR", str(elsewhere))):
        monkeypatch.setenv(f"WANDB_{name}", value)
    content = tracking.Content({"a": 1}, {"b": 2.5})
    tracking.log_command("offline", tmp_path / "out", "perf", "cpu", content)
    assert written(tmp_path / "out") == {}
    ((one,),) = written(elsewhere).values()
    assert (one.run.project, one.run.entity) == ("mine", "we")
    assert (one.values("config")["a"], one.values("summary")["b"]) == (1, 2.5)
