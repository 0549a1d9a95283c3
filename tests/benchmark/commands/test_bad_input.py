"""Bad input: one sentence naming the option, what was given, what would work; exit code 2; nothing written or lost."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from commands import PLAIN, SMALL, Refusals, check_sentence, command, tree
from PIL import Image
from safetensors.torch import save_file

from benchmark.cli import main
from benchmark.records import record as records
from benchmark.scoring.packs import fingerprint
from featvis.data import imagenette
from featvis.data.files import ImageFile, open_rgb
from featvis.storage import images

LITE0 = {"architecture": "tf_efficientnet_lite0", "mean": "[0.5, 0.5, 0.5]", "std": "[0.5, 0.5, 0.5]"}


@pytest.fixture
def refused(tmp_path, capsys, monkeypatch) -> Refusals:
    """Refused commands, in an empty current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEATVIS_WEIGHTS", raising=False)
    return Refusals(tmp_path, capsys)


# --- values of options ------------------------------------------------------------------------------------------------

NAMES = {
    "model": (["run", "--model", "efficientnet_lit0"], ["--model efficientnet_lit0", "efficientnet_lite0"]),
    "model far from all": (["run", "--model", "@"], ["--model @", "efficientnet_lite0", "flexivit"]),
    "model without tag": (["run", "--model", "tf_efficientnet_lite0"], ["--model", "tf_efficientnet_lite0.in1k"]),
    "model, unknown tag": (["run", "--model", "tf_efficientnet_lite0.x"], ["--model", "tf_efficientnet_lite0.in1k"]),
    "model, a path": (["run", "--model", "../models/x"], ["--model ../models/x"]),
    "model of layers": (["layers", "efficientnet_lite3"], ["MODEL efficientnet_lite3", "efficientnet_lite2"]),
    "model of reference": (["reference", "--data", ".", "--models", "flexivitt"], ["--models flexivitt", "flexivit"]),
    "model of evaluate": (["evaluate", ".", "--model", "flexivitt"], ["--model flexivitt", "flexivit"]),
    "classifiers": (["evaluate", ".", "--classifiers", "efficientnet_lit1"], ["--classifiers", "efficientnet_lite1"]),
    "frechet": (["evaluate", ".", "--frechet", "efficientnet_lit1"], ["--frechet efficientnet_lit1", "lite1"]),
    "metrics": (["evaluate", ".", "--metrics", "logits"], ["--metrics logits", "did you mean logit"]),
    "method": (["run", "--methods", "maca"], ["--methods", "maca", "did you mean maco"]),
    "one method of several": (["run", "--methods", "maco,furier"], ["--methods", "furier", "did you mean fourier"]),
    "no method": (["run", "--methods", ","], ["--methods is empty", "maco"]),
    "method, no such module": (["run", "--methods", "mine.Mine"], ["--methods", "mine.Mine", "module.Class"]),
    "method, no such class": (["run", "--methods", "featvis.generators.MACA"], ["--methods", "MACA"]),
    "method, no generator": (["run", "--methods", "pathlib.Path"], ["--methods", "pathlib.Path", "Generator"]),
    "method, a path": (["run", "--methods", "../mine"], ["methods", "'../mine'", "letters"]),
    "method of generate": (["generate", "--model", "MACA", "--out", "x"], ["--model MACA", "did you mean MACO"]),
    "class": (["run", "--units", "ladybugg"], ["--units ladybugg", "did you mean ladybug"]),
    "layer": (["run", "--units", "block.2:3"], ["--units block.2:3", "no layer block.2", "blocks.2"]),
    "suite": (["run", "--suite", "quik"], ["--suite quik", "did you mean quick"]),
    "suite far from all": (["run", "--suite", "/nowhere/x.yaml"], ["--suite /nowhere/x.yaml", "paper", "quick"]),
    "wandb": (["run", "--wandb", "on"], ["--wandb must be offline, online or disabled, not on"]),
    "option": (["run", "--batch-sise", "3"], ["--batch-sise", "did you mean --batch-size"]),
    "option, abbreviated": (["run", "--step", "3"], ["unknown option --step:", "--steps"]),
    "option of generate": (
        ["generate", "--model", "MACO", "--out", "x", "--data.unit", "3"],
        ["--data.unit", "did you mean --data.units"],
    ),
    "option of a method": (
        ["generate", "--model", "MACO", "--model.stepz", "3", "--out", "x"],
        ["--model.stepz", "did you mean steps"],
    ),
    "option of the Trainer": (
        ["generate", "--model", "MACO", "--out", "x", "--trainer.device", "3"],
        ["--trainer.device", "--trainer.devices"],
    ),
    "command": (["rum"], ["rum", "did you mean run"]),
    "too many words": (["run", "quick"], ["unexpected argument quick", "--name value"]),
    "too few words": (["evaluate"], ["FOLDER is missing"]),
    "nothing to write to": (["generate", "--model", "MACO"], ["--out is missing"]),
}


