"""What scoring does where something is not there: git, images to compare with, pictures, or the end of a pass."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from places import ROOT
from tiny import LABELS, network

from benchmark.audit import verify
from benchmark.records import columns
from benchmark.scoring import extractors, references
from benchmark.scoring.evaluate import evaluate_row
from benchmark.scoring.evaluators import logit, plausibility, transferability
from benchmark.scoring.pictures import flat_distances
from benchmark.scoring.plan import Picture, Plan, Row
from benchmark.scoring.recording import git_commit
from benchmark.scoring.scorer import Scorer
from featvis.data import sweep
from featvis.data.files import as_input, to_tensor
from featvis.data.reference import Bank, NearestJob, mean_spectrum, read_spectrum
from featvis.data.sets import FolderImages
from featvis.errors import UserError
from featvis.intervals import expanded, share_interval
from featvis.metrics import bootstrap

NAME = "dinov2"
PLAN = Plan(
    out="out", suite="quick", model="vit", classifiers=[], frechet="vit", data=None, seed=0, units=["0"],
    labels=["tench"], canvas=[64, 64], rows=[Row("natural", "natural")],
)  # fmt: skip


def bank(labels: list[int]) -> Bank:
    """Images whose one feature, and digest, is their number from 1."""
    n = len(labels)
    numbers = torch.arange(1, n + 1)
    return Bank(
        "net", "0", (numbers[:, None].half(),), torch.tensor(labels), numbers, torch.zeros(n, dtype=torch.long),
        torch.zeros(n), torch.zeros(0, 1), (), "twelve",
    )  # fmt: skip


def scorer(labels: list[int], held: tuple[int, ...] = ()) -> SimpleNamespace:
    """As far as sets are concerned; the units' classes are 0 and 1."""
    made = SimpleNamespace(
        set_banks={NAME: bank(labels)},
        held=torch.tensor(held, dtype=torch.long),
        plan=SimpleNamespace(extractors=[NAME]),
        banked_classes=lambda name: torch.tensor([0, 1]),
    )
    made.set_reference = lambda name, exclude: Scorer.set_reference(made, name, exclude)
    return made


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs a checkout of git's")
def test_without_git_a_record_has_no_commit(monkeypatch):
    assert git_commit()
    monkeypatch.setenv("PATH", "/nonexistent")
    assert git_commit() is None


@pytest.mark.parametrize(
    ("labels", "held", "rows", "what"),
    [
        ([0, 0, 1, 1, 5], (1,), [2, 3, 4], "3 images of the same classes"),
        # Of class 1 the only image is in the row real: all that is left, of whichever class.
        ([0, 0, 1, 5], (1, 3), [2, 4], "2 images of all classes (a class has too few of its own)"),
        ([0, 1, 5, 6], (1, 2), [3, 4], "2 images of the other classes (a class has too few of its own)"),
    ],
)
def test_what_sets_are_compared_with_is_what_it_says(labels, held, rows, what):
    found, said = scorer(labels, held).set_reference(NAME, torch.zeros(0, dtype=torch.long))
    assert found[:, 0].tolist() == rows
    assert said == what


def test_extractors_too_say_nothing_of_the_same_photographs_under_other_labels():
    seen = SimpleNamespace(no_sets="the same photographs", ids=torch.zeros(3), features={})
    assert extractors.reference(scorer([0, 1, 1]), seen, NAME) == "the same photographs"
    seen.no_sets, seen.features = "", {NAME: {"pooled": torch.tensor([[1.0], [torch.nan], [2.0]])}}
    assert extractors.reference(scorer([0, 1, 1]), seen, NAME) == (
        "dinov2 puts out values that are not finite for 1 of 3 images"
    )
    seen.features[NAME]["pooled"] = torch.ones(3, 1)
    assert extractors.reference(scorer([0, 1, 1]), seen, NAME)[1] == "3 images of the same classes: twelve"


