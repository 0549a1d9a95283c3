"""Every command's offline run, read back from W&B's own files: its config, its pictures and its final numbers.

The network is timm's smallest ResNet with random weights: what is logged is compared with what the command has left in
its folder, whatever that is.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
from PIL import Image
from tiny import put
from wandb_files import Written, settle, written

from benchmark.cli import main
from benchmark.perf import measure, parts, peers, peers_record
from benchmark.perf import record as perf_records
from benchmark.records.record import Record, load_all
from featvis.storage import images

pytestmark = pytest.mark.plumbing
NET = "test_resnet"
SMALL = ["--steps", "1", "--canvas", "48"]


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory):
    """A folder with weights and pictures, which the commands run in; and the end of W&B's own process."""
    import wandb

    folder = tmp_path_factory.mktemp("place")
    put(folder / "weights", NET)
    random = np.random.default_rng(0)
    for name in ("n02165456/a.png", "n02165456/b.png", "n02219486/c.png"):  # ladybug, ant
        path = folder / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (96, 80, 3), dtype=np.uint8)).save(path)
    with pytest.MonkeyPatch.context() as patch:
        settle(patch, folder)
        patch.setenv("FEATVIS_WEIGHTS", str(folder / "weights"))
        patch.chdir(folder)
        yield folder
    wandb.teardown()


def run(*args: str, mode: str = "offline") -> Path:
    """A command in this process, which logs into a folder of its own."""
    out = Path(f"{args[0]}-{mode}").absolute()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", mode)
        # W&B's process keeps this for all runs that follow, as commands are one a process.
        patch.setenv("WANDB_DATA_DIR", str(out / "wandb"))
        assert main([*args, "--out", str(out)]) == 0
    return out


def bytes_of(paths: Any) -> set[str]:
    return {hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}


def logged_figures(run: Written) -> set[str]:
    return bytes_of((run.path.parent / "files" / "media" / "images").glob("figures_*.*"))


def check_records(out: Path, suite: str, figures: list[Path]) -> dict[str, list[Written]]:
    """A run a record with its numbers, and a table with the pictures of the units and the figures."""
    runs, found = written(out), load_all(out / "records")
    assert set(runs) == {f"{NET}/table", *(f"{NET}/{r.method}" for r in found)}
    for record in found:
        (one,) = runs[f"{NET}/{record.method}"]
        assert (one.run.run_group, one.run.job_type, one.all("exit")[0].exit_code) == (suite, "score", 0)
        summary, config = one.values("summary"), one.values("config")
        assert {m.name: summary[m.name] for m in record.metrics} == {m.name: m.value for m in record.metrics}
        assert {k: config[k] for k in ("command", "config_hash")} == {
            "command": record.command, "config_hash": record.config_hash,
        }  # fmt: skip
    (table,) = runs[f"{NET}/table"]
    config = table.values("config")
    assert (config["suite"], config["model"]) == (suite, NET)
    assert logged_figures(table) == bytes_of(figures) != set()
    files = table.artifact("records")
    assert {Record.read(p).method for p in files.values()} == {r.method for r in found}
    check_pictures(table, out, found)
    return runs


def check_pictures(table: Written, out: Path, found: list[Record]) -> None:
    """Each picture of the table is the file on disk."""
    files = table.artifact("run_table")
    data = json.loads(files["visualizations.table.json"].read_text())
    rows = [dict(zip(data["columns"], row, strict=True)) for row in data["data"]]
    for record in found:
        for unit in record.units if record.images else ():
            (row,) = [r for r in rows if r["unit"] == unit]
            with Image.open(files[row[record.method]["path"]]) as image:
                assert np.array_equal(np.asarray(image), images.read(out / str(record.images) / f"{unit}.png")[0])


def test_probe(capsys):
    out = run("probe", NET, "--layers", "layer1,layer3", "--channels", "2", "--compare", "", *SMALL)
    check_records(out, "probe", sorted((out / "figures").glob("*.png")))
    assert f"weights   {NET}: {Path('weights', f'{NET}.safetensors').absolute()}\n" in capsys.readouterr().out


def test_invert():
    out = run("invert", NET, "--images", "data", "--layer", "layer1", "--limit", "2", *SMALL)
    check_records(out, "invert", sorted((out / "figures").glob("*.png")))


def test_concepts():
    options = ["--classes", "ladybug,310", "--layer", "layer3", "--concepts", "2", "--patch", "60", "--pool", "0"]
    out = run("concepts", NET, "--data", "data", *options, "--crops", "1", *SMALL)
    check_records(out, "concepts", [*out.rglob("sheet.png"), *out.rglob("mosaic_*.png")])


def test_attack():
    out = run("attack", NET, "--images", "data", "--epsilon", "1/255", "--limit", "2", "--steps", "1")
    runs = check_records(out, "attack", sorted((out / "figures").glob("*.png")))
    assert len(runs) == 2


