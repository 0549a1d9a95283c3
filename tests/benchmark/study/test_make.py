"""A study made of a real network and pictures of no-one's: what is shown is what was measured."""

from __future__ import annotations

import json
import shutil
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import check_sentence, tree
from PIL import Image
from warm import start

from benchmark.cli import main
from benchmark.study.config import checked, read
from benchmark.study.making import observers, passes, stimuli
from benchmark.study.taking import store
from featvis.errors import UserError
from featvis.paths import CONFIGS

SMALL = {
    "models": ["efficientnet_lite0"], "units": "3,5,8",
    "conditions": {"maco": {"folder": "maco"}, "blurred": {"natural": True, "blur": 0.05}, "none": {}},
    "images": 2, "candidates": 4, "stride": 134, "references": 2, "catch": 2, "practice": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Photographs (blots of colour) of four classes, and a method's pictures of three units."""
    folder = tmp_path_factory.mktemp("study")
    rng = np.random.default_rng(0)
    for label in (3, 5, 8, 9):
        (folder / "data" / str(label)).mkdir(parents=True)
        for i in range(4):
            blots = Image.fromarray(rng.integers(0, 255, (7, 7, 3), dtype=np.uint8))
            blots.resize((230, 224), Image.Resampling.BICUBIC).save(folder / "data" / str(label) / f"{label}_{i}.png")
    (folder / "maco").mkdir()
    for unit in ("3", "5", "8", "3@1"):
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(folder / "maco" / f"{unit}.png")
    return folder


@pytest.fixture(scope="module")
def made(place):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        study = checked(SMALL | {"data": "data"}, "small")
        return study, stimuli.make("small", study, place / "out")


def see(place: Path, name: str) -> torch.Tensor:
    with Image.open(place / "out" / "page" / "pictures" / name) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None].float() / 255


def test_the_pictures_that_people_see_excite_the_unit_as_the_trials_say(made, place, classifier):
    for trial in made[1].trials:
        for which, file in trial.pictures.items():
            logit = classifier(see(place, file))[0, int(trial.unit)]
            assert float(logit) == pytest.approx(trial.activation["whole" if which == "image" else which], abs=2e-3)
        assert trial.gap == pytest.approx(trial.activation["most"] - trial.activation["least"])
        changed = (see(place, trial.pictures["most"]) != see(place, trial.pictures["image"])).any(1)[0]
        rows, columns = np.nonzero(changed.numpy())
        assert trial.most[0] <= rows.min() <= rows.max() < trial.most[0] + trial.side
        assert trial.most[1] <= columns.min() <= columns.max() < trial.most[1] + trial.side


def test_trials_are_balanced_and_references_are_others_than_the_queries(made):
    trials = made[1].trials
    assert Counter(t.kind for t in trials) == {"trial": 6, "catch": 2, "practice": 1, "example": 1}
    counted = [t for t in trials if t.kind == "trial"]
    assert Counter(t.unit for t in counted) == {"3": 2, "5": 2, "8": 2}
    assert Counter(t.left for t in counted) == {"most": 3, "least": 3}
    assert len({t.id for t in trials}) == len(trials)
    assert all({"maco", "blurred"} == set(t.references) for t in trials)
    assert {t.unit: len(t.references["maco"]) for t in trials} == {"3": 2, "5": 1, "8": 1}
    seen: dict[str, set[str]] = {}
    for t in trials:
        assert t.image not in seen.setdefault(t.unit, set()), "an image serves a unit once"
        seen[t.unit].add(t.image)
    assert all(0 < t.percentile < 1 for t in trials)


def test_natural_references_are_the_most_exciting_of_the_others(made, place, classifier):
    """By a pass of the test's own over all pictures."""
    facts = json.loads((place / "out" / "facts.json").read_text())
    files = sorted((place / "data").rglob("*.png"))
    views = [passes.to_tensor(passes.fit(Image.open(f).convert("RGB"), (224, 224))) for f in files]
    logits = classifier(torch.stack(views))
    for unit in ("3", "5", "8"):
        mine = [t for t in made[1].trials if t.unit == unit]
        used = {Path(t.image).name for t in mine}
        order = [files[i].name for i in logits[:, int(unit)].argsort(descending=True).tolist()]
        shown = [Path(facts[name]["image"]).name for name in mine[0].references["blurred"]]
        assert shown == [name for name in order if name not in used][:2]


