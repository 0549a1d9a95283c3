"""What can be answered without torch is: every `--help`, and bad input that a look at names and files shows."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from commands import ROOT, check_sentence

from benchmark.cli import COMMANDS
from benchmark.commands.generate import HELP
from benchmark.suites.presets import constructor_arguments, own_methods

HEAVY = ("torch", "timm", "lightning", "torchvision", "numba", "faiss", "pandas", "matplotlib", "sklearn", "wandb")
"""What takes its time to be imported."""
HELPS = [["--help"], *([name, "--help"] for name in COMMANDS)]
GENERATE = ["generate", "--model", "MACO", "--out", "x"]
REFUSED = {
    "alias": (["run", "--model", "flexvit"], ["unknown --model flexvit", "did you mean flexivit"]),
    "tag of no architecture": (["run", "--model", "flexvit.in1k"], ["unknown --model flexvit.in1k", "flexivit"]),
    "alias of a list": (["run", "--classifiers", "flexivit,mobilnet"], ["mobilnet", "mobilenet"]),
    "model of layers": (["layers", "flexvit"], ["unknown MODEL flexvit", "flexivit"]),
    "model of probe": (["probe", "flexvit"], ["unknown MODEL flexvit", "flexivit"]),
    "model of invert": (["invert", "flexvit", "--images", "."], ["unknown MODEL flexvit", "flexivit"]),
    "model of attack": (["attack", "flexvit", "--images", "."], ["unknown MODEL flexvit", "flexivit"]),
    "model of perf": (["perf", "--models", "flexvit"], ["unknown --models flexvit", "flexivit"]),
    "model of generate": ([*GENERATE, "--model.model", "flexvit"], ["unknown --model.model flexvit", "flexivit"]),
    "wrapped": (["run", "--model", "wrap:nowhere.yaml"], ["--model wrap:nowhere.yaml", "no file nowhere.yaml"]),
    "method": (["run", "--methods", "maca"], ["maca", "did you mean maco"]),
    "method of no module": (["run", "--methods", "no_such.Mine"], ["no_such.Mine", "no module no_such"]),
    "method of ours": (["run", "--methods", "featvis.generators.MACA"], ["no MACA", "did you mean MACO"]),
    "method of generate": (["generate", "--model", "MACA", "--out", "x"], ["--model MACA", "did you mean MACO"]),
    "method of probe": (["probe", "flexivit", "--method", "maca"], ["maca", "did you mean maco"]),
    "suite": (["run", "--suite", "quik"], ["--suite quik", "did you mean quick"]),
    "suite that is none": (["run", "--suite", "list.yaml"], ["--suite list.yaml", "must hold keys and values"]),
    "key of a suite": (["run", "--suite", "key.yaml"], ["modle", "did you mean model"]),
    "metric of a suite": (["run", "--suite", "metric.yaml"], ["metrics logits", "did you mean logit"]),
    "metric": (["evaluate", ".", "--metrics", "logits"], ["--metrics logits", "did you mean logit"]),
    "option": (["run", "--batch-sise", "3"], ["--batch-sise", "did you mean --batch-size"]),
    "option of a method": ([*GENERATE, "--model.stepz", "3"], ["--model.stepz", "did you mean steps"]),
    "option of units": ([*GENERATE, "--data.unit", "3"], ["--data.unit", "did you mean --data.units"]),
    "option of the Trainer": ([*GENERATE, "--trainer.device", "3"], ["--trainer.device", "--trainer.devices"]),
    "devices": (["run", "--devices", "0"], ["--devices must be between 1 and", "not 0"]),
    "batch size": (["run", "--batch-size", "4097"], ["--batch-size must be between 1 and 4096, not 4097"]),
    "steps": (["run", "--steps", "0"], ["--steps must be between 1 and 100000, not 0"]),
    "steps in words": (["run", "--steps", "many"], ["--steps must be a whole number, not many"]),
    "crops": (["run", "--crops", "-1"], ["--crops must be between 1 and 4096, not -1"]),
    "canvas": (["run", "--canvas", "15"], ["--canvas must be between 16 and 8192, not 15"]),
    "canvas of generate": ([*GENERATE, "--model.canvas", "9"], ["--model.canvas must be between 16 and 8192, not 9"]),
    "batches": (["perf", "--batches", "8"], ["--batches 8 is no batch", "8x4"]),
    "wandb": ([*GENERATE, "--wandb", "on"], ["--wandb must be offline, online or disabled, not on"]),
    "config": (["generate", "--config", "nowhere.yaml"], ["--config nowhere.yaml is not a file"]),
    "out": (["run", "--out", "list.yaml/x"], ["--out list.yaml/x cannot be written"]),
    "out of generate": (["generate", "--model", "MACO", "--out", "list.yaml/x"], ["--out list.yaml/x cannot be"]),
    "no out": (["generate", "--model", "MACO"], ["--out is missing"]),
    "data": (["run", "--data", "nowhere"], ["--data nowhere is not a folder"]),
    "repository of somebody else": (["run", "--model", "hf-hub:me/net"], ["--model hf-hub:me/net", "FEATVIS_WEIGHTS"]),
    "network of the hub": (["layers", "hf-hub:timm/flexvit"], ["unknown MODEL flexvit", "flexivit"]),
    "data of reference": (["reference", "--spectrum", "--data", "nowhere"], ["--data nowhere is not a folder"]),
    "folder": (["evaluate", "nowhere"], ["FOLDER nowhere is not a folder"]),
    "out in the folder": (["evaluate", "."], ["--out runs/evaluate lies in FOLDER .,", "elsewhere with --out"]),
    "records": (["tables", "--records", "nowhere"], ["--records nowhere is not a folder"]),
    "records of agree": (["agree", "--records", "nowhere"], ["--records nowhere is not a folder"]),
    "record": (["rerun", "nowhere.json"], ["RECORD nowhere.json is not a file"]),
    "run of path": (["path", "nowhere", "--data", "."], ["RUN nowhere is not the folder of a run"]),
    "run": (["verify", "nowhere"], ["RUN nowhere is not a folder"]),
    "images": (["invert", "flexivit", "--images", "nowhere"], ["--images nowhere is not a folder"]),
    "command": (["rum"], ["unknown command rum", "did you mean run"]),
    "no command": ([], ["a command is missing", "run, generate", "--help"]),
    "binary config": (["run", "--config", "binary.yaml"], ["--config binary.yaml is no text in UTF-8"]),
    "binary config of all": (["--config=binary.yaml", "run"], ["--config binary.yaml is no text in UTF-8"]),
    "binary config of generate": (["generate", "--config", "binary.yaml"], ["binary.yaml is no text in UTF-8"]),
    "name of a file that is too long": (["rerun", "x" * 300], ["xxx… cannot be used (File name too long)"]),
}  # fmt: skip
SUITE = "model: efficientnet_lite0\nunits: '301'\nmethods: [maco]\n"
SCRIPT = """
import contextlib, io, json, os, sys
from benchmark.cli import main