@pytest.mark.parametrize(("args", "words"), NAMES.values(), ids=NAMES)
def test_unknown_names(refused, args, words):
    refused(args, *words)


@pytest.mark.parametrize("given", ["1000", "-1", "301,1000", "0-1000", "logits:1000"])
def test_class_index_out_of_range(refused, given):
    refused(["run", "--units", given], "--units", given.rpartition(",")[2], "0 to 999")


UNITS = {
    "first:0": "1000 classes",
    "first:1001": "1000 classes",
    "first:x": "first:20",
    "blocks.2:40": "0 to 39",
    "blocks.2:-1": "0 to 39",
    "blocks.2:": "0-31",
    "9-5": "5-9",
    ",": "--units 301,323",
    "": "--units 301,323",
}


@pytest.mark.parametrize("given", UNITS)
def test_units_that_are_none(refused, given):
    refused(["run", f"--units={given}"], "--units", given.strip(","), UNITS[given])
    if given == "blocks.2:40":
        # The same in the command that a suite runs for each cell, and in the words of that command.
        refused(
            ["generate", "--model", "MACO", "--out", "x", "--data.units", given], f"--data.units {given}", UNITS[given]
        )


@pytest.mark.parametrize("given", ["0", "-1", "1000000000", "abc", "1.5", ""])
@pytest.mark.parametrize("option", ["--steps", "--crops", "--canvas", "--batch-size", "--devices"])
def test_numbers_that_are_zero_negative_absurd_or_none(refused, option, given):
    works = "a whole number" if given in ("abc", "1.5", "") else "between "
    refused(["run", f"{option}={given}"], f"{option} must be", works, given)


def test_the_smallest_canvas_is_said(refused):
    refused(["run", "--canvas", "15"], "--canvas must be between 16 and 8192, not 15")


@pytest.mark.parametrize("option", ["--steps", "--units", "--out", "--data"])
def test_an_option_without_a_value(refused, option):
    refused(["run", option], f"{option} needs a value")


GENERATE = {
    "steps": (["--model.steps", "0"], ["--model.steps must be between", "not 0"]),
    "views": (["--model.views", "-3"], ["--model.views must be between", "not -3"]),
    "canvas": (["--model.canvas", "9"], ["--model.canvas must be between", "not 9"]),
    "canvas of three": (["--model.canvas", "[64,64,64]"], ["--model.canvas", "a list of 2", "[64, 64, 64]"]),
    "type": (["--model.steps", "many"], ["--model.steps must be a whole number, not many"]),
    "choice": (["--model.crop_centre", "left"], ["--model.crop_centre must be inside or normal, not left"]),
    "rate": (["--model.lr", "0"], ["lr must be above 0"]),
    "infinite": (["--model.lr", "1e999"], ["lr", "inf"]),
    "null": (["--model.steps", "null"], ["steps", "null"]),
    "batch": (["--data.batch_size", "0"], ["--data.batch_size must be between 1 and 4096, not 0"]),
    "batch, type": (["--data.batch_size", "x"], ["--data.batch_size must be a whole number, not x"]),
    "network": (["--model.model", "flexivitt"], ["--model.model flexivitt", "flexivit"]),
    "no devices": (["--trainer.devices", "0"], ["--trainer.devices 0"]),
    "devices": (["--trainer.devices", "x"], ["--trainer.devices x"]),
    "accelerator": (["--trainer.accelerator", "abacus"], ["--trainer.accelerator abacus"]),
    "strategy": (["--trainer.strategy", "luck"], ["--trainer.strategy luck"]),
    "wandb": (["--wandb", "on"], ["--wandb must be offline, online or disabled, not on"]),
    "config": (["--config", "nowhere.yaml"], ["--config", "nowhere.yaml"]),
    "units, logged": (["--wandb", "offline", "--data.units", "1000"], ["--data.units 1000", "0 to 999"]),
}


