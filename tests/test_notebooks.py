"""The notebooks run from top to bottom on a bare clone, show pictures, and say what they are there to say."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import figures
import nbformat
import pytest
from nbclient import NotebookClient
from places import SHARED
from warm import SINGLE, start

pytestmark = pytest.mark.usefixtures("plain_engine")
ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
STEPS = os.environ.get("NOTEBOOK_STEPS", "4")
"""As many steps an optimisation may take: NOTEBOOK_STEPS=1000 runs the notebooks as they are."""
CODE = "import sys; sys.path.insert(0, 'tests/support'); from notebook import main; main(*sys.argv[1:])"
SAYS = {
    "1_quick_start": (
        r"ladybug: logit -?\d+\.\d",
        r"985@1 +daisy",
        r"exit code 0: 985\.png, \(128, 128, 4\)",
        r"total +40 +40 +10240 +\d+",
        r"was anything written\? False",
    ),
    "2_your_own_network": (
        r"loss \d\.\d+; \d+% of 240 new images are right",
        r"features\.0 +12 x 32 x 32",
        r"head +6 +6 channels, one value",
        r"red lying +seen as \w+ (lying|upright)",
    ),
    "3_layers": (
        r"blocks\.6 +320 channels, mean over 7 x 7 positions",
        r"blocks\.3: \(37, 192\), mean over 37 tokens, cls included; grid of \(6, 6\)",
        r"am_pixel +activation +-?\d+",
        r"am_literal +activation +-?\d+",
        r"am_lucid +activation +-?\d+",
    ),
    "4_concepts_and_inversion": (
        r"layer bn2; importance -?\d\.\d\d, -?\d\.\d\d, -?\d\.\d\d",
        r"cosine blocks\.1\.1: cosine 0\.\d+",
        r"cosine blocks\.6\.0: cosine 0\.\d+",
    ),
    "5_adversarial_examples": (
        r"before +\S.* banana \d+\.\d%, logit -?\d+\.\d\d",
        r"after +\S.* banana \d+\.\d%, logit -?\d+\.\d\d",
        r"largest change [1-4] of 255 levels",
        r"Success",
        r"Targeted success",
    ),
    "6_add_a_method": (
        r"coarse_first +my_method\.CoarseFirst +2 images",
        r"real +maco +fourier +coarse_first +real, other classes +noise",
        r"Logit ↑( +-?[\d.]+\*?){4} +— \(\d\) +-?[\d.]+",
    ),
    "7_rivals": (
        r"\w.*: \d+ images",
        r"Fourier +sees nothing",
        r"MACO +sees natural spectrum",
        r"DeepInversion +sees batch statistics",
        r"VITAL +sees \d+ images of the class",
        r"random +loss \d+\.\d\d at the first step",
    ),
}
"""What each prints, whatever images it has, however an optimisation ends, and on whatever machine."""


def outputs(notebook):
    return [o for c in notebook.cells if c.cell_type == "code" for o in c.outputs]


@pytest.fixture
def surroundings(tmp_path, monkeypatch) -> None:
    """What a notebook writes goes where Python makes temporary folders; its images are real ones, if there are any."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv(figures.ASKED, "1")
    for name, value in SINGLE.items():
        monkeypatch.setenv(name, value)
    sample = SHARED / "imagenet-sample"
    if sample.is_dir():
        monkeypatch.setenv("FEATVIS_IMAGES", str(sample))
    else:
        monkeypatch.delenv("FEATVIS_IMAGES", raising=False)


def run(path: Path, folder: Path) -> tuple[str, int]:
    """The text that a notebook prints, and its number of pictures, after few steps of every optimisation."""
    arguments = ("-c", CODE, str(path), str(folder / "said.json"), STEPS)
    assert start(*arguments, cwd=ROOT).wait(1200) == 0
    said = json.loads((folder / "said.json").read_text())
    assert said["error"] is None, f"{said['error']}\n{said['text'][-3000:]}"
    return said["text"], said["pictures"]


@pytest.mark.parametrize("path", [p for p in NOTEBOOKS if p.stem in SAYS], ids=lambda p: p.stem)
def test_notebook_runs(path, tmp_path, surroundings):
    text, pictures = run(path, tmp_path)
    for pattern in SAYS[path.stem]:
        assert re.search(pattern, text), f"{pattern} is not in:\n{text}"
    assert pictures >= 2
    if path.stem == "2_your_own_network":
        # By chance it would be 17 %.
        assert float(re.findall(r"(\d+)% of 240", text)[0]) > 60
    if path.stem == "5_adversarial_examples":
        before, after = (float(z) for z in re.findall(r"banana \d+\.\d%, logit (-?\d+\.\d\d)", text)[:2])
        assert after > before, "every step goes towards the target"


def test_a_notebook_runs_in_a_kernel(surroundings):
    """As Jupyter runs it; the one that reads the published records, which needs no network."""
    from benchmark.records import record as records

    (path,) = (p for p in NOTEBOOKS if p.stem not in SAYS)
    assert path.stem == "read_results"
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}).execute()
    found = outputs(notebook)
    text = "".join(o.get("text", "") for o in found)
    for record in records.load_all(ROOT / "results" / "records"):
        assert records.shown(record.method) in text
    assert len([o for o in found if "image/png" in o.get("data", {})]) >= 2


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_is_committed_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert not outputs(notebook)
    assert all(c.execution_count is None for c in notebook.cells if c.cell_type == "code")
    assert notebook.metadata.kernelspec.name == "python3"
    assert path.stat().st_size < 20_000