def test_scores_that_are_there_already_are_resampled_by_class_too():
    """Of the nearest image, looked for beforehand; of an embedded reference, which keeps logits and predictions."""
    stream = torch.Generator().manual_seed(0)
    labels = torch.arange(40) % 8
    values = (labels * 0.05 + 0.1 * torch.rand(40, generator=stream)).double()
    target = SimpleNamespace(name="net", alias="net", given="net", num_classes=8, last_block=lambda: "blocks.6")
    made = scorer([0, 1, 1])
    made.bank, made.target, made.networks, made.sources = bank([0, 1]), target, {"net": target}, None
    made.plan = dataclasses.replace(PLAN, model="net", classifiers=["net"])
    seen = SimpleNamespace(
        features={"net": {"pooled": torch.zeros(40, 1), "own_logit": values, "correct": (values > 0.2).double()}},
        labels=labels, ids=torch.zeros(40), nearest={"cosine": values, "squared": values.square()}, banked=True,
    )  # fmt: skip

    def over_classes(scores: torch.Tensor) -> tuple[float, float]:
        sums = scores.reshape(5, 8).sum(0)
        if scores.unique().tolist() == [0, 1]:
            return share_interval(sums, torch.full((8,), 5.0).double())
        return bootstrap(lambda counts: counts @ sums / 40, 8, level=expanded(8))

    found = {kind: plausibility._one(made, seen, kind) for kind in ("cosine", "flat")}
    (found["logit"],) = logit.evaluate(made, seen)
    found["top1"] = transferability._one(made, seen, "net")
    wanted = {"cosine": values, "flat": values, "logit": values, "top1": (values > 0.2).double()}
    for name, scores in wanted.items():
        assert found[name].interval == pytest.approx(over_classes(scores), rel=1e-9), name


def test_photographs_that_there_are_none_of_make_a_row_without_numbers(monkeypatch):
    """As of units that no photograph excites."""
    monkeypatch.setattr("benchmark.scoring.evaluate.of_row", lambda plan, row, target, **facts: facts)
    empty = SimpleNamespace(photographs=lambda kind: [], target=None, score=lambda *_: 1 / 0)
    assert evaluate_row(PLAN, PLAN.rows[0], empty, lambda: None) == {"metrics": [], "n": 0}


def photographs(folder: Path, known: Sequence[str] = ("n01440764",)) -> FolderImages:
    """Two images of class 0."""
    (folder / "0").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(2):
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(folder / "0" / f"{i}.png")
    return FolderImages(folder, known)


def test_a_pass_goes_on_from_what_a_kill_left_half_written(tmp_path):
    source = photographs(tmp_path / "data")
    parts = references.spectrum_folder(source, tmp_path / "cache") / "parts"
    parts.mkdir(parents=True)
    (parts / ".00000.safetensors.abc.tmp").write_bytes(b"half")
    made = references.spectrum(source, tmp_path / "cache")
    assert set(read_spectrum(made)) >= {"magnitude"}
    assert not parts.exists()


def test_distances_that_another_process_replaced_are_not_taken_for_a_class_without_images(tmp_path, monkeypatch):
    source, target, run = photographs(tmp_path / "data", LABELS), network(), sweep.run
    pictures = {0: [lambda: (Image.new("RGB", (16, 16)), 0)], 1: [lambda: (Image.new("RGB", (16, 16)), 0)]}
    found = references.nearest(source, target, pictures, "mine", tmp_path / "near")
    assert found[0]["squared"].isfinite().all()
    assert found[1]["squared"].tolist() == [torch.inf], "the set has no image of this class"

    def overtaken(source, job, todo, folder, trainer):
        run(source, job, todo, folder, trainer)
        theirs = NearestJob(target, pictures, "theirs")
        run(source, theirs, todo, folder, trainer)

    monkeypatch.setattr(sweep, "run", overtaken)
    with pytest.raises(UserError, match="near are another process's by now; run the same command again"):
        references.nearest(source, target, pictures, "mine too", tmp_path / "near")