@pytest.mark.parametrize(("args", "words"), GENERATE.values(), ids=GENERATE)
def test_generate(refused, args, words):
    refused(["generate", "--model", "MACO", "--out", "x", *args], *words)


# --- suites -----------------------------------------------------------------------------------------------------------

SUITE = {"model": "efficientnet_lite0", "units": "301", "methods": {"maco": {}}, "classifiers": ["efficientnet_lite1"]}
SUITES = {
    "unknown key": ({"batchsize": 3}, ["batchsize", "did you mean batch_size"]),
    "key that is a number": ({1: 3}, ["key 1", "choose one of model"]),
    "missing key": ({"model": ...}, ["model is missing"]),
    "model": ({"model": 5}, ["model is 5", "a text"]),
    "batch_size": ({"batch_size": "many"}, ["batch_size is 'many'", "an integer"]),
    "batch_size, a truth": ({"batch_size": True}, ["batch_size is True", "an integer"]),
    "batch_size, zero": ({"batch_size": 0}, ["--batch-size", "between 1 and 4096", "not 0"]),
    "seed": ({"seed": 1.5}, ["seed is 1.5", "an integer"]),
    "units": ({"units": [301]}, ["units is [301]", "a text"]),
    "units, a truth": ({"units": True}, ["units is True", "a text"]),
    "data": ({"data": 5}, ["data is 5", "a text"]),
    "data that is not there": ({"data": "nowhere"}, ["--data nowhere", "not a folder"]),
    "classifiers": ({"classifiers": "efficientnet_lite1"}, ["classifiers is 'efficientnet_lite1'", "a list"]),
    "unknown classifier": ({"classifiers": ["efficientnet_lit1"]}, ["classifiers", "efficientnet_lite1"]),
    "unknown frechet": ({"frechet": "efficientnet_lit1"}, ["frechet", "efficientnet_lite1"]),
    "methods": ({"methods": "maco"}, ["methods is 'maco'"]),
    "methods, empty": ({"methods": {}}, ["methods", "is empty", "maco"]),
    "methods, null": ({"methods": None}, ["methods is None"]),
    "methods, numbers": ({"methods": [1, 2]}, ["methods is [1, 2]"]),
    "methods, objects": ({"methods": [{"maco": {}}]}, ["methods is"]),
    "row that is a number": ({"methods": {1: {}}}, ["methods", "key 1", "texts"]),
    "row that is a path": ({"methods": {"a/b": {"preset": "maco"}}}, ["'a/b'", "letters"]),
    "row that every table has": ({"methods": {"real": {"preset": "maco"}}}, ["methods.real", "something else"]),
    "row of the wrong type": ({"methods": {"maco": 3}}, ["methods.maco", "3"]),
    "unknown preset": ({"methods": {"mine": {"preset": "macoo"}}}, ["macoo", "did you mean maco"]),
    "preset of the wrong type": ({"methods": {"mine": {"preset": 5}}}, ["methods.mine.preset is 5", "a text"]),
    "class of the wrong type": ({"methods": {"mine": {"class_path": 5}}}, ["methods.mine.class_path is 5", "a text"]),
    "unknown argument": ({"methods": {"maco": {"stepz": 5}}}, ["methods.maco", "stepz", "did you mean steps"]),
    "argument that is a number": ({"methods": {"maco": {1: 5}}}, ["methods.maco", "takes no 1"]),
    "argument of the wrong type": (
        {"methods": {"maco": {"steps": "abc"}}},
        ["methods.maco.steps", "a whole number", "abc"],
    ),
    "argument of the whole suite": ({"methods": {"maco": {"seed": 1}}}, ["methods.maco", "seed", "beside methods"]),
    "steps, zero": ({"methods": {"maco": {"steps": 0}}}, ["--steps must be between", "not 0", "maco"]),
    "steps, null": ({"methods": {"maco": {"steps": None}}}, ["steps must not be null", "maco"]),
    "canvas of one side": ({"methods": {"maco": {"canvas": [64]}}}, ["methods.maco.canvas", "a list of 2", "[64]"]),
    "sides in words": ({"methods": {"maco": {"crop_side": ["a", "b"]}}}, ["methods.maco.crop_side", "a number", "a"]),
    "choice": ({"methods": {"maco": {"crop_centre": 3}}}, ["methods.maco.crop_centre must be inside or normal, not 3"]),
    "not a number": ({"methods": {"maco": {"crop_spread": float("nan")}}}, ["methods.maco.crop_spread is nan"]),
}  # fmt: skip


