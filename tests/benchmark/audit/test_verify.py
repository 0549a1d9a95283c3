"""featvis verify and featvis rerun: what is right passes, and every way of being wrong is found."""

from __future__ import annotations

import importlib.metadata
import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from commands import command
from PIL import Image
from safetensors.torch import save_file
from sample_records import record
from tiny import put

from benchmark.audit import plans, verify
from benchmark.cli import main
from benchmark.records import record as records
from featvis.errors import Unreachable
from featvis.networks.loading import load
from featvis.storage import images

pytestmark = pytest.mark.usefixtures("plain_engine")
RUN = [
    "--methods", "maco", "--units", "301,323", "--steps", "2", "--crops", "1", "--canvas", "48",
    "--classifiers", "efficientnet_lite1", "--wandb", "disabled",
]  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("verify")
    done = command("run", *RUN, "--out", "out", cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "out"


@pytest.fixture
def run(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "out"))


def record_of(run: Path) -> Path:
    return run / "records" / "efficientnet_lite0" / "maco.json"


def picture_of(run: Path) -> Path:
    return run / str(records.Record.read(record_of(run)).images) / "301.png"


def changed(run: Path, **fields: object) -> None:
    path = record_of(run)
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_a_run_follows_from_its_images(run, capsys):
    assert main(["verify", str(run)]) == 0
    said = capsys.readouterr().out
    # Two images of MACO, two of noise; each of three rows has its numbers.
    assert "4 images and" in said
    assert "numbers checked, 0 problems" in said
    checked = int(said.split("4 images and ")[1].split()[0])
    present = sum(m.value is not None for r in records.load_all(run / "records") for m in r.metrics)
    assert checked == present > 20


def cut(run: Path) -> None:
    path = picture_of(run)
    path.write_bytes(path.read_bytes()[:-100])


def painted(run: Path) -> None:
    """Other pixels under the same facts: what a PNG's own checksums cannot know."""
    pixels, facts = images.read(picture_of(run))
    pixels = pixels.copy()
    pixels[:24, :, :3] = 255 - pixels[:24, :, :3]
    images.write(picture_of(run), pixels[..., :3], pixels[..., 3], facts)


def swapped(run: Path) -> None:
    a, b = picture_of(run), picture_of(run).with_name("323.png")
    data = a.read_bytes()
    a.write_bytes(b.read_bytes())
    b.write_bytes(data)


def other_seed(run: Path) -> None:
    pixels, facts = images.read(picture_of(run))
    images.write(picture_of(run), pixels[..., :3], pixels[..., 3], facts | {"seed": 5})


def better_logit(run: Path) -> None:
    metrics = json.loads(record_of(run).read_text())["metrics"]
    for metric in metrics:
        if metric["name"] == "logit":
            metric["value"] += 1.0
            metric["interval"] = [x + 1.0 for x in metric["interval"]]
    changed(run, metrics=metrics)


def cheaper(run: Path) -> None:
    config = json.loads(record_of(run).read_text())["config"]
    config["generator"]["init_args"]["steps"] = 1
    changed(run, config=config)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut, ["301.png is cut off"]),
        (lambda run: picture_of(run).unlink(), ["301.png is missing"]),
        (painted, ["are not those that it was made from"]),
        (swapped, ["its unit is '323', and the record's '301'"]),
        (other_seed, ["its seed is 5, and the record's 0"]),
        (cheaper, ["its config_hash is not that of its configuration"]),
        (lambda run: changed(run, n=3), ["it is said to be of 3 images, and there are 2"]),
        (lambda run: changed(run, images_sha256=None), ["it has no digest of its images"]),
        (lambda run: changed(run, images=None), ["it names no folder of images"]),
        (lambda run: changed(run, units_hash="0" * 12), ["units_hash does not belong to the units listed"]),
        (lambda run: (picture_of(run).parent / "config.yaml").write_text("a: 1"), ["is not the configuration of"]),
    ],
)
def test_what_is_wrong_with_the_files_is_found(run, capsys, damage, words):
    damage(run)
    assert main(["verify", str(run), "--files-only"]) == 1
    said = capsys.readouterr()
    for word in words:
        assert word in said.err
    assert "Traceback" not in said.err


