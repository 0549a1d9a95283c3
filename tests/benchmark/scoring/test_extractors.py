"""DINOv2's and CLIP's columns of the whole path, folders in and records out, against NumPy, SciPy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import timm
import torch
from extractors import CLIP, DINO, pixels, put, vit
from PIL import Image
from safetensors.torch import save_file
from sklearn.metrics.pairwise import cosine_similarity, polynomial_kernel, rbf_kernel
from sklearn.preprocessing import normalize

from benchmark.cli import main
from benchmark.records.record import Record
from benchmark.scoring import extractors
from benchmark.scoring.evaluate import record_path, scored
from benchmark.scoring.recording import of_row
from benchmark.suites.job import from_flags
from featvis.data.extractors.clip import write_classes
from featvis.data.extractors.inception import FILE_NAMES

DINOV2, CLIPS = extractors.EXTRACTORS["dinov2"], extractors.EXTRACTORS["clip"]
CLASSES = [301, 323, 953]
NAMES = {301: "ladybug", 323: "monarch", 953: "pineapple", 0: "tench", 1: "goldfish", 2: "shark", 7: "cock"}
TARGET, SIDE = "test_vit", 112
ONE = ("--model", TARGET, "--classifiers", TARGET, "--frechet", TARGET)
COLUMNS = ("fd_dinov2", "kd_dinov2", "cmmd", "clip_top1", "clip_top5")


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No weights but those that a test puts there."""
    monkeypatch.setenv("FEATVIS_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "weights").mkdir()
    target = timm.create_model(TARGET, pretrained=False)
    save_file(target.state_dict(), tmp_path / "weights" / f"{TARGET}.safetensors")
    return tmp_path / "weights"


def texture(rng, side, grain):
    coarse = (rng.random((grain, grain, 3)) * 255).astype(np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


@pytest.fixture
def pictures(tmp_path):
    """Two canvases a class in `canvases`, three textures of another grain a class in `data`."""
    rng, made, real = np.random.default_rng(0), {}, {}
    (tmp_path / "canvases").mkdir()
    for label in CLASSES:
        (tmp_path / "data" / str(label)).mkdir(parents=True)
        for i in range(2):
            made[label, i] = texture(rng, 96, 5)
            made[label, i].save(tmp_path / "canvases" / f"{label}_{i}.png")
        for i in range(3):
            real[label, i] = texture(rng, 112, 12)
            real[label, i].save(tmp_path / "data" / str(label) / f"{i}.png")
    return made, real


def tower(sentences):
    """A text tower: a random direction a sentence, the same each time."""
    seeds = [int.from_bytes(s.encode(), "big") % 2**31 for s in sentences]
    return torch.stack([torch.randn(768, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def evaluate(folder, *arguments):
    return main(["evaluate", str(folder / "canvases"), *ONE, *arguments, "--out", str(folder / "out" / "run")])


def record(folder, row="canvases"):
    return Record.read(folder / "out" / "run" / "records" / TARGET / f"{row}.json")


def frechet(x, y):
    """Heusel et al. 2017, equation 6, with SciPy's square root."""
    sx, sy = (np.cov(z, rowvar=False) + 1e-10 * np.eye(z.shape[1]) for z in (x, y))
    half = scipy.linalg.sqrtm(sx).real
    root = scipy.linalg.sqrtm(half @ sy @ half).real
    return ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(sx + sy - 2 * root)


def kernel(x, y):
    """Bińkowski et al. 2018, section 4: unbiased."""
    xx, yy, xy = (polynomial_kernel(a, b, degree=3, coef0=1) for a, b in ((x, x), (y, y), (x, y)))
    n, m = len(x), len(y)
    return (xx.sum() - np.trace(xx)) / n / (n - 1) + (yy.sum() - np.trace(yy)) / m / (m - 1) - 2 * xy.mean()


def gaussian(x, y):
    x, y = normalize(x), normalize(y)
    xx, yy, xy = (rbf_kernel(a, b, gamma=1 / 200).mean() for a, b in ((x, x), (y, y), (x, y)))
    return 1000 * (xx + yy - 2 * xy)


def test_the_numbers_are_those_of_their_definitions(alone, tmp_path, pictures, capsys):
    made, real = pictures
    dino, clip = put(alone, DINOV2, SIDE, seed=1), put(alone, CLIPS, SIDE, seed=2)
    write_classes(alone / f"{CLIPS}.classes.safetensors", tower, list(NAMES.values()), ["a photo of a {}."])
    assert evaluate(tmp_path, "--data", str(tmp_path / "data"), "--metrics", "dinov2,clip") == 0
    printed = capsys.readouterr().out
    assert all(heading in printed for heading in ("FD, DINOv2 ↓", "KD, DINOv2 ↓", "CMMD ↓", "Top-1, CLIP ↑"))
    assert "Plausibility" not in printed
    # The first image of each class stands in the row real, and is left out of what is compared with.
    compared = {k: v for k, v in real.items() if k[1] > 0}
    held = {k: v for k, v in real.items() if k[1] == 0}
    for row, shown in (("canvases", made), ("real", held)):
        found = record(tmp_path, row)
        tokens, others = (
            vit(dino, np.stack([pixels(p, SIDE) for p in set_.values()]), **DINO) for set_ in (shown, compared)
        )
        images, photographs = (
            vit(clip, np.stack([pixels(p, SIDE) for p in set_.values()]), **CLIP) @ clip["head.weight"].T
            + clip["head.bias"]
            for set_ in (shown, compared)
        )
        words = tower([f"a photo of a {name}." for name in NAMES.values()]).double().numpy()
        order = np.argsort(-cosine_similarity(images, words), axis=1)
        wanted = [list(NAMES).index(label) for label, _ in shown]
        ranks = np.array([list(named).index(k) for named, k in zip(order, wanted, strict=True)])
        want = {
            "fd_dinov2": frechet(tokens, others), "kd_dinov2": kernel(tokens, others),
            "cmmd": gaussian(images, photographs), "clip_top1": (ranks < 1).mean(), "clip_top5": (ranks < 5).mean(),
        }  # fmt: skip
        assert {m.name for m in found.metrics} == set(want)
        for name, value in want.items():
            measurement = found.metric(name)
            assert measurement.value == pytest.approx(value, rel=5e-3, abs=1e-4), (row, name)
            assert measurement.n == len(shown)
    assert found.config["evaluation"]["extractors"] == [DINOV2, CLIPS]
    assert "6 images of the same classes" in found.metric("cmmd").definition["reference"]
    assert found.metric("clip_top1").definition["prompts"] == "1 sentence: a photo of a ladybug."
    # The real images are not looked at again.
    banks = {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "reference").rglob("0*.safetensors")}
    assert len(banks) == 2
    assert evaluate(tmp_path, "--data", str(tmp_path / "data"), "--metrics", "cmmd,clip_top5") == 0
    assert {m.name for m in record(tmp_path).metrics} == {"cmmd", "clip_top5"}
    assert {p: p.stat().st_mtime_ns for p in banks} == banks


def test_nobody_sees_them_who_has_no_weights_and_does_not_ask(tmp_path, pictures):
    assert evaluate(tmp_path) == 0
    found = record(tmp_path)
    assert not {m.name for m in found.metrics} & set(COLUMNS)
    assert "extractors" not in found.config["evaluation"]


def test_who_asks_in_vain_is_told_why(alone, tmp_path, pictures):
    assert evaluate(tmp_path, "--metrics", "fd_dinov2,clip,logit") == 0
    found = record(tmp_path)
    assert found.metric("logit").value is not None
    for name, network in (("fd_dinov2", DINOV2), ("cmmd", CLIPS), ("clip_top1", CLIPS), ("clip_top5", CLIPS)):
        reason = found.metric(name).absent
        assert reason.startswith(f"no weights for {network} here, and the hub cannot be reached"), reason
        assert reason.endswith(f"put {network}.safetensors into the folder FEATVIS_WEIGHTS")
    assert found.metric("kd_dinov2") is None
    assert found.config["evaluation"]["unavailable"] == sorted((CLIPS, DINOV2))


def test_weights_in_the_folder_are_enough_to_be_shown_and_what_else_lacks_is_said(alone, tmp_path, pictures):
    put(alone, CLIPS, SIDE)
    assert evaluate(tmp_path) == 0
    found = record(tmp_path)
    assert {m.name for m in found.metrics} & set(COLUMNS) == {"cmmd", "clip_top1", "clip_top5"}
    assert "give --data" in found.metric("cmmd").absent
    assert f"make {CLIPS}.classes.safetensors for the folder FEATVIS_WEIGHTS" in found.metric("clip_top1").absent


def test_a_class_without_words_is_named_and_five_of_five_is_no_score(alone, tmp_path, pictures):
    put(alone, CLIPS, SIDE)
    path = alone / f"{CLIPS}.classes.safetensors"
    write_classes(path, tower, ["ladybug", "monarch"], ["{}"])
    assert evaluate(tmp_path, "--metrics", "clip_top1") == 0
    assert record(tmp_path).metric("clip_top1").absent == f"{path.name} has no words for pineapple"
    write_classes(path, tower, ["ladybug", "monarch", "pineapple", "tench", "cock"], ["{}"])
    assert evaluate(tmp_path, "--metrics", "clip_top1,clip_top5") == 0
    assert record(tmp_path).metric("clip_top1").value is not None
    assert record(tmp_path).metric("clip_top5").absent == f"{path.name} has 5 classes, and k is 5"
    assert "no embeddings" in record(tmp_path, "real").metric("clip_top1").absent
    path.write_bytes(b"cut")
    assert evaluate(tmp_path, "--metrics", "clip_top1") == 2


def test_broken_weights_are_a_sentence(alone, tmp_path, pictures, capsys):
    (alone / f"{DINOV2}.safetensors").write_bytes(b"cut")
    for arguments in ((), ("--metrics", "dinov2")):
        assert evaluate(tmp_path, *arguments) == 2
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert f"{DINOV2}.safetensors cannot be read" in said
    (alone / f"{DINOV2}.safetensors").unlink()
    put(alone, DINOV2, SIDE)
    (alone / f"{DINOV2}.safetensors").rename(alone / f"{CLIPS}.safetensors")
    assert evaluate(tmp_path, "--metrics", "cmmd") == 2
    assert "architecture" in capsys.readouterr().err


def test_the_same_network_as_a_judge_is_absent_there_alone(alone, tmp_path, pictures):
    put(alone, DINOV2, SIDE)
    data = ("--data", str(tmp_path / "data"), "--metrics", "dinov2,transferability")
    assert evaluate(tmp_path, *data, "--classifiers", f"{TARGET},{DINOV2}") == 0
    found = record(tmp_path)
    assert found.metric("fd_dinov2").value > 0
    assert "do not share their classes" in found.metric(f"top1_{DINOV2}").absent


def test_what_was_put_there_or_replaced_since_is_scored_by(alone, tmp_path, pictures, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def judge(seed):
        torch.manual_seed(seed)
        save_file(timm.create_model("test_resnet", pretrained=False).state_dict(), alone / "test_resnet.safetensors")

    def words(first):
        write_classes(alone / f"{CLIPS}.classes.safetensors", tower, [first, *list(NAMES.values())[1:]], ["{}"])

    def job():
        flags = {"model": TARGET, "methods": "maco", "units": "301,323", "data": "data", "classifiers": "test_resnet"}
        made = from_flags("quick", flags, "out", {})
        return made, [scored(made.plan, row) for row in made.plan.rows]

    put(alone, CLIPS, SIDE)
    judge(0)
    changes = {
        "nothing there before": lambda: None,
        "Inception": lambda: (alone / FILE_NAMES[0]).write_bytes(b"one"),
        "another Inception": lambda: (alone / FILE_NAMES[0]).write_bytes(b"two"),
        "words": lambda: words("ladybug"),
        "other words": lambda: words("ladybird"),
        "another judge": lambda: judge(1),
        "another CLIP": lambda: put(alone, CLIPS, SIDE, seed=1),
    }
    for what, change in changes.items():
        change()
        made, done = job()
        assert not any(done), what
        for row in made.plan.rows:
            of_row(made.plan, row, made.classifier).write(record_path(made.plan, row))
        assert all(job()[1]), what
    # A record of before this was written down is read, and made anew.
    path = record_path(made.plan, made.plan.rows[0])
    before = Record.read(path)
    del before.config["evaluation"]["weights"]
    before.write(path)
    assert Record.read(path).status == "done"
    assert job()[1] == [False, *[True] * (len(made.plan.rows) - 1)]