@pytest.mark.parametrize(("change", "words"), SUITES.values(), ids=SUITES)
def test_suites(refused, change, words):
    data = {k: v for k, v in {**SUITE, **change}.items() if v is not ...}
    (refused.folder / "mine.yaml").write_text(yaml.safe_dump(data))
    refused(["run", "--suite", "mine.yaml"], *words)


@pytest.mark.parametrize(
    ("content", "name", "word"),
    [
        (b"model: [", "mine.yaml", "cannot be read as YAML"),
        (b"\xff\xfe\x00", "mine.yaml", "cannot be read as YAML"),
        (b"!!python/object/apply:os.getcwd []", "mine.yaml", "cannot be read as YAML"),
        (b"- a\n- b\n", "mine.yaml", "must hold keys and values"),
        (b"", "mine.yaml", "must hold keys and values"),
        (yaml.safe_dump(SUITE).encode(), "my suite.yaml", "letters"),
    ],
    ids=["cut off", "binary", "python", "a list", "empty", "name with a space"],
)
def test_suite_files(refused, content, name, word):
    (refused.folder / name).write_bytes(content)
    refused(["run", "--suite", name], f"--suite {name}", word)


# --- folders of images ------------------------------------------------------------------------------------------------


def picture(path: Path, seed: int = 0) -> Path:
    """A picture of noise, 96 x 80."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (80, 96, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


@pytest.fixture
def photographs(tmp_path) -> Path:
    """Two pictures with a class, and two that cannot be decoded: one is no image, the other was cut off."""
    folder = tmp_path / "photographs"
    picture(folder / "n02165456" / "a.jpg", 1)
    whole = picture(folder / "n02279972" / "b.jpg", 2).read_bytes()
    (folder / "n02279972" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "n02165456" / "broken.png").write_bytes(b"not an image")
    return folder


@pytest.mark.parametrize("args", [["run"], ["evaluate", "pictures"], ["reference", "--spectrum"]], ids=lambda a: a[0])
def test_data_that_is_missing_or_empty(refused, args):
    picture(refused.folder / "pictures" / "301.png")
    refused([*args, "--data", "nowhere"], "--data nowhere", "not a folder")
    refused([*args, "--data", "pictures/301.png"], "--data pictures/301.png", "not a folder")
    (refused.folder / "empty" / "n02165456").mkdir(parents=True)
    (refused.folder / "empty" / "n02165456" / "readme.txt").write_text("no image")
    (refused.folder / "empty" / "folder.jpg").mkdir()
    refused([*args, "--data", "empty"], "--data empty", "no image", ".jpg")


@pytest.mark.parametrize("args", [["run"], ["evaluate", "pictures"]], ids=lambda a: a[0])
def test_data_without_a_class_or_without_a_whole_image(refused, args):
    picture(refused.folder / "pictures" / "301.png")
    picture(refused.folder / "named" / "holiday" / "beach.png")
    refused([*args, "--data", "named"], "--data named", "class", "n02165456")
    (refused.folder / "broken" / "301").mkdir(parents=True)
    (refused.folder / "broken" / "301" / "a.jpg").write_bytes(b"no")
    refused([*args, "--data", "broken"], "--data broken", "no image that has a class can be decoded")


def test_reference_without_data_or_work(refused):
    picture(refused.folder / "pictures" / "301.png")
    refused(["reference", "--spectrum"], "--data is missing")
    refused(["reference", "--data", "pictures"], "--models, --spectrum")
    flat = ["reference", "--data", "pictures", "--pack", "pack"]
    refused([*flat, "--spectrum", "--flat", "301"], "--flat needs --models")
    refused(["reference", "--data", "pictures", "--spectrum", "--flat", "301"], "--flat needs --pack")
    flat += ["--models", "efficientnet_lite0", "--flat"]
    refused([*flat, "1000"], "--flat 1000", "0 to 999")
    refused([*flat, "blocks.2:3"], "--flat blocks.2:3", "no class")


@pytest.mark.parametrize("data", ["root", imagenette.NAME])
def test_a_pack_is_of_the_set_that_was_announced(refused, capsys, monkeypatch, data):
    root = refused.folder / "root"
    kept = picture(root / "train" / "n02165456" / "a.png", 1)
    picture(root / "val" / "n02165456" / "b.png", 2)
    monkeypatch.setattr(imagenette, "folder", lambda flag: root)
    for other in ("hfds/some/photographs", "wds/root"):
        refused(["reference", "--data", other, "--spectrum", "--pack", "pack"], "--pack is of a folder", other)
    assert main(["reference", "--data", data, "--spectrum", "--pack", "pack", "--out", "ref"]) == 0
    assert "1 images" in capsys.readouterr().out
    facts = json.loads((refused.folder / "pack" / "provenance.json").read_text())
    assert (facts["images"], facts["source"]) == (1, "train")
    assert facts["sha256"] == fingerprint(root / "train", [ImageFile(kept, None)])
    assert len(list((refused.folder / "ref").iterdir())) == 1, "one pass"


def test_undecodable_images_of_a_reference_are_named_skipped_and_counted(photographs, tmp_path):
    done = command(
        "reference",
        "--data",
        "photographs",
        "--models",
        "efficientnet_lite0",
        "--spectrum",
        "--out",
        "ref",
        "--pack",
        "pack",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for name in ("broken.png", "cut.jpg"):
        assert done.stderr.count(f"{name} cannot be decoded and is skipped") == 1
    assert done.stderr.count("2 of 4 images") == 1
    assert "Traceback" not in done.stderr
    facts = json.loads((tmp_path / "pack" / "provenance.json").read_text())
    assert (facts["images"], facts["skipped"]) == (2, 2)


def test_undecodable_images_of_evaluate_are_named_skipped_and_counted(photographs, refused, capsys):
    assert main(["evaluate", "photographs", "--metrics", "logit", "--out", "out"]) == 0
    said = capsys.readouterr().err
    for name in ("broken.png", "cut.jpg"):
        assert said.count(f"{name} cannot be decoded and is skipped") == 1
    assert "2 images skipped as broken, 0 without a class" in said
    record = records.Record.read(refused.folder / "out" / "records" / "efficientnet_lite0" / "photographs.json")
    assert record.n == 2


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_whatever_is_wrong_with_an_image_it_is_undecodable(tmp_path, suffix):
    """Changed and missing bytes, in the facts about the image too, end as the OSError that the commands skip."""
    random = np.random.default_rng(0)
    path = tmp_path / f"a{suffix}"
    facts = Image.Exif()
    facts[274], facts[271] = 6, "maker"
    Image.fromarray(random.integers(0, 255, (24, 20, 3), dtype=np.uint8)).save(path, exif=facts.tobytes())
    whole, undecodable = path.read_bytes(), 0
    for _ in range(400):
        content = np.frombuffer(whole, np.uint8).copy()
        places = random.integers(0, min(len(content), 200), random.integers(1, 7))
        content[places] = random.integers(0, 256, len(places))
        path.write_bytes(content.tobytes()[: len(content) if random.random() < 0.8 else random.integers(len(content))])
        try:
            open_rgb(path)
        except OSError:
            undecodable += 1
    assert undecodable > 50


def test_evaluate_of_a_folder_that_is_none(refused):
    refused(["evaluate", "nowhere"], "FOLDER nowhere", "not a folder")
    (refused.folder / "empty").mkdir()
    refused(["evaluate", "empty"], "FOLDER empty", "no image")
    (refused.folder / "broken").mkdir()
    (refused.folder / "broken" / "301.png").write_bytes(b"no")
    assert main(["evaluate", "broken"]) == 2


def test_evaluate_of_a_folder_without_a_class_in_its_names(refused):
    for name in ("beach.png", "1000.png", "sub/n00000000_1.png"):
        picture(refused.folder / "holiday" / name)
    refused(["evaluate", "holiday"], "holiday", "class", "301.png", "n02165456_1.png")


# --- weights ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lite0() -> dict[str, torch.Tensor]:
    """The tensors of the embedded default network."""
    from featvis.networks.loading import load

    return {k: v.contiguous().clone() for k, v in load("efficientnet_lite0", "float32").net.state_dict().items()}


@pytest.fixture
def weights(refused, monkeypatch) -> Path:
    """The path of the weights file that the default network is read from."""
    folder = refused.folder / "weights"
    folder.mkdir()
    monkeypatch.setenv("FEATVIS_WEIGHTS", str(folder))
    return folder / "efficientnet_lite0.safetensors"


COMMANDS = [["layers", "efficientnet_lite0"], ["run"], ["generate", "--model", "MACO", "--out", "x"]]


@pytest.mark.parametrize("args", COMMANDS, ids=lambda a: a[0])
def test_weights_that_are_truncated(refused, weights, lite0, args):
    save_file(lite0, weights, metadata=LITE0)
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    refused(args, "efficientnet_lite0", str(weights), "cannot be read", "whole")


def test_weights_that_are_empty(refused, weights):
    weights.write_bytes(b"")
    refused(COMMANDS[0], "efficientnet_lite0", str(weights), "cannot be read", "whole")


@pytest.mark.parametrize("args", COMMANDS, ids=lambda a: a[0])
def test_weights_of_another_network(refused, weights, lite0, args):
    save_file({k: v for k, v in lite0.items() if "blocks.6" not in k}, weights)
    refused(args, "efficientnet_lite0", str(weights), "another network", "missing")


def test_weights_with_other_shapes(refused, weights, lite0):
    save_file({**lite0, "classifier.bias": torch.zeros(10)}, weights)
    refused(COMMANDS[0], str(weights), "another network", "classifier.bias")


class Harm:
    """What runs when it is unpickled."""

    def __reduce__(self):
        return (Path.touch, (Path("harm"),))


@pytest.mark.parametrize("args", COMMANDS, ids=lambda a: a[0])
def test_weights_that_are_a_pickle_are_not_loaded(refused, weights, args):
    torch.save(Harm(), weights)
    refused(args, "efficientnet_lite0", str(weights), "cannot be read", "pickled objects are never loaded")
    weights.rename(weights.with_suffix(".pth"))
    refused(args, "FEATVIS_WEIGHTS", "efficientnet_lite0.pth", "efficientnet_lite0.safetensors", "save_file")


@pytest.mark.parametrize(
    "facts",
    [{"mean": "half"}, {"mean": "[0.5]"}, {"std": "[0, 0, 0]"}, {"input_size": "[224]"}, {"create_kwargs": "[1]"}],
    ids=lambda f: next(iter(f)) + " " + next(iter(f.values())),
)
def test_weights_with_unusable_metadata(refused, weights, lite0, facts):
    save_file(lite0, weights.with_name("mine.safetensors"), metadata=LITE0 | facts)
    refused(["layers", "mine"], "metadata", "mine.safetensors")
    save_file(lite0, weights.with_name("mine.safetensors"), metadata=LITE0 | {"architecture": "tf_efficientnet_lite"})
    refused(["layers", "mine"], "mine.safetensors", "timm does not know", "tf_efficientnet_lite4")


def test_weights_whose_name_cannot_be_a_file_name_of_a_run(refused, weights, lite0):
    save_file(lite0, weights.with_name("my net.safetensors"), metadata=LITE0)
    refused(["run", "--model", "my net"], "--model", "'my net'", "letters")


def test_weights_folder_that_is_none(refused, monkeypatch):
    monkeypatch.setenv("FEATVIS_WEIGHTS", "nowhere")
    for args in (["models"], *COMMANDS):
        refused(args, "FEATVIS_WEIGHTS=nowhere", "not a folder", "safetensors")


# --- output folders ---------------------------------------------------------------------------------------------------


def test_out_that_cannot_be_written(refused):
    picture(refused.folder / "pictures" / "301.png")
    (refused.folder / "file").write_text("in the way")
    (refused.folder / "records").mkdir()
    generate = ["generate", "--model", "MACO", "--data.units", "3"]
    reference = ["reference", "--data", "pictures", "--spectrum"]
    for args in (
        ["run", "--units", "3"],
        generate,
        ["evaluate", "pictures"],
        ["tables", "--records", "records"],
        reference,
    ):
        for out in ("file", "file/sub", "file/sub/further"):
            refused([*args, "--out", out], f"--out {out} cannot be written", "name a folder that can")


def test_a_spectrum_that_is_not_made_yet_is_refused_and_nothing_written_of_its_images(refused):
    picture(refused.folder / "pictures" / "301" / "a.png")
    picture(refused.folder / "others" / "301" / "b.png", 2)
    for more in ([], ["--dry-run"]):
        refused(
            ["run", "--units", "301", *SMALL, "--data", "pictures", "--spectrum-data", "others", *more],
            "the spectrum of --spectrum-data others is not made yet", "featvis reference --data others --spectrum",
        )  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A folder with a finished run in `out`."""
    folder = tmp_path_factory.mktemp("finished")
    done = command("run", "--methods", "maco", "--units", "ladybug,323", *SMALL, "--out", "out", cwd=folder, **PLAIN)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_out_that_holds_another_configurations_run(finished, capsys, monkeypatch):
    monkeypatch.chdir(finished)
    refused = Refusals(finished, capsys)
    rerun = ["run", "--methods", "maco", "--units", "ladybug,323", *SMALL, "--out", "out"]
    refused([*rerun, "--units", "ladybug"], "--out out", "another run", "units", "another folder")
    refused([*rerun, "--seed", "1"], "--out out", "another run", "seed", "another folder")
    refused([*rerun, "--steps", "3"], "--out out", "maco", "another configuration", "another folder")
    cell = next((finished / "out" / "efficientnet_lite0" / "maco").glob("*/config.yaml")).parent
    generate = ["generate", "--model", "MACO", "--data.units", "ladybug", "--out", str(cell)]
    refused(generate, f"--out {cell}", "another configuration", "another folder")
    picture(finished / "pictures" / "301.png")
    refused(["evaluate", "pictures", "--out", "out"], "--out out", "another suite", "quick", "another folder")