def test_made_again_nothing_is_measured_and_everything_is_the_same(made, place, monkeypatch):
    monkeypatch.chdir(place)
    before = tree(place / "out")
    monkeypatch.setattr(passes, "occlusions", lambda *args: pytest.fail("it was measured already"))
    assert stimuli.make("small", made[0], place / "out") == made[1]
    assert tree(place / "out") == before


def test_a_file_that_a_kill_cut_off_is_measured_anew(made, place, monkeypatch):
    monkeypatch.chdir(place)
    path = sorted((place / "out" / "cache").glob("*.json"))[0]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert stimuli.make("small", made[0], place / "out").hash == made[1].hash
    assert path.read_bytes() == whole


UNTIL_KILLED = """
import os, signal, sys
from benchmark.cli import main
from benchmark.study.making import passes

measured, occlusions = [], passes.occlusions

def until_killed(*args):
    if len(measured) == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    measured.append(args)
    return occlusions(*args)

passes.occlusions = until_killed
main(sys.argv[1:])
"""


def test_what_was_killed_goes_on_and_gives_the_same_bytes(made, place, monkeypatch):
    monkeypatch.chdir(place)
    Path("small.yaml").write_text(json.dumps(SMALL))
    flags = ("--data", "data", "--out", "killed")
    process = start("-c", UNTIL_KILLED, "study", "make", "small.yaml", *flags, cwd=place)
    assert process.wait(600) == -signal.SIGKILL, process.communicate()[0]
    kept = tree(place / "killed" / "cache")
    assert len(kept) == 5
    measured, occlusions = [], passes.occlusions
    monkeypatch.setattr(passes, "occlusions", lambda *args: measured.append(args) or occlusions(*args))
    assert stimuli.make("small", made[0], place / "killed") == made[1]
    assert len(measured) == len(tree(place / "out" / "cache")) - 1 - 5, "what was measured is not measured again"
    assert tree(place / "killed") == tree(place / "out")


def test_trials_that_people_have_answered_are_not_replaced(made, place, monkeypatch, tmp_path):
    monkeypatch.chdir(place)
    out = tmp_path / "out"
    shutil.copytree(place / "out", out)
    store.Store(out / store.FILE, "small", made[1].hash, list(made[1].conditions))
    assert stimuli.make("small", made[0], out) == made[1]
    before = (out / "trials.json").read_bytes()
    with pytest.raises(UserError, match=r"answers.sqlite holds answers to the trials that are there"):
        stimuli.make("small", replace(made[0], seed=1), out)
    assert (out / "trials.json").read_bytes() == before


