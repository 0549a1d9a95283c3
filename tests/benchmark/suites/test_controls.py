"""Controls as rows of a suite; images that a method sees are none that it is scored against."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny import LABELS, network

from benchmark.scoring.plan import Sources
from benchmark.suites.methods import build
from benchmark.suites.overlap import check_overlap
from benchmark.suites.suite import Suite, resolve
from featvis.data.sets import FolderImages
from featvis.errors import UserError
from featvis.generators import VITAL, SeededAccentuation
from featvis.networks.loading import load
from featvis.networks.units import parse_units

SUITE = Suite(model="efficientnet_lite0", units="tench", methods={}, seed=3)


def row(preset: str, control: str | None):
    return build("row", {"preset": preset, "control": control}, SUITE, {"canvas": 64})[0]


def test_each_control_changes_what_it_says_and_nothing_else():
    plain = dict(row("vital", None).hparams)
    for control, changes in (
        ("another seed", {"seed": 4}),
        ("wrong images", {"whose": "next"}),
        ("random network", {"model": "random:efficientnet_lite0"}),
    ):
        assert dict(row("vital", control).hparams) == plain | changes
    with pytest.raises(UserError, match="methods.row: the control wrong images is for methods that see images"):
        row("maco_fast", "wrong images")
    with pytest.raises(UserError, match="the control untouched seed is for methods that begin with an image"):
        row("vital", "untouched seed")
    accentuation = dict(row("accentuation", None).hparams)
    assert dict(row("accentuation", "untouched seed").hparams) == accentuation | {"untouched": True}
    values = {"model": "efficientnet_lite0", "units": "tench", "methods": {"row": {"control": "random weights"}}}
    with pytest.raises(UserError, match="did you mean random network"):
        resolve(values, "--suite own.yaml", {})


def test_a_random_network_is_the_same_each_time_and_its_classes_are_the_trained_ones():
    trained, one, other = (load(name, "float32") for name in (SUITE.model, *["random:efficientnet_lite0"] * 2))
    assert one.weights_hash == other.weights_hash != trained.weights_hash
    assert "random weights of seed 0" in one.name
    assert (one.labels, one.synsets, one.input_size) == (trained.labels, trained.synsets, trained.input_size)
    assert torch.equal(one.mean, trained.mean)
    assert torch.equal(one.std, trained.std)


def test_an_overlap_of_images_seen_and_scored_is_refused_by_content(tmp_path: Path):
    seen, scored = tmp_path / "seen", tmp_path / "scored"
    for folder, first in ((seen, 0), (scored, 100)):
        for i, label in enumerate(LABELS):
            (folder / label).mkdir(parents=True)
            for k in range(2):
                Image.new("RGB", (16, 16), (first + 10 * i, 3 * k, 0)).save(folder / label / f"{k}.png")
    tiny = network()
    units = parse_units("cat,dog", tiny)
    method = VITAL(model=tiny, images=str(seen), count=2, layers=("1",), canvas=16)
    check_overlap("vital", method, units, Sources(frechet=FolderImages(scored, tiny)))
    # Under another name, and filed under another class.
    shutil.copy(seen / "dog" / "1.png", scored / "owl" / "else.png")
    for role in ("bank", "frechet"):
        with pytest.raises(UserError, match=r"methods.vital sees 1 of the images .*owl/else.png is one"):
            check_overlap("vital", method, units, Sources(**{role: FolderImages(scored, tiny)}))
    wrong = VITAL(model=tiny, images=str(seen), count=2, layers=("1",), canvas=16, whose="next")
    with pytest.raises(UserError, match="methods.wrong sees 1"):
        check_overlap("wrong", wrong, units[:1], Sources(bank=FolderImages(scored, tiny)))
    seeded = SeededAccentuation(model=tiny, images=str(seen), layer="1", canvas=16)
    (scored / "owl" / "else.png").unlink()
    check_overlap("seeded", seeded, units[:1], Sources(bank=FolderImages(scored, tiny)))
    for path in seen.rglob("*.png"):
        shutil.copy(path, scored / "owl" / f"{path.parent.name}{path.name}")
    with pytest.raises(UserError, match="methods.seeded sees 1"):
        check_overlap("seeded", seeded, units[:1], Sources(bank=FolderImages(scored, tiny)))