@pytest.mark.parametrize("content", [b"- a list\n", b"model: [", b"\xff\xfe"], ids=["a list", "cut off", "binary"])
def test_out_with_a_suite_file_that_is_none(refused, content):
    folder = refused.folder / "out" / "efficientnet_lite0"
    folder.mkdir(parents=True)
    (folder / "suite.yaml").write_bytes(content)
    refused(["run", "--units", "3", "--out", "out"], "--out out", "suite.yaml", "another folder")


def test_tables_without_records(refused):
    refused(["tables", "--records", "nowhere"], "--records nowhere", "not a folder")
    (refused.folder / "records").mkdir()
    refused(["tables", "--records", "records"], "--records records", "no record")
    (refused.folder / "records" / "maco.json").write_text('{"suite": "quick"')
    refused(["tables", "--records", "records"], "maco.json")


# --- files and numbers that break on the way --------------------------------------------------------------------------


def test_a_png_cut_off_in_the_middle_is_made_again(finished):
    folder = next(p.parent for p in (finished / "out" / "efficientnet_lite0" / "maco").glob("*/301.png"))
    whole = tree(folder)
    path = folder / "301.png"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    args = ("run", "--methods", "maco", "--units", "ladybug,323", *SMALL, "--out", "out")
    done = command(*args, cwd=finished, **PLAIN)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "1 images missing" in done.stdout
    for name in ("301.png", "323.png"):
        assert (folder / name).read_bytes() == whole[name]


