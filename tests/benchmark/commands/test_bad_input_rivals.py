"""Bad input of the methods that see images, and of groups: one sentence each, nothing written or lost."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from commands import Refusals, check_sentence
from PIL import Image

from benchmark.cli import main
from featvis.data.files import digest
from featvis.generators.passes import Passes
from featvis.storage import images

LADYBUG, MONARCH = "n02165456", "n02279972"


@pytest.fixture
def refused(tmp_path, capsys, monkeypatch) -> Refusals:
    """Refused commands, in a folder with images of two classes to be seen, and others to be scored against."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for place in ("seen", "scored"):
        for synset in (LADYBUG, MONARCH):
            (tmp_path / place / synset).mkdir(parents=True)
            for i in range(2):
                pixels = rng.integers(0, 255, (40, 48, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / place / synset / f"{i}.png")
    return Refusals(tmp_path, capsys)


def suite(folder: Path, row: dict[str, object], model: str = "efficientnet_lite0") -> list[str]:
    """The command that runs a suite of one row."""
    said = {"model": model, "units": "ladybug", "methods": {"row": row}, "classifiers": [], "frechet": model}
    (folder / "mine.yaml").write_text(yaml.safe_dump(said))
    return ["run", "--suite", "mine.yaml", "--wandb", "disabled"]


VITAL = {"preset": "vital", "count": 2}
SEEN = ["--seen-data", "seen"]
CASES: dict[str, tuple[dict[str, object], list[str], list[str]]] = {
    "no images": ({"class_path": "featvis.generators.VITAL"}, [], ["VITAL sees real images", "--seen-data", "row"]),
    "no folder": (VITAL, ["--seen-data", "nowhere"], ["--seen-data nowhere is not a folder"]),
    "too few": (VITAL | {"count": 3}, SEEN, ["seen has 2 images of ladybug, and 3 are asked for", "smaller count"]),
    "no such class": (VITAL, [*SEEN, "--units", "tench"], ["seen has no image of tench, and 2 are asked for"]),
    "too few to choose": (VITAL | {"count": 4}, [*SEEN, "--units", "blocks.2:3"], ["seen has 4 images, and of more"]),
    "overlap": (VITAL, [*SEEN, "--data", "seen"], ["methods.row sees 2 of the images", "seen/n02165456/0.png is one"]),
    "layer": (VITAL | {"layers": ["blocks.99"]}, SEEN, ["efficientnet_lite0 has no layer blocks.99"]),
    "own class": ({"preset": "accentuation"}, ["--seen-data", "one"], ["images of ladybug alone", "other classes too"]),
    "no seed": ({"preset": "maco_fast", "control": "untouched seed"}, [], ["for methods that begin with an image"]),
    "old name": ({"preset": "vital", "control": "seed"}, SEEN, ["methods.row.control is 'seed'", "another seed"]),
}


@pytest.mark.parametrize("name", CASES)
def test_a_row_that_cannot_be_made(refused, name):
    row, flags, words = CASES[name]
    shutil.copytree(refused.folder / "seen" / LADYBUG, refused.folder / "one" / LADYBUG)
    refused([*suite(refused.folder, row), *flags], *words)


def test_a_network_without_batch_norms(refused, zoo, monkeypatch):
    monkeypatch.setenv("FEATVIS_WEIGHTS", str(zoo))
    model = "vit_tiny_patch16_224"
    refused(suite(refused.folder, {"preset": "deepinversion"}, model), f"{model} has none; take a network that has")


def test_a_group_larger_than_the_memory_says_how_many_fit(refused, monkeypatch):
    scores = Passes._scores

    def full(self, canvas, units, frame, streams):
        if len(units) > 1:
            raise MemoryError
        return scores(self, canvas, units, frame, streams)

    monkeypatch.setattr(Passes, "_scores", full)
    args = ["generate", "--model", "DeepInversion", "--model.steps", "1", "--model.canvas", "32", "--model.group", "3",
            "--data.units", "0-2", "--out", "out", "--wandb", "disabled"]  # fmt: skip
    code = main(args)
    said = [line for line in refused.capsys.readouterr().err.splitlines() if line.startswith("featvis: ")]
    check_sentence(code, "\n".join(said), ["a group of 3 images does not fit into the memory, 1 would"])
    assert not list((refused.folder / "out").glob("*.png"))


def test_pictures_are_not_scored_against_the_images_that_made_them(refused):
    """Whatever the images are called: the picture's own file says by content what its method saw."""
    (refused.folder / "pictures").mkdir()
    facts = {"unit": "301", "seen": [f"{digest(refused.folder / 'seen' / LADYBUG / '1.png'):016x}"]}
    grey = np.full((32, 32, 4), 128, dtype=np.uint8)
    images.write(refused.folder / "pictures" / "301.png", grey[..., :3], grey[..., 3], facts)
    shutil.copy(refused.folder / "seen" / LADYBUG / "1.png", refused.folder / "scored" / MONARCH / "other.png")
    args = ["evaluate", "pictures", "--classifiers", "efficientnet_lite0", "--frechet", "efficientnet_lite0",
            "--wandb", "disabled", "--data", "scored"]  # fmt: skip
    refused(args, "FOLDER pictures", "saw 1 of the images that they would be scored against", "n02279972/other.png")


@pytest.mark.parametrize("said", ["seen", [7], ["no digest"]])
def test_pictures_that_do_not_say_what_made_them_are_refused(refused, said):
    (refused.folder / "pictures").mkdir()
    grey = np.full((32, 32, 4), 128, dtype=np.uint8)
    images.write(refused.folder / "pictures" / "301.png", grey[..., :3], grey[..., 3], {"unit": "301", "seen": said})
    args = ["evaluate", "pictures", "--classifiers", "efficientnet_lite0", "--frechet", "efficientnet_lite0",
            "--wandb", "disabled", "--data", "scored"]  # fmt: skip
    refused(args, "FOLDER pictures", "301.png does not say in digests which images it was made from")
