"""CONTRIBUTING.md, followed to the letter in a copy of the project."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from places import ROOT

BLOCK = re.compile(
    r"^```(?:python|yaml)\n# (?P<file>[\w/]+\.(?:py|yaml))\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


def blocks() -> dict[str, str]:
    """What CONTRIBUTING says of each file that it names."""
    found = {match["file"]: match["text"] for match in BLOCK.finditer((ROOT / "CONTRIBUTING.md").read_text())}
    assert len(found) >= 6, "CONTRIBUTING.md has lost its blocks"
    return found


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of the project with everything that CONTRIBUTING adds."""
    folder = tmp_path_factory.mktemp("project")
    for part in ("featvis", "benchmark", "configs"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file, text in blocks().items():
        path = folder / file
        if not path.exists():
            path.write_text(text)
            continue
        # A file that is there already: its imports join the others, its last line the list that it opens.
        lines = text.splitlines()
        start = next(i for i, line in enumerate(lines) if line.endswith(("{", "(")))
        old = path.read_text()
        assert old.count(f"\n{lines[start]}\n") == 1, f"{file} has no line {lines[start]}"
        new = old.replace(f"\n{lines[start]}\n", "\n" + "\n".join(lines[start:]) + "\n")
        first = re.search(r"^from (featvis|benchmark)", new, re.MULTILINE)
        assert first is not None
        imports = "".join(f"{line}\n" for line in lines[:start])
        path.write_text(new[: first.start()] + imports + new[first.start() :])
    return folder


def featvis(project: Path, *args: str) -> str:
    """What a command of the copy prints."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmark", *args], cwd=project, capture_output=True, text=True, check=False,
        # A fresh copy has no compiled loops yet, and compiling them takes longer than what is tested here.
        env={**os.environ, "PYTHONPATH": str(project), "OMP_NUM_THREADS": "1", "FEATVIS_ENGINE": "torch"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_command_is_a_file_and_its_lines_in_the_list(project):
    assert featvis(project, "presets", "--containing", "mine").splitlines() == ["mine"]


def test_a_method_a_network_and_a_suite_are_a_file_each_and_a_metric_three_places(project):
    flags = (
        "--units",
        "ladybug",
        "--steps",
        "2",
        "--crops",
        "1",
        "--canvas",
        "64",
        "--wandb",
        "disabled",
        "--out",
        "out",
    )
    printed = featvis(project, "run", "--suite", "mine", *flags)
    assert "mine" in printed
    record = json.loads((project / "out" / "records" / "lite0" / "mine.json").read_text())
    assert (record["model"], record["status"], record["n"]) == ("tf_efficientnet_lite0.in1k", "done", 1)
    assert record["config"]["generator"]["class_path"] == "featvis.generators.mine.Mine"
    assert record["preset"] == "mine"
    values = {m["name"]: m["value"] for m in record["metrics"]}
    assert sorted(values) == ["brightness", "logit"]
    png = next((project / "out" / record["images"]).glob("*.png"))
    expected = np.asarray(Image.open(png), np.float64)[..., :3].mean() / 255
    assert values["brightness"] == pytest.approx(expected, abs=1e-6)
    tables = project / "out" / "tables"
    for kind in ("md", "tex", "csv"):
        assert any("rightness" in file.read_text() for file in tables.rglob(f"*.{kind}")), kind
    assert "Brightness" in (project / "out" / "index.html").read_text()
    assert "Brightness" in printed


def test_the_table_names_every_kind_that_has_a_chapter():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    kinds = re.findall(r"^\| a (\w+) \|", text, re.MULTILINE)
    assert sorted(kinds) == ["command", "method", "metric", "network", "suite"]
    assert set(kinds) == set(re.findall(r"^## A (\w+)$", text, re.MULTILINE))