def test_every_cut_of_a_png_is_found(tmp_path):
    path = tmp_path / "301.png"
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    images.write(path, pixels, pixels[..., 0], {"config_hash": "0123456789ab"})
    whole = path.read_bytes()
    assert images.verify(path, "0123456789ab") is None
    # The last 20 bytes are checksums and the mark of the end: without them the pixels are still whole.
    for length in range(len(whole) - 20):
        path.write_bytes(whole[:length])
        assert images.verify(path, "0123456789ab") is not None, f"{length} of {len(whole)} bytes"


def test_nan_in_one_unit_fails_that_unit_alone(refused, weights, lite0, capsys):
    """A logit that is NaN from the first step on; the other unit of the batch gets its image, and keeps it."""
    # In the bias: a weight would make every gradient NaN, as 0 * NaN is.
    lite0 = {**lite0, "classifier.bias": lite0["classifier.bias"].clone()}
    lite0["classifier.bias"][301] = float("nan")
    save_file(lite0, weights, metadata=LITE0)
    args = ["generate", "--model", "MACO", "--model.steps", "2", "--model.views", "1", "--model.canvas", "64"]
    args += ["--data.units", "301,323", "--trainer.enable_progress_bar", "false", "--out", "out"]
    made = []
    for finished in (0, 1):
        assert main(args) == 1
        said = capsys.readouterr()
        assert "featvis: unit 301 failed at step 0" in said.err
        assert f"1 images in out ({finished} were there before)" in said.out
        assert json.loads((refused.folder / "out" / "301.failed.json").read_text())["step"] == 0
        made.append({p.name: p.read_bytes() for p in (refused.folder / "out").glob("*.png")})
        batches = (refused.folder / "out" / "timings.jsonl").read_text().splitlines()
        assert len(batches) == finished + 1, "the failed unit is tried again"
    assert set(made[0]) == {"323.png"}
    assert made[0] == made[1]