answers = []
for args, environment in json.loads(sys.stdin.read()):
    os.environ.update(environment)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(args)
        except SystemExit as error:
            code = error.code
    for name in environment:
        del os.environ[name]
    answers.append([code, out.getvalue(), err.getvalue(), sorted(set(HEAVY) & set(sys.modules))])
print(json.dumps(answers))
"""


def answers(cases: list[tuple[list[str], dict[str, str]]], folder: Path) -> list[list]:
    """Exit code, both outputs, and which slow modules are imported by then, of each command, in one process."""
    env = {k: v for k, v in os.environ.items() if k not in ("FEATVIS_WEIGHTS", "FEATVIS_ENGINE")}
    done = subprocess.run(
        [sys.executable, "-c", f"HEAVY = {HEAVY}\n{SCRIPT}"], input=json.dumps(cases), cwd=folder, text=True,
        capture_output=True, check=False, env={**env, "PYTHONPATH": str(ROOT), "COLUMNS": "120"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with suites that are none."""
    folder = tmp_path_factory.mktemp("quick")
    (folder / "list.yaml").write_text("- a\n")
    (folder / "key.yaml").write_text(SUITE.replace("model", "modle"))
    (folder / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    (folder / "metric.yaml").write_text(SUITE + "metrics: [logits]\n")
    return folder


@pytest.fixture(scope="module")
def refused(folder) -> dict[str, list]:
    """The answers to all bad inputs."""
    return dict(zip(REFUSED, answers([(args, {}) for args, _ in REFUSED.values()], folder), strict=True))


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_refused_before_anything_slow_is_imported(refused, name):
    code, out, err, imported = refused[name]
    check_sentence(code, err, REFUSED[name][1])
    assert out == ""
    assert imported == []


def test_help_is_printed_before_anything_slow_is_imported(folder):
    for args, (code, out, err, imported) in zip(HELPS, answers([(a, {}) for a in HELPS], folder), strict=True):
        assert code == 0, (args, err)
        assert "usage: featvis" in out
        if args[0] != "generate":
            assert not re.search(r"--[a-z]+_|--dry-run\s*{", out), "options as they are written"
        assert imported == [], args
        if args == ["--help"]:
            for name, function in COMMANDS.items():
                assert f" {name} " in out
                said = function["_help"] if isinstance(function, dict) else str(function.__doc__)
                assert said.split()[0] in out


@pytest.mark.parametrize("value", ["cuda", "Torch", "compiled,torch"])
def test_an_engine_that_is_none_is_refused_by_every_command_alike(folder, value):
    cases = [(args, {"FEATVIS_ENGINE": value}) for args in (["run"], GENERATE, ["tables"], ["models"])]
    for code, out, err, imported in answers(cases, folder):
        check_sentence(code, err, [f"FEATVIS_ENGINE={value}", "compiled", "torch"])
        assert (out, imported) == ("", [])


def test_a_wandb_mode_that_is_none_is_refused_by_every_command_alike(folder):
    wandb = {"WANDB_MODE": "ofline"}
    commands = (
        ["run"], GENERATE, ["evaluate", "."], ["probe", "flexivit"], ["invert", "flexivit", "--images", "."], ["perf"],
        ["attack", "flexivit", "--images", "."], ["reference", "--data", ".", "--spectrum"], ["perf-peers"],
        ["concepts", "flexivit", "--classes", "1", "--data", "."],
    )  # fmt: skip
    for code, out, err, imported in answers([(args, wandb) for args in commands], folder):
        check_sentence(code, err, ["WANDB_MODE must be offline, online or disabled, not ofline"])
        assert (out, imported) == ("", [])


def test_the_short_help_of_generate_names_options_that_the_parser_has():
    """And what is read from the text of a constructor is what Python makes of it."""
    import inspect

    from lightning.pytorch import Trainer

    from benchmark.commands import generate
    from benchmark.running.generate import METHODS, parsed
    from benchmark.suites.methods import accepted

    assert own_methods() == sorted(METHODS)
    assert generate.trainer() == [name for name in inspect.signature(Trainer.__init__).parameters if name != "self"]
    for cls in METHODS.values():
        assert set(accepted(cls)) <= set(generate.generator_arguments("MACO"))
    cli = parsed(["--model", "MACO", "--data.units", "301", "--out", "x"])
    known = {option for action in cli.parser._actions for option in action.option_strings}
    known |= {f"--model.{name}" for name in accepted(METHODS["MACO"])}
    known |= {"--help-all", "--model.ARGUMENT", "--trainer.ARGUMENT"}
    named = {word.strip(";,)`") for word in HELP.split() if word.startswith("--")} - {"--crops"}
    assert named
    assert named <= known


def test_constructor_arguments_are_read_from_text(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("class A:\n    def __init__(self, a: int, *, b=1, **rest): ...\n    def other(self, c): ...\n")
    assert constructor_arguments(path) == ["a", "b"]


def test_timms_files_show_the_architectures_that_timm_has():
    """If timm's files looked otherwise, its names would be asked of timm: slower, and never wrong."""
    import timm

    from featvis.networks.names import check_name, written_in_timm

    architectures, tags = written_in_timm()
    if architectures:
        assert set(timm.list_models()) <= architectures
        assert len(set(tags) & set(timm.list_pretrained())) > 1000
    for tag in timm.list_pretrained():
        check_name(tag)
