"""The wheel holds all that a run needs, and nothing that lies in the current folder can stand in for it."""

from __future__ import annotations

import compileall
import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from commands import ROOT, tree

from benchmark import launch
from benchmark.records import record as records
from featvis.paths import importable

METHOD = """
from featvis.generators import MACO


class Mine(MACO):
    pass
"""
SUITE = """
model: efficientnet_lite0
units: 301,323
methods: [my_file.Mine]
classifiers: []
metrics: [logit, spectrum]
"""
TRAP = "raise SystemExit('a file of the current folder was imported')\n"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from this checkout and unpacked."""
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("needs hatchling (pip install 'featvis[test]')")
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("featvis-*.whl")
    with zipfile.ZipFile(path) as file:
        file.extractall(folder / "site-packages")
    # As pip leaves it: five processes would compile it, each for itself.
    compileall.compile_dir(folder / "site-packages", quiet=1)
    return folder / "site-packages"


@pytest.fixture
def place(request) -> Path:
    """Where the packages lie: unpacked from the wheel, or the checkout where no wheel can be built."""
    return request.getfixturevalue("wheel") if importlib.util.find_spec("hatchling") is not None else ROOT


def test_the_wheel_holds_every_file_of_the_packages_and_the_configs(wheel):
    """As git has them: code, assets, templates, the paper's numbers; the configs inside of featvis."""
    done = subprocess.run(
        ["git", "ls-files", "-z", "featvis", "benchmark", "configs"], cwd=ROOT, capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("needs a checkout of git's")
    names = [name for name in done.stdout.decode().split("\0") if name and (ROOT / name).is_file()]
    assert any(name.endswith("paper.yaml") for name in names)
    for name in names:
        inside = wheel / (f"featvis/{name}" if name.startswith("configs/") else name)
        assert inside.read_bytes() == (ROOT / name).read_bytes(), name
    (facts,) = wheel.glob("featvis-*.dist-info/METADATA")
    needed = [line for line in facts.read_text().splitlines() if line.startswith("Requires-Dist:")]
    for package in ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"):
        (line,) = (text for text in needed if package in text)
        assert "extra ==" not in line, "the default suite works without extras"


def test_a_run_from_a_folder_with_files_of_our_names(tmp_path, place):
    """On two devices, so that Lightning starts a process of its own; with a method that only this folder has."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in ("benchmark", "featvis", "torch", "lightning"):
        (folder / f"{name}.py").write_text(TRAP)
    (folder / "my_file.py").write_text(METHOD)
    (folder / "mine.yaml").write_text(SUITE)
    # As pip writes it: Python looks beside the script first, not into the current folder.
    script = tmp_path / "bin" / "featvis"
    script.parent.mkdir()
    script.write_text("from benchmark.cli import entry_point\nentry_point()\n")
    before = tree(folder)
    done = subprocess.run(
        [
            sys.executable, str(script), "run", "--suite", "mine.yaml", "--batch-size", "1", "--devices", "2",
            "--steps", "2", "--crops", "1", "--canvas", "64", "--wandb", "disabled", "--out", str(tmp_path / "out"),
        ],
        cwd=folder, capture_output=True, text=True, timeout=1500, check=False,
        env={**os.environ, "PYTHONPATH": str(place), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1",
             "FEATVIS_ENGINE": "torch"},  # what is tested is where things are found; nothing is compiled here yet
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert tree(folder) == before
    found = records.Record.read(tmp_path / "out" / "records" / "efficientnet_lite0" / "my_file.Mine.json")
    assert (found.status, found.n) == ("done", 2)
    assert (tmp_path / "out" / "index.html").is_file()
    (log,) = (tmp_path / "out").rglob("my_file.Mine/*/timings.jsonl")
    assert '"rank": 1' in log.read_text(), "Lightning's own process worked too"


def test_processes_find_our_packages_and_not_the_current_folder(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "benchmark.py").write_text(TRAP)
    for path in ("", os.pathsep, f"/nowhere{os.pathsep}"):
        monkeypatch.setenv("PYTHONPATH", path)
        # An empty entry, which a line such as PYTHONPATH=$PYTHONPATH:/nowhere makes, is the current folder to Python.
        assert launch.call(["-c", "import benchmark; print(benchmark.__file__)"]) == 0
        assert capfd.readouterr().out.strip() == str(Path(launch.__file__).with_name("__init__.py"))


def test_what_is_importable_comes_last(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = list(sys.path)
    for _ in range(2):
        importable(tmp_path)
        assert sys.path == [*before, str(tmp_path)]