def test_a_unit_that_the_occluder_does_not_change_is_left_out_and_named(place, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(place)

    def frozen(measure, image, side, stride, batch_size):
        moved = passes.Occlusion((0, 0), (134, 134), 1.0, 2.0, 0.0)
        still = passes.Occlusion((0, 0), (0, 0), 1.0, 1.0, 1.0)
        return [moved if u else still for u in range(measure(image[None].float() / 255).shape[1])]

    monkeypatch.setattr(passes, "occlusions", frozen)
    study = checked(SMALL | {"data": "data", "own": False, "conditions": {"none": {}}, "candidates": 12}, "small")
    trials = stimuli.make("small", study, tmp_path / "out")
    said = capsys.readouterr().err
    assert {t.unit for t in trials.trials} == {"5", "8"}
    # The first unit of each image keeps still: 3 is the first of all that it is measured on, 5 and 8 of some.
    why = "the occluder changes its activation on 0 of 12 images"
    assert trials.left_out == {"efficientnet_lite0 3": why}
    assert f"featvis: efficientnet_lite0 3 is left out: {why}" in said


def test_what_cannot_be_made_is_refused_in_a_sentence(made, place, monkeypatch, tmp_path):
    monkeypatch.chdir(place)
    shutil.copytree(place / "out" / "cache", tmp_path / "out" / "cache")
    cases = {
        "has 4 images for 3": {"images": 5, "candidates": 6, "units": "3"},
        "no picture of 9": {"units": "9", "candidates": 4, "images": 1, "catch": 1},
        "more images are needed for catch trials": {"catch": 40, "units": "3"},
    }
    for words, change in cases.items():
        with pytest.raises(UserError, match=words):
            stimuli.make("small", checked(SMALL | {"data": "data"} | change, "small"), tmp_path / "out")


def test_a_copy_of_an_image_is_that_image(made, place, monkeypatch, tmp_path):
    """People would be asked the same twice, and answers to trials of one name are refused."""
    for name in ("data", "maco", "out/cache"):
        shutil.copytree(place / name, tmp_path / name)
    for i in range(4):
        shutil.copy(tmp_path / "data" / "3" / f"3_{i}.png", tmp_path / "data" / "3" / f"copy_{i}.png")
    monkeypatch.chdir(tmp_path)
    few = {"data": "data", "units": "3", "candidates": 8, "catch": 1, "practice": 1}
    trials = stimuli.make("small", checked(SMALL | few | {"images": 1}, "small"), tmp_path / "out").trials
    assert len({t.id for t in trials}) == len({t.digest for t in trials}) == len(trials) == 4
    with pytest.raises(UserError, match="has 4 images for 3"):
        stimuli.make("small", checked(SMALL | few | {"images": 5}, "small"), tmp_path / "out")


def test_rules_and_machines_take_the_study(made, place):
    """The rules against NumPy, on the pictures; a machine that is shown the right query chooses it."""
    study, trials = made
    scores = observers.observe(study, trials, place / "out")
    assert set(scores) == set(observers.RULES)
    for t in trials.shown():
        image = see(place, t.pictures["image"])[0].numpy().astype(np.float64)
        spread, rough, away = {}, {}, {}
        for which, (row, column) in (("most", t.most), ("least", t.least)):
            patch = image[:, row : row + t.side, column : column + t.side]
            spread[which] = patch.reshape(3, -1).var(1).mean()
            rough[which] = sum((np.diff(patch, axis=axis) ** 2).mean() for axis in (1, 2))
            away[which] = (row + t.side / 2 - 112) ** 2 + (column + t.side / 2 - 112) ** 2
        assert scores["variance"][t.id] == float(spread["most"] < spread["least"])
        assert scores["edges"][t.id] == float(rough["most"] < rough["least"])
        assert scores["centre"][t.id] == (1 + np.sign(away["most"] - away["least"])) / 2
    from featvis.networks.loading import load

    machine = observers.Machine(load("efficientnet_lite0", "float32"), place / "out" / "page" / "pictures")
    t = trials.shown()[0]
    machine.see(t.pictures.values())
    mean = machine.kept[t.pictures["image"]].double()
    assert machine.answer(t, [t.pictures["most"]], mean) == 1.0
    assert machine.answer(t, [t.pictures["least"]], mean) == 0.0


def test_every_shipped_study_is_read():
    names = [p.stem for p in (CONFIGS / "study").glob("*.yaml")]
    assert {"paper", "imagenette"} <= set(names)
    for name in names:
        lines = (CONFIGS / "study" / f"{name}.yaml").read_text().splitlines()
        assert lines[0].startswith(f"# featvis study make {name} ")
        assert lines[1].startswith("# Cost: ")
        assert lines[2].startswith("# Expect: ")
        assert set(read(name)[1].conditions) == {"olah", "maco", "maco_transparency", "none"}


BAD = {
    "unknown": ({"modles": []}, ["unknown key modles", "models"]),
    "a number too large": ({"side": 2}, ["side must be between 0.05 and 0.9"]),
    "more trials than candidates": ({"images": 9}, ["images (9)", "candidates"]),
    "two kinds": ({"conditions": {"a": {"method": "maco", "natural": True}}}, ["conditions.a", "one of method"]),
    "no such method": ({"conditions": {"a": {"method": "maca"}}}, ["maca", "did you mean maco"]),
    "no such network": ({"models": ["flexvit"]}, ["models: flexvit", "flexivit"]),
    "practice without end": ({"exclude": {"practice_over": 0}}, ["exclude.practice_over must be between 1 and 100"]),
    "no such folder": ({"conditions": {"a": {"folder": "nowhere"}}}, ["conditions.a.folder nowhere is not a folder"]),
}


@pytest.mark.parametrize(("change", "words"), BAD.values(), ids=BAD)
def test_a_study_that_cannot_be_is_refused_and_nothing_written(change, words, tmp_path, monkeypatch, capsys, place):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(place / "maco", "maco")
    Path("mine.yaml").write_text(json.dumps(SMALL | change))
    before = tree(tmp_path)
    check_sentence(main(["study", "make", "mine.yaml", "--data", "maco"]), capsys.readouterr().err, words)
    assert tree(tmp_path) == before


def test_a_study_without_photographs_or_of_no_known_name_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    check_sentence(main(["study", "make", "paper"]), capsys.readouterr().err, ["--data is missing"])
    check_sentence(main(["study", "make", "papier", "--data", "maco"]), capsys.readouterr().err, ["did you mean paper"])
    assert tree(tmp_path) == {}