METHOD = """
from featvis.generators import MACO


class Breaks(MACO):
    def ascend(self, canvas, units, frame, streams):
        # The units of a batch may go through the network one group after the other.
        self.calls = getattr(self, "calls", 0) + any(unit.id == "301" for unit in units)
        gradient, score = super().ascend(canvas, units, frame, streams)
        for i, unit in enumerate(units):
            if unit.id == "301" and self.calls == 2:
                gradient[i, 0, 5, 7] = float("nan")
        return gradient, score
"""


def test_a_run_with_a_failed_unit_scores_the_others_and_says_so(tmp_path):
    (tmp_path / "mine.py").write_text(METHOD)
    args = ("run", "--methods", "mine.Breaks", "--units", "301,323", *SMALL, "--steps", "3", "--out", "out")
    done = command(*args, cwd=tmp_path, **PLAIN)
    assert done.returncode == 1, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    assert "featvis: unit 301 failed at step 1" in done.stderr
    (path,) = (tmp_path / "out" / "efficientnet_lite0" / "mine.Breaks").glob("*/*.png")
    assert path.name == "323.png"
    record = records.Record.read(tmp_path / "out" / "records" / "efficientnet_lite0" / "mine.Breaks.json")
    assert record.status == "failed"
    assert record.error is not None
    assert "unit 301 at step 1" in record.error
    assert [(f.unit, f.step) for f in record.failed_units] == [("301", 1)]
    assert record.n == 1
    logit = record.metric("logit")
    assert logit is not None
    assert logit.value is not None


