"""`featvis path`: photographs go the way of photographs through a real network, and noise does not."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import tiny
import torch
from PIL import Image
from places import SHARED
from sample_records import metric, record

from benchmark.cli import main
from benchmark.records.record import load_all
from benchmark.report.paths import curves
from benchmark.studies import path as paths
from featvis.data.files import fit, open_rgb, to_tensor
from featvis.errors import UserError
from featvis.metrics.functional.path import path_similarity

CLASSES = {"0": "n01440764", "217": "n02102040", "482": "n02979186"}
NET = "efficientnet_lite0"
EACH = 6


def write_run(run: Path, pictures: dict[str, dict[str, np.ndarray]]) -> None:
    """A run's records and images: {row: {unit: pixels}}."""
    for row, of_unit in pictures.items():
        made = record(row, metric("logit", 1.0), units=tuple(of_unit), model="tf_efficientnet_lite0.in1k", alias=NET)
        made = dataclasses.replace(made, images=f"{NET}/{row}/x")
        made.write(made.record_path(run))
        for unit, pixels in of_unit.items():
            file = run / NET / row / "x" / f"{unit}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(file)


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with real photographs, and a run whose row `maco` is other photographs of the same classes."""
    source = SHARED / "imagenette" / "val"
    if not source.is_dir():
        pytest.skip("needs ../shared/imagenette")
    folder = tmp_path_factory.mktemp("path")
    photographs: dict[str, np.ndarray] = {}
    for unit, synset in CLASSES.items():
        files = sorted((source / synset).iterdir())
        (folder / "data" / synset).mkdir(parents=True)
        for file in files[:EACH]:
            shutil.copy(file, folder / "data" / synset)
        for i, file in enumerate(files[EACH : EACH + 2]):
            photographs[f"{unit}@{i}"] = np.asarray(open_rgb(file))
    write_run(folder / "run", {"maco": photographs, "noise": {u: noise(i) for i, u in enumerate(photographs)}})
    return folder


def test_the_curve_of_photographs_and_of_noise(place, monkeypatch, capsys, classifier):
    monkeypatch.chdir(place)
    (place / "run" / "index.html").write_text("the page of the run")
    assert main(["path", "run", "--data", "data", "--layers", "blocks.0,blocks.6,logits", "--each", "50"]) == 0
    said = capsys.readouterr().out
    assert "run/figures/path.png" in said
    assert (place / "run/figures/path.png").is_file()
    assert 'src="figures/path.png"' in (place / "run/index.html").read_text()
    data = pd.read_csv("run/tables/quick/efficientnet_lite0_path.csv")
    assert list(dict.fromkeys(data["layer"])) == ["blocks.0", "blocks.6", "logits"]
    assert set(data["n"]) == {3}, "two images of a unit are one unit"
    value = data.set_index(["method", "layer"])["value"]
    assert value["maco", "logits"] > 0.6
    assert value["noise", "logits"] < 0.3
    assert (data["low"] <= data["value"]).all()
    assert (data["value"] <= data["high"]).all()
    # The same of whole activations, at once.
    natural, labels = [], []
    for unit, synset in CLASSES.items():
        for file in sorted((place / "data" / synset).iterdir()):
            natural.append(to_tensor(fit(open_rgb(file), classifier.input_size)))
            labels.append(int(unit))
    files = sorted((place / "run" / NET / "maco" / "x").iterdir())
    pictures = torch.cat([classifier.preprocess(to_tensor(open_rgb(f))[None]) for f in files])
    own = torch.tensor([int(f.stem.partition("@")[0]) for f in files])
    for layer in ("blocks.0", "blocks.6"):
        with torch.no_grad():
            a, b = (
                classifier.activations(x, frozenset({f"{layer}[:]"}))[f"{layer}[:]"].flatten(1)
                for x in (pictures, torch.stack(natural))
            )
        expected = float(path_similarity(a, own, b, torch.tensor(labels)))
        assert value["maco", layer] == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_a_broken_photograph_is_told_and_left_out(place, monkeypatch, capsys, tmp_path):
    shutil.copytree(place / "data", tmp_path / "data")
    shutil.copytree(place / "run", tmp_path / "run")
    for synset in CLASSES.values():
        for file in sorted((tmp_path / "data" / synset).iterdir())[2:]:
            file.unlink()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / CLASSES["0"] / "broken.JPEG").write_bytes(b"nothing")
    assert main(["path", "run", "--data", "data", "--layers", "blocks.0"]) == 0
    assert f"featvis: data/{CLASSES['0']}/broken.JPEG is left out" in capsys.readouterr().err
    for synset in CLASSES.values():
        for file in sorted((tmp_path / "data" / synset).iterdir()):
            file.write_bytes(b"nothing")
    assert main(["path", "run", "--data", "data", "--layers", "blocks.0"]) == 2
    assert "has photographs of 0 of the run's classes" in capsys.readouterr().err


def test_an_interval_of_few_units_is_as_wide_as_one_of_t(tmp_path, monkeypatch):
    """Percentiles of six are a third narrower. What each picture has of its class is given here."""
    values = np.linspace(-1, 1, 6)
    write_run(tmp_path, {"maco": {str(i): noise(i) for i in range(6)}})
    place = torch.zeros(2, 4)
    natural = paths.Photographs(torch.arange(6), {"logits": place}, {"logits": place})
    gaps = torch.from_numpy(values), torch.ones(6, dtype=torch.float64)
    monkeypatch.setattr(paths, "path_gaps", lambda *args: gaps)
    (point,) = paths.curve(tiny.network(), tmp_path, load_all(tmp_path / "records")[0], natural, ["logits"])
    assert point["value"] == pytest.approx(0, abs=1e-9)
    expected = 2 * scipy.stats.t.ppf(0.975, 5) * scipy.stats.sem(values)
    assert point["high"] - point["low"] == pytest.approx(expected, rel=0.12)


@pytest.mark.parametrize(("given", "loaded"), [(None, NET), ("wrap:there/net.yaml", "wrap:here/net.yaml")])
def test_a_file_named_here_stands_for_a_network_of_ones_own_alone(tmp_path, monkeypatch, given, loaded):
    write_run(tmp_path, {"maco": {"0": noise(0)}})
    for one in load_all(tmp_path / "records"):
        dataclasses.replace(one, given=given).write(one.record_path(tmp_path))
    asked = []

    def load(name: str, *args) -> None:
        asked.append(name)
        raise UserError("enough")

    monkeypatch.setattr(paths, "load", load)
    with pytest.raises(UserError, match="enough"):
        paths.run(tmp_path, "data", [], 1, tmp_path, "wrap:here/net.yaml")
    assert asked == [loaded]


def test_blocks_are_followed_where_a_network_has_them(classifier):
    assert paths.blocks(classifier) == [f"blocks.{i}" for i in range(7)]


def test_what_cannot_be_compared_is_a_sentence(tmp_path, sample, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "run", {"maco": {"0": noise(0), "217": noise(1)}})
    write_run(tmp_path / "channels", {"maco": {"blocks.2-7": noise(0)}})
    for args, words in (
        (["run", "--data", str(sample)], "at most 1 of each; the path needs several classes, and at least two"),
        (["run", "--data", str(sample), "--layers", "blocks.77"], "no layer blocks.77"),
        (["run"], "--data is missing"),
        (["run", "--data", str(sample), "--each", "1"], "--each must be at least 2"),
        (["channels", "--data", str(sample)], "holds no pictures of classes"),
    ):
        assert main(["path", *args]) == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "run" / "tables").exists()


def test_the_figure_has_a_line_a_row(tmp_path):
    rows = [
        {"method": m, "layer": layer, "value": v, "low": v - 9, "high": v + 9}
        for m, values in (("maco", (0.0, 0.7)), ("noise", (float("nan"), 0.1)))
        for layer, v in zip(("blocks.0", "logits"), values, strict=True)
    ]
    text = curves(pd.DataFrame(rows), tmp_path / "path.svg", "net, suite quick").read_text(encoding="utf-8")
    for expected in ("maco", "noise", "blocks.0", "logits", "photographs of the class", "net, suite quick"):
        assert f"<!-- {expected} -->" in text
