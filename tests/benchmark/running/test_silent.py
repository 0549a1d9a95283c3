"""Units without any gradient are named: in their file, the exit code, the record, the table and the page."""

from __future__ import annotations

from commands import command

from benchmark.cli import main
from benchmark.records.record import load_all
from featvis.storage import images

NET = """
import torch
from torch import nn


def make():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(4 * 20 * 20, 3))
    with torch.no_grad():
        net[2].weight[1] = 0
    return net
"""


def test_a_silent_unit_is_named_everywhere(tmp_path, monkeypatch, capsys):
    (tmp_path / "with_a_silent_unit.py").write_text(NET)
    keys = "class_path: with_a_silent_unit.make\nmean: [0.5, 0.5, 0.5]\nstd: [0.25, 0.25, 0.25]\ninput_size: [24, 24]\n"
    (tmp_path / "net.yaml").write_text(keys)
    monkeypatch.chdir(tmp_path)
    arguments = "generate --model Fourier --model.model wrap:net.yaml --model.steps 2 --model.canvas 24"
    # The silent one and another: channel 1 of the second convolution has no weights.
    assert main([*arguments.split(), "--data.units", "2:0-1", "--out", "made"]) == 1
    assert "unit 2-1 is silent: nothing on the canvas changed it at any step" in capsys.readouterr().err
    assert images.facts(tmp_path / "made" / "2-1.png")["silent"] is True
    assert "silent" not in images.facts(tmp_path / "made" / "2-0.png")

    (tmp_path / "few.yaml").write_text(
        "model: wrap:net.yaml\nunits: '2:0-1'\nmethods: {fourier: {preset: fourier, canvas: 24, steps: 2}}\n"
        "classifiers: [wrap:net.yaml]\nfrechet: wrap:net.yaml\nmetrics: [logit, spectrum]\n"
    )
    done = command("run", "--suite", "few.yaml", "--out", "out", "--wandb", "disabled", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    (record,) = [r for r in load_all(tmp_path / "out" / "records") if r.method == "fourier"]
    assert record.silent_units == ("2-1",)
    (table,) = (tmp_path / "out" / "tables").rglob("wrap-net.md")
    assert "1 of 2 units silent (no gradient): 2-1" in table.read_text()
    assert "silent: no gradient at any step" in (tmp_path / "out" / "index.html").read_text()