def test_numbers_that_do_not_follow_from_the_images_are_caught(run, capsys):
    better_logit(run)
    assert main(["verify", str(run), "--files-only"]) == 0, "the files say nothing against it"
    capsys.readouterr()
    assert main(["verify", str(run)]) == 1
    said = capsys.readouterr().err
    assert "efficientnet_lite0 / maco: Logit is" in said
    assert "follows from its images" in said
    assert sum("in the record, but" in line for line in said.splitlines()) == 1, "the other numbers are right"


def test_images_painted_after_scoring_change_the_numbers_too(run, capsys):
    painted(run)
    digest = images.pixels_hash(sorted(picture_of(run).parent.glob("[0-9]*.png")))
    changed(run, images_sha256=digest)
    assert main(["verify", str(run), "--files-only"]) == 0, "whoever paints can write the digest as well"
    capsys.readouterr()
    assert main(["verify", str(run)]) == 1
    assert "Logit is" in capsys.readouterr().err


def test_the_command_of_a_record_is_printed_and_checked(run, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for method in ("maco", "real", "noise"):
        assert main(["rerun", str(record_of(run).with_name(f"{method}.json"))]) == 0
        assert capsys.readouterr().out.splitlines()[0] == (
            "featvis run --suite quick --methods maco --units 301,323 --steps 2 --crops 1 --canvas 48 "
            "--classifiers efficientnet_lite1"
        )
    assert [p.name for p in tmp_path.iterdir()] == ["out"], "nothing is written"
    command_of = json.loads(record_of(run).read_text())["command"]
    changed(run, command=command_of.replace("--steps 2", "--steps 3"))
    assert main(["rerun", str(record_of(run))]) == 1
    assert "init_args.steps was 2, and would be 3" in capsys.readouterr().err
    changed(run, command=command_of.replace("--units 301,323", "--units 301"), versions={"torch": "1.0", "timm": "0.1"})
    assert main(["rerun", str(record_of(run))]) == 1
    said = capsys.readouterr()
    assert "it would make 1 other units than the record's 2" in said.err
    assert f"note: torch 1.0 then, {importlib.metadata.version('torch')} now" in said.out
    capsys.readouterr()
    for written, words in (
        (None, "the record has no command"),
        (f"{command_of} '", "command cannot be read (No closing quotation)"),
        (command_of.replace("--steps 2", "--steps many"), "command cannot be read (invalid literal"),
        (f"{command_of} --bogus 3", "command has bogus, which `featvis run` does not take"),
    ):
        changed(run, command=written)
        assert main(["rerun", str(record_of(run))]) == 2
        assert words in capsys.readouterr().err
    changed(run, command=command_of.replace("--suite quick ", ""))
    assert main(["rerun", str(record_of(run))]) == 0, "quick is what is meant where no suite is named"
    assert "featvis run --suite quick --methods maco" in capsys.readouterr().out
    (tmp_path / "data" / "301").mkdir(parents=True)
    shutil.copy(picture_of(run), tmp_path / "data" / "301")
    assert main(["rerun", str(record_of(run)), "--data", "data"]) == 2
    assert "--data was not given to the run of this record; leave it out" in capsys.readouterr().err


def test_real_images_must_be_those_of_the_record(sample, tmp_path, capsys):
    for name in ("n02165456", "n02279972", "n01440764"):
        shutil.copytree(sample / name, tmp_path / "data" / name)
    done = command("run", *RUN, "--data", "data", "--out", "run/out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    out, record = tmp_path / "run" / "out", tmp_path / "run" / "out" / "records" / "efficientnet_lite0" / "maco.json"
    assert str(tmp_path) not in record.read_text(), "a record does not say where things lie"
    assert main(["verify", str(out), "--data", str(tmp_path / "data")]) == 0
    assert "0 problems" in capsys.readouterr().out
    # To have checked none of the numbers is no success, unless it was asked for.
    assert main(["verify", str(out)]) == 1
    said = capsys.readouterr()
    assert "efficientnet_lite0, suite quick: the real images of quick are not given" in said.out
    assert "no number of the run was checked" in said.err
    assert main(["verify", str(out), "--files-only"]) == 0
    (tmp_path / "my data").symlink_to(tmp_path / "data")
    assert main(["rerun", str(record), "--data", str(tmp_path / "data")]) == 0
    capsys.readouterr()
    main(["rerun", str(record), "--data", str(tmp_path / "my data")])
    assert shlex.split(capsys.readouterr().out.splitlines()[0])[-1] == str(tmp_path / "my data")
    shutil.rmtree(tmp_path / "data" / "n01440764")
    assert main(["verify", str(out), "--data", str(tmp_path / "data")]) == 1
    assert "data is not the set that quick was scored with (3 images of data" in capsys.readouterr().out
    assert main(["rerun", str(record), "--data", str(tmp_path / "data")]) == 1
    assert "evaluation.data.bank.images was 3, and would be 2" in capsys.readouterr().err


def test_a_control_on_a_random_network_is_of_that_networks_weights(classifier):
    plain = record("maco", alias="efficientnet_lite0")
    control = record("maco_random", alias="efficientnet_lite0", sees="natural spectrum; control: random network")
    assert verify.weights_of(plain, classifier) == classifier.weights_hash
    assert verify.weights_of(control, classifier) == load("random:efficientnet_lite0").weights_hash
    assert verify.weights_of(control, classifier) != classifier.weights_hash


JUDGES = ("test_efficientnet", "test_vit")
SMALL_SUITE = f"""
model: test_resnet
units: 301,323
methods: [fourier]
classifiers: [{", ".join(JUDGES)}]
frechet: test_efficientnet
"""


@pytest.fixture(scope="module")
def judged(tmp_path_factory) -> Path:
    """A folder with networks of random weights, real images, and a run in `run/out` that two judges scored."""
    folder, rng = tmp_path_factory.mktemp("judged"), np.random.default_rng(0)
    put(folder / "weights", "test_resnet", *JUDGES)
    for name in ("301", "323", "340"):
        (folder / "data" / name).mkdir(parents=True)
        for i in range(4):
            pixels = rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((96, 96)).save(folder / "data" / name / f"{name}-{i}.png")
    (folder / "small.yaml").write_text(SMALL_SUITE)
    done = command(
        "run", "--suite", "small.yaml", "--steps", "1", "--crops", "1", "--canvas", "48", "--data", "data",
        "--wandb", "disabled", "--out", "run/out", cwd=folder, FEATVIS_WEIGHTS=str(folder / "weights"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def follows(report: verify.Report, method: str = "fourier") -> set[str]:
    """The names of the numbers of a row that were computed anew."""
    return {key[3] for key in report.follows if key[2] == method}


def test_a_judge_of_other_weights_is_said_to_be_unchecked_and_accuses_nobody(judged, tmp_path, monkeypatch):
    weights = Path(shutil.copytree(judged / "weights", tmp_path / "weights"))
    monkeypatch.setenv("FEATVIS_WEIGHTS", str(weights))
    data = {"data": str(judged / "data"), "frechet_data": None, "spectrum_data": None}
    run = judged / "run" / "out"
    record = records.Record.read(run / "records" / "test_resnet" / "fourier.json")
    numbers = {m.name: m for m in record.metrics if m.value is not None}
    untouched = verify.verify(run, data)
    assert (untouched.problems, untouched.unchecked) == ([], [])
    assert follows(untouched) == set(numbers)
    torch.manual_seed(1)
    save_file(timm.create_model("test_efficientnet").state_dict(), weights / "test_efficientnet.safetensors")
    report = verify.verify(run, data)
    assert report.problems == []
    # Its features stand in for Inception's, in which it is not to be replaced by the other judge.
    its = {name for name in numbers if name.endswith("_test_efficientnet")}
    assert {name.partition("_test")[0] for name in its} >= {"top1", "frechet", "kernel", "sphere", "identification"}
    assert follows(report) == set(numbers) - its
    was, now = record.config["evaluation"]["weights"]["test_efficientnet"], load("test_efficientnet").weights_hash
    assert was != now
    why = f"other weights of test_efficientnet here ({now}) than it was scored with ({was})"
    mine = [text for text in report.unchecked if text.startswith("test_resnet / fourier: ")]
    assert sorted(mine) == sorted(f"test_resnet / fourier: {numbers[name].label}: {why}" for name in its)


def test_where_a_judge_is_not_here_no_other_is_compared_in_its_place(judged, monkeypatch):
    monkeypatch.setenv("FEATVIS_WEIGHTS", str(judged / "weights"))
    run, gone = judged / "run" / "out", "there are no weights for test_efficientnet"

    def loaded(name, *arguments, **options):
        if name == "test_efficientnet":
            raise Unreachable(gone, "put them there")
        return load(name, *arguments, **options)

    monkeypatch.setattr(plans, "load", loaded)
    report = verify.verify(run, {"data": str(judged / "data"), "frechet_data": None, "spectrum_data": None})
    assert report.problems == []
    found = records.Record.read(run / "records" / "test_resnet" / "fourier.json").metrics
    its = [m.label for m in found if m.value is not None and m.name.endswith("_test_efficientnet")]
    assert len(its) >= 5
    assert {f"test_resnet / fourier: {label}: {gone}" for label in its} <= {*report.unchecked}


def test_numbers_of_units_and_numbers_that_were_taken_away_are_checked(judged, tmp_path, monkeypatch):
    """The means are left as they are: tables of layers and rank correlations are made of the units' own."""
    monkeypatch.setenv("FEATVIS_WEIGHTS", str(judged / "weights"))
    data = {"data": str(judged / "data"), "frechet_data": None, "spectrum_data": None}
    run = Path(shutil.copytree(judged / "run", tmp_path / "run")) / "out"
    path = run / "records" / "test_resnet" / "fourier.json"
    record = json.loads(path.read_text())
    metrics = {m["name"]: m for m in record["metrics"]}
    a, b = metrics["logit"]["values"]
    assert a != pytest.approx(b, rel=0.01)
    metrics["logit"]["values"] = [b, a]
    nothing = {"value": None, "interval": None, "n": 0, "values": None, "absent": "the network was not there"}
    metrics["top1_test_vit"] |= nothing
    del metrics["top1_test_efficientnet"]
    path.write_text(json.dumps(record | {"metrics": list(metrics.values())}))
    report = verify.verify(run, data)
    logit, top1 = sorted(report.problems)
    assert "fourier: Logit: 2 of 2 values are not those that follow from the images" in logit
    assert "fourier: Top-1, test_vit, same family has no value in the record (the network was not there)" in top1
    (lacking,) = report.unchecked
    assert lacking.endswith("lacks numbers that follow from its images: Top-1, test_efficientnet, same family")
    # A record that says itself that the network was not there is believed.
    record["config"]["evaluation"] |= {"unavailable": ["test_vit"]}
    metrics["logit"]["values"] = [a, b]
    path.write_text(json.dumps(record | {"metrics": list(metrics.values())}))
    assert verify.verify(run, data).problems == []


def test_what_only_its_own_command_makes_anew_is_said_to_be_unchecked(run, capsys):
    """Feature accentuation has no definition of scores in its record: its numbers need the photographs."""
    data = json.loads(record_of(run).read_text())
    data["config"].pop("evaluation")
    (run / "records" / "efficientnet_lite0" / "accentuate.json").write_text(json.dumps(data | {"suite": "accentuate"}))
    assert main(["verify", str(run)]) == 0
    assert "the numbers of accentuate; the command in its records makes them anew" in capsys.readouterr().out


def test_pictures_of_a_folder_elsewhere_are_not_taken_for_photographs(whole, tmp_path, capsys):
    pictures = whole / str(records.Record.read(record_of(whole)).images)
    options = ["--metrics", "logit", "--classifiers", "", "--wandb", "disabled", "--out", str(tmp_path / "out")]
    assert main(["evaluate", str(pictures), *options]) == 0
    capsys.readouterr()
    code = main(["verify", str(tmp_path / "out")])
    said = capsys.readouterr()
    assert "its pictures are a folder elsewhere" in said.out
    assert "0 problems" in said.out, said.err
    assert code == 0
