"""The notebooks run from top to bottom on a bare clone, show pictures, and say what they are there to say."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from places import SHARED

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SAYS = {
    "1_quick_start": (
        r"ladybug: logit \d+\.\d",
        r"985@1 +daisy",
        r"exit code 0: 985\.png, \(128, 128, 4\)",
        r"total +40 +40 +10240 +\d+",
        r"was anything written\? False",
    ),
    "2_your_own_network": (
        r"loss 0\.\d+; (9\d|100)% of 240 new images are right",
        r"features\.0 +12 x 32 x 32",
        r"head +6 +6 channels, one value",
        r"red lying +seen as red lying",
    ),
    "3_layers": (
        r"blocks\.6 +320 channels, mean over 7 x 7 positions",
        r"blocks\.3: \(37, 192\), mean over 37 tokens, cls included; grid of \(6, 6\)",
        r"am_pixel +activation +\d+",
        r"am_literal +activation +\d+",
        r"am_lucid +activation +\d+",
    ),
    "4_concepts_and_inversion": (
        r"layer bn2; importance \d\.\d\d, \d\.\d\d, \d\.\d\d",
        r"cosine blocks\.1\.1: cosine 0\.\d+",
        r"cosine blocks\.6\.0: cosine 0\.\d+",
    ),
    "5_adversarial_examples": (
        r"before +ladybug +\d+\.\d%",
        r"after +banana +\d+\.\d%",
        r"largest change 4 of 255 levels",
        r"Success",
        r"Targeted success",
    ),
    "6_add_a_method": (
        r"coarse_first +my_method\.CoarseFirst +2 images",
        r"real +maco +fourier +coarse_first +noise",
        r"Logit ↑( +-?[\d.]+\*?){5}",
    ),
    "read_results": (),
}
"""What each prints, whatever images it has."""


def outputs(notebook):
    return [o for c in notebook.cells if c.cell_type == "code" for o in c.outputs]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_runs(path, tmp_path, monkeypatch):
    from benchmark.records import record as records

    # What a notebook writes goes where Python makes temporary folders.
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    sample = SHARED / "imagenet-sample"
    if sample.is_dir():
        monkeypatch.setenv("FEATVIS_IMAGES", str(sample))
    else:
        monkeypatch.delenv("FEATVIS_IMAGES", raising=False)
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=200, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}).execute()
    found = outputs(notebook)
    text = "".join(o.get("text", "") for o in found)
    for pattern in SAYS[path.stem]:
        assert re.search(pattern, text), f"{pattern} is not in:\n{text}"
    if path.stem == "read_results":
        for record in records.load_all(ROOT / "results" / "records"):
            assert record.method in text
    assert len([o for o in found if "image/png" in o.get("data", {})]) >= 2


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_is_committed_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert not outputs(notebook)
    assert all(c.execution_count is None for c in notebook.cells if c.cell_type == "code")
    assert notebook.metadata.kernelspec.name == "python3"
    assert path.stat().st_size < 20_000