def test_verify_leaves_the_distances_of_a_run_that_is_at_work_alone(tmp_path, monkeypatch):
    """Its rows stand in another order, so that it would replace the run's files by its own."""
    plan, folders = dataclasses.replace(PLAN, out=str(tmp_path), rows=[]), []
    made = SimpleNamespace(
        sources=SimpleNamespace(bank=object()), target=SimpleNamespace(last_block=lambda: "layer4"),
        photographs=lambda kind: [],
    )  # fmt: skip
    monkeypatch.setattr(references, "passes", lambda plan: [SimpleNamespace(kind="nearest")])
    monkeypatch.setattr(references, "nearest", lambda *arguments: folders.append(arguments[4]) or {})
    monkeypatch.setattr(verify, "plan_of", lambda *arguments: (plan, None, {}))
    monkeypatch.setattr(verify, "Scorer", lambda *arguments: made)
    flat_distances(plan, made, {})
    verify._numbers(tmp_path, [SimpleNamespace(alias="vit", suite="quick", method="maco")], {}, verify.Report())
    assert len(set(folders)) == 2


def test_the_slower_of_two_passes_takes_the_spectrum_that_the_other_finished(tmp_path, monkeypatch):
    source, run = photographs(tmp_path / "data"), sweep.run

    def overtaken(source, job, todo, folder, trainer):
        monkeypatch.setattr(sweep, "run", run)
        references.spectrum(source, tmp_path / "cache")
        # Its last part comes when the other has removed those before.
        folder.mkdir()
        (folder / "99999.safetensors").write_bytes(b"a part")

    monkeypatch.setattr(sweep, "run", overtaken)
    made = references.spectrum(source, tmp_path / "cache")
    assert set(read_spectrum(made)) >= {"magnitude"}
    assert not (made / "parts").exists()
    with pytest.raises(UserError, match="parts are not whole; run the same command again"):
        mean_spectrum(made / "parts", sweep.chunks(range(2), 1))


@pytest.mark.parametrize(
    ("metrics", "near", "reads"),
    [
        (["plausibility"], {}, True),
        (["plausibility"], {"maco": {}}, False),
        (["logit"], {}, False),
        (["logit", "own"], {"maco": {}}, True),
    ],
)
def test_flattened_features_are_kept_where_they_are_read_alone(monkeypatch, metrics, near, reads):
    own = dataclasses.replace(columns.wanted(["logit"])[0], evaluator="metric", reads=("flat", "labels"))
    target = network()
    made = SimpleNamespace(plan=PLAN, networks={"vit": target}, galleries={}, flat=near)
    made.wanted = [own] * ("own" in metrics) + columns.wanted([m for m in metrics if m != "own"])
    made.wants = lambda evaluator: Scorer.wants(made, evaluator)
    made.reads_flat = lambda: Scorer.reads_flat(made)
    picture = Picture(Image.new("RGB", (16, 16), (9, 99, 200)), 0)
    found = Scorer.look(made, [picture], "vit")
    assert set(found) == {"logits", "pooled"} | ({"flat"} if reads else set())
    whole = target.features(as_input(picture.image, (16, 16), 3)[None])
    assert all(torch.equal(found[key], whole[key]) for key in found)


def test_the_pictures_of_a_class_pass_the_target_in_batches_as_real_images_do(monkeypatch):
    target, sizes = network(), []
    features = target.features

    def counted(views, *args, **kwargs):
        sizes.append(len(views))
        return features(views, *args, **kwargs)

    monkeypatch.setattr(target, "features", counted)
    rng = np.random.default_rng(0)
    shown = [Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)) for _ in range(sweep.BATCH + 3)]
    job = NearestJob(target, {0: [lambda image=image: (image, 0) for image in shown]}, "")
    job.start(sweep.Chunk("0", (0,)))
    assert sizes == [sweep.BATCH, 3]
    views = torch.stack([to_tensor(image) for image in shown])
    torch.testing.assert_close(job.query, features(views)["flat"])