def test_a_canvas_that_the_last_step_breaks_is_no_image(classifier):
    """A step so large that the parameters overflow: found though no step follows it."""
    from featvis.generators import CBR
    from featvis.networks.units import parse_units

    class Overflow(CBR):
        def optimizer(self, parameters):
            return torch.optim.SGD(parameters, lr=float("inf"))

    generator = Overflow(steps=1, canvas=32)
    generator.classifier = classifier
    made = generator.predict_step(parse_units("301,323", classifier))
    assert made.failed == {0: 1, 1: 1}


# --- the real thing ---------------------------------------------------------------------------------------------------

REAL = {
    "run": (["run", "--steps", "0"], ["--steps must be between 1 and 100000, not 0"]),
    "generate": (
        ["generate", "--model", "MACO", "--model.steps", "0", "--out", "x"],
        ["--model.steps must be between 1 and 100000, not 0"],
    ),
    "evaluate": (["evaluate", "nowhere"], ["FOLDER nowhere", "not a folder"]),
    "tables": (["tables", "--out", "/dev/null/x"], ["--out /dev/null/x cannot be written"]),
    "reference": (["reference", "--data", "nowhere", "--spectrum"], ["--data nowhere", "not a folder"]),
    "models": (["models", "--all"], ["unknown option --all"]),
    "layers": (["layers", "efficientnet_lit0"], ["MODEL efficientnet_lit0", "efficientnet_lite0"]),
    "unwritable": (["run", "--units", "3", *SMALL, "--out", "/dev/null/x"], ["--out /dev/null/x cannot be written"]),
    "unwritable cell": (
        ["generate", "--model", "MACO", "--data.units", "3", "--wandb", "offline", "--out", "/dev/null/x"],
        ["--out /dev/null/x cannot be written"],
    ),
}


@pytest.mark.parametrize(("args", "words"), REAL.values(), ids=REAL)
def test_commands_in_a_process_of_their_own(tmp_path, args, words):
    (tmp_path / "results" / "records").mkdir(parents=True)
    before = tree(tmp_path)
    done = command(*args, cwd=tmp_path)
    check_sentence(done.returncode, done.stderr, words)
    assert done.stdout == ""
    assert tree(tmp_path) == before
