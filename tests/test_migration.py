"""docs/coming_from.md: every new line runs as it stands there, at a few steps; so do those of the first pages."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from places import ROOT
from torch import Tensor, nn

import featvis

ROW = re.compile(r"^\| `(?P<old>[^`]+)` \| `(?P<new>[^`]+)` \|$", re.MULTILINE)
SMALL = {"steps": 2, "canvas": 64, "views": 1}
"""What makes any method quick."""
GIVEN = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "input_size": (64, 64)}
"""What the weights of torchvision's GoogLeNet say of its input, and nobody of that of the network here."""


class Small(nn.Module):
    """As many channels as GoogLeNet has, under the same names, in next to no time."""

    def __init__(self) -> None:
        super().__init__()
        self.conv2 = nn.Conv2d(3, 64, 6, stride=6)
        self.inception3b = nn.Conv2d(64, 480, 1, groups=16)
        self.inception4a = nn.Conv2d(480, 512, 1, groups=16)
        self.inception4b = nn.Conv2d(512, 512, 1, groups=16)
        self.inception5b = nn.Conv2d(512, 1024, 1, groups=16)
        self.fc = nn.Linear(1024, 1000)

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.conv2, self.inception3b, self.inception4a, self.inception4b, self.inception5b):
            x = layer(x).relu()
        return self.fc(x.mean((2, 3)))


def tables() -> dict[str, list[tuple[str, str]]]:
    """The rows of each library's table."""
    _, *chapters = (ROOT / "docs" / "coming_from.md").read_text().split("\n## ")
    return {c.partition("\n")[0]: [(r["old"], r["new"]) for r in ROW.finditer(c)] for c in chapters}


LINES = [pytest.param(new, id=f"{name}-{i}") for name, rows in tables().items() for i, (_, new) in enumerate(rows)]


def quick(call: Callable[..., Any], **given: Any) -> Callable[..., Any]:
    """`featvis.visualize` with few steps of a small canvas, whatever it is asked for."""
    return lambda *args, **kwargs: call(*args, **{**given, **kwargs, **SMALL})


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the page says that its lines find."""
    torch.manual_seed(0)
    given = {"net": Small().eval(), "device": "cpu", "vector": torch.randn(512), "cav": torch.randn(1024)}
    return {"featvis": featvis, **given}


@pytest.mark.plumbing
@pytest.mark.parametrize("line", LINES)
def test_a_new_line_runs(line, names, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(featvis, "visualize", quick(featvis.visualize, **GIVEN))
    out = eval(line, names)
    if line.endswith('.save("pictures")'):
        (path,) = (tmp_path / "pictures").rglob("*.png")
        assert Image.open(path).size == (64, 64)
    elif line == "featvis.layers(net)":
        assert out["units"][["inception4a", "inception5b"]].tolist() == [512, 1024]
    else:
        assert len(out) == len(out.images) == len(out.units) == (10 if re.search(r":\d+-\d+", line) else 1)
        for image in out.images:
            assert image.size == (64, 64)
            assert np.asarray(image.convert("RGB"), float).std() > 0.5, "a picture of one colour"


def test_every_library_has_its_table_and_lucents_examples_are_in_it():
    found = tables()
    assert list(found) == ["Lucent", "Lucid", "Xplique", "Horama", "captum"]
    assert all(len(rows) >= 5 for rows in found.values())
    old = " ".join(line for line, _ in found["Lucent"])
    for example in ("neuron(", "channel(", "direction("):
        assert f"objectives.{example}" in old
    assert ") + objectives." in old, "the joint objective"


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_the_first_lines_of_a_page_run(page, tmp_path, monkeypatch):
    """With the embedded network, in a folder of the user's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(featvis, "visualize", quick(featvis.visualize))
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    blocks = [block for block in blocks if "featvis.visualize" in block or "out." in block]
    assert blocks
    names: dict[str, Any] = {}
    exec("\n".join(blocks), names)
    assert names["out"].images[0].size == (64, 64)
    assert len(names["out"]) == len(names["out"].units)