def test_evaluate():
    out = run("evaluate", "data", "--model", NET, "--classifiers", "", "--frechet", NET, "--metrics", "logit,spectrum")
    runs, found = written(out), load_all(out / "records")
    assert set(runs) == {f"{NET}/table", *(f"{NET}/{r.method}" for r in found)}
    for record in found:
        summary = runs[f"{NET}/{record.method}"][0].values("summary")
        assert {m.name: summary[m.name] for m in record.metrics} == {m.name: m.value for m in record.metrics}
    (table,) = runs[f"{NET}/table"]
    assert table.values("config")["command"] == found[0].command
    assert logged_figures(table) == bytes_of(Path("data").rglob("*.png"))


def test_reference():
    out = run("reference", "--data", "data", "--models", NET, "--spectrum")
    ((one,),) = written(out).values()
    assert one.run.display_name == "reference/data"
    summary, config = one.values("summary"), one.values("config")
    assert (summary["images"], summary[f"{NET}/features"]) == (3, timm.create_model(NET).num_features)
    assert 0 <= summary[f"{NET}/top1"] <= 1
    (provenance,) = out.glob("data-*/provenance.json")
    assert config["fingerprint"] == json.loads(provenance.read_text())["fingerprint"]
    (picture,) = (one.path.parent / "files" / "media" / "images").glob("figures_*.png")
    with Image.open(picture) as image:
        # The most is at frequency zero, which was put into the middle of the left edge.
        assert np.unravel_index(np.asarray(image.convert("L")).argmax(), image.size[::-1]) == (256, 0)


def test_perf(monkeypatch):
    """With a made-up clock: what is measured is another test's matter."""
    timing = perf_records.Timing(NET, True, "maco", "float32", 1, 1, 48, 2, 3.5, 1.5, 1.25, 2.0, 2.5, {"decode": 3.5})
    monkeypatch.setattr(measure, "measure", lambda *args: timing)
    monkeypatch.setattr(measure, "around", lambda *args: perf_records.Around(48, 1.0, 2.0))
    monkeypatch.setattr(parts, "parts", lambda *args: [])
    arguments = ["--models", NET, "--methods", "maco", "--batches", "1x1", "--memory", "", "--processes", "false"]
    out = run("perf", *arguments, "--canvas", "48")
    ((one,),) = written(out).values()
    summary, config = one.values("summary"), one.values("config")
    row = f"maco/{NET}/1x1"
    assert [summary[f"{row}/{k}"] for k in ("step_ms", "times_shipped", "overhead")] == [3.5, 2.5, 2.0]
    (path,) = out.glob("perf-*.json")
    found = perf_records.read(path)
    assert (config["command"], config["device"]) == (found.command, found.device)
    assert one.artifact("perf")[path.name].read_bytes() == path.read_bytes()
    assert ("timings", "path") in one.values("history")


def test_perf_peers(monkeypatch, tmp_path):
    timings = [peers_record.PeerTiming("featvis", "maco", "ours", 8, 2.5, 1.0)]
    drawn = [peers_record.PeerPictures("featvis maco", 1, 1, 48, 1, 0.5, {"logit": {"value": 3.25, "interval": None}})]
    sheet = tmp_path / "peers.png"
    Image.new("RGB", (8, 6), "red").save(sheet)
    monkeypatch.setattr(peers, "peers", lambda *args: [])
    monkeypatch.setattr(peers, "time_steps", lambda *args: timings)
    monkeypatch.setattr(peers, "pictures", lambda *args: (drawn, sheet))
    out = run("perf-peers", "--model", NET, "--classifiers", "", "--units", "301", "--canvas", "48", "--steps", "1")
    ((one,),) = written(out).values()
    summary = one.values("summary")
    assert summary["featvis/maco/8/view_ms"] == dataclasses.asdict(timings[0])["view_ms"]
    assert summary["featvis maco/logit"] == 3.25
    assert logged_figures(one) == bytes_of([sheet])
    assert str(one.values("config")["command"]).startswith(f"featvis perf-peers --model {NET}")


def test_generate():
    arguments = ["--model", "MACO", "--model.model", NET, "--model.steps", "2", "--model.canvas", "48"]
    out = run("generate", *arguments, "--model.views", "1", "--data.units", "301", "--logs", "generate-logs")
    ((one,),) = written(Path("generate-logs")).values()
    assert one.run.job_type == "generate"
    assert one.values("config")["init_args"]["steps"] == 2
    assert "score/301 ladybug" in one.values("history")
    (picture,) = (one.path.parent / "files" / "media").rglob("visualizations_*.png")
    with Image.open(picture) as image:
        assert np.array_equal(np.asarray(image), images.read(out / "301.png")[0][..., :3])


@pytest.mark.parametrize(("mode", "flag"), [("disabled", []), ("online", ["--wandb", "disabled"])])
def test_nothing_is_written_where_it_is_disabled(mode, flag):
    """By the variable, or by the flag, which goes before it."""
    out = run("attack", NET, "--images", "data", "--limit", "1", "--epsilon", "1/255", "--steps", "1", *flag, mode=mode)
    assert load_all(out / "records")
    assert not list(Path.cwd().rglob(f"attack-{mode}/wandb*"))
