"""Adversarial examples: the arithmetic against NumPy and plain autograd, the files against their ball, taking up."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from PIL import Image, ImageOps

from featvis.data.files import ImageFile, image_file
from featvis.errors import UserError
from featvis.generators.attack import Attack, Pair, pair_up, project, quantise, radius, total_variation
from featvis.generators.batches import GivenUnits
from featvis.generators.callbacks import ImageWriter
from featvis.networks.classifier import Classifier
from featvis.networks.names import ModelSpec
from featvis.networks.units import class_of, parse_units
from featvis.paths import CONFIGS

PRESETS = sorted((CONFIGS / "attack").glob("*.yaml"))


@pytest.fixture
def folder(tmp_path) -> Path:
    """Three pictures of noise and stripes, one of them larger than the network's input."""
    draw = np.random.default_rng(0)
    path = tmp_path / "pictures"
    path.mkdir()
    for name, size in (("a.png", (224, 224, 3)), ("301.png", (230, 250, 3)), ("b@2.png", (300, 260, 3))):
        pixels = draw.integers(0, 256, size, dtype=np.uint8)
        pixels[::7] = 255
        Image.fromarray(pixels).save(path / name)
    return path


def pairs_of(folder: Path, classifier, targets=None, seed: int = 0) -> list[Pair]:
    return pair_up([image_file(p, classifier.synsets) for p in sorted(folder.iterdir())], targets, classifier, seed)


def levels(path: Path) -> np.ndarray:
    """RGB of an image file by Pillow alone, (H, W, 3), whole numbers."""
    with Image.open(path) as image:
        return np.asarray(image)[..., :3].astype(int)


# --- the arithmetic ---------------------------------------------------------------------------------------------------


def numpy_tv(x: np.ndarray) -> float:
    total = 0.0
    c, h, w = x.shape
    for k, i, j in itertools.product(range(c), range(h), range(w)):
        total += abs(x[k, i + 1, j] - x[k, i, j]) if i + 1 < h else 0
        total += abs(x[k, i, j + 1] - x[k, i, j]) if j + 1 < w else 0
    return total


def test_total_variation_is_the_sum_over_neighbours():
    x = np.random.default_rng(0).random((2, 3, 5, 7))
    assert total_variation(torch.from_numpy(x)).tolist() == pytest.approx([numpy_tv(x[0]), numpy_tv(x[1])])
    edge = torch.zeros(1, 3, 6, 8)
    edge[..., 5:] = 0.25
    assert float(total_variation(edge)) == pytest.approx(3 * 6 * 0.25)
    board = torch.from_numpy(np.indices((6, 8)).sum(0) % 2).float().expand(1, 3, 6, 8)
    assert float(total_variation(board)) == 3 * (5 * 8 + 6 * 7)


ORIGINALS = arrays(np.uint8, (1, 3, 4, 5))
CHANGES = arrays(np.float32, (1, 3, 4, 5), elements=st.floats(-2, 2, width=32))
EPSILONS = st.one_of(st.floats(0, 1), st.integers(0, 255).map(lambda n: n / 255))


@given(ORIGINALS, CHANGES, EPSILONS)
@settings(max_examples=150, deadline=None)
def test_nothing_leaves_the_ball(k, change, epsilon):
    original = torch.from_numpy(k).float() / 255
    x = original + torch.from_numpy(change)
    inside = project(x, original, epsilon).double()
    assert float(inside.min()) >= 0
    assert float(inside.max()) <= 1
    assert float((inside - original.double()).abs().max()) <= epsilon + 1e-6, "float32"
    # What an image file holds is exact.
    q = (quantise(x, original, epsilon).double() * 255).numpy()
    written = q.round().astype(int)
    assert np.abs(q - written).max() < 1e-4
    assert written.min() >= 0
    assert written.max() <= 255
    assert (np.abs(written - k.astype(int)) / 255 <= epsilon).all()
    # To the nearest of all levels that are allowed.
    every = np.arange(256).reshape(-1, 1, 1, 1, 1)
    gap = np.where(np.abs(every - k.astype(int)) / 255 <= epsilon, np.abs(every / 255 - x.double().numpy()), np.inf)
    np.testing.assert_allclose(np.abs(written / 255 - x.double().numpy()), gap.min(0), atol=1e-6)
    again = quantise(torch.from_numpy(written / 255).float(), original, epsilon)
    np.testing.assert_array_equal((again * 255).round().numpy(), written)


def test_the_radius_in_levels_is_the_largest_inside():
    for epsilon in [n / 255 for n in range(256)] + [0.0, 0.01, 0.05, 0.0039, 1.0, 0.999999]:
        assert radius(epsilon) == max(n for n in range(256) if n / 255 <= epsilon)
    assert (radius(0.01), radius(0.05)) == (2, 12)


def test_what_is_not_finite_stays_so():
    original = torch.full((1, 3, 2, 2), 0.2)
    broken = original.clone()
    broken[0, 1, 1, 1] = float("nan")
    assert bool(quantise(project(broken, original, 0.1), original, 0.1).isnan()[0, 1, 1, 1])


class Unrounded(Attack):
    def finish(self, canvas, fixed):
        return canvas


@pytest.mark.parametrize("sign", [False, True])
def test_steps_are_those_of_the_formula(folder, sign):
    """x <- clip01(x0 + clip(x + a grad(f_t(x) - l TV(x - x0)) - x0, -e, e)), in NumPy; the network's part: autograd."""
    # A network without kinks, as in test_generators.
    torch.manual_seed(0)
    smooth = timm.create_model("vit_tiny_patch16_224", depth=2).eval()
    classifier = Classifier(smooth, ModelSpec("vit", "vit_tiny_patch16_224"), precision="float32")
    pairs = pairs_of(folder, classifier, [7])[:2]
    epsilon, weight = 0.02, 1e-4

    def gradient(x: np.ndarray) -> np.ndarray:
        pixels = torch.from_numpy(x).requires_grad_()
        smooth((pixels - 0.5) / 0.5)[:, 7].sum().backward()
        return pixels.grad.numpy()

    opened = [ImageOps.fit(Image.open(p.path).convert("RGB"), (224, 224), Image.Resampling.BICUBIC) for p in pairs]
    original = np.stack([np.asarray(i, np.float32).transpose(2, 0, 1) / 255 for i in opened])
    step = 0.004 if sign else 0.02 / float(np.abs(gradient(original)).mean())
    weight = weight if sign else float(np.abs(gradient(original)).mean())
    x = original
    for _ in range(2):
        d = x - original
        down, across = np.sign(d[..., 1:, :] - d[..., :-1, :]), np.sign(d[..., 1:] - d[..., :-1])
        tv = np.zeros_like(d)
        tv[..., 1:, :] += down
        tv[..., :-1, :] -= down
        tv[..., 1:] += across
        tv[..., :-1] -= across
        direction = gradient(x) - weight * tv
        moved = x + step * (np.sign(direction) if sign else direction)
        x = np.clip(original + np.clip(moved - original, -epsilon, epsilon), 0, 1).astype(np.float32)
    attack = Unrounded(steps=2, epsilon=epsilon, lr=step, tv=weight, sign=sign)
    attack.classifier = classifier
    made = attack.predict_step(pairs).canvas.detach().numpy()
    assert np.abs(x - original).max() == pytest.approx(epsilon if not sign else 0.008, rel=1e-3)
    # Where a sum of signs and slopes is next to nothing, rounding decides its sign.
    assert (np.abs(made - x) < 1e-6).mean() > 0.999
    assert np.linalg.norm(made - x) / np.linalg.norm(x - original) < 0.02


def test_the_network_sees_the_canvas_itself(classifier, folder):
    """The score of the first step is the logit of the untouched original, whose pixels are those of the file."""
    pairs = pairs_of(folder, classifier, [7])
    attack = Attack(steps=1, epsilon=0.0, micro_batch=1)
    attack.classifier = classifier
    made = attack.predict_step(pairs)
    for i, pair in enumerate(pairs):
        seen = ImageOps.fit(Image.open(pair.path).convert("RGB"), (224, 224), Image.Resampling.BICUBIC)
        x = torch.from_numpy(np.asarray(seen, np.float32).transpose(2, 0, 1) / 255)
        assert torch.equal(made.canvas[i], x), "a ball of radius 0"
        # With gradients other operations run, which round otherwise.
        assert float(made.scores[0, i]) == pytest.approx(float(classifier(x[None])[0, 7].detach()), abs=1e-4)


# --- pairs ------------------------------------------------------------------------------------------------------------


def test_pairs_have_names_that_are_safe_and_no_class(classifier, folder):
    pairs = pairs_of(folder, classifier, [7, 8])
    assert len({p.id for p in pairs}) == 6
    for pair in pairs:
        assert class_of(pair.id) is None
        assert Path(pair.id).name == pair.id
        assert set(pair.id) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_.")
        assert pair.id.endswith(f"-to-{pair.index}")
    assert [p.own for p in pairs[:2]] == [301, 301]


def test_another_content_is_another_pair(classifier, folder):
    before = pairs_of(folder, classifier, [7])
    Image.fromarray(np.full((224, 224, 3), 9, np.uint8)).save(folder / "a.png")
    after = pairs_of(folder, classifier, [7])
    assert [a.id == b.id for a, b in zip(before, after, strict=True)] == [True, False, True]
    shutil.copy(folder / "a.png", folder / "copy.png")
    (folder / "again").mkdir()
    shutil.copy(folder / "a.png", folder / "again" / "a.png")
    files = [ImageFile(p, None) for p in (folder / "a.png", folder / "copy.png", folder / "again" / "a.png")]
    assert len(pair_up(files, [7], classifier)) == 2, "one for the same name and content"


def test_random_targets_are_of_the_content_and_never_the_own_class(folder):
    class Five(Classifier):
        """Enough of a network to pair images up."""

        def __init__(self) -> None:
            torch.nn.Module.__init__(self)
            self.num_classes, self.labels, self.alias = 5, list("abcde"), "five"

    drawn = set()
    for own, seed in itertools.product(range(5), range(40)):
        (pair,) = pair_up([ImageFile(folder / "a.png", own)], None, Five(), seed)
        assert pair.index != own
        drawn.add((own, pair.index))
        assert pair_up([ImageFile(folder / "a.png", own)], None, Five(), seed) == [pair]
    assert len(drawn) == 20, "each of the others may be drawn"


def test_an_image_without_a_class_has_the_one_that_the_network_sees(classifier, folder):
    """The class by the network is never drawn, and refused where it is asked for."""
    file = ImageFile(folder / "a.png", None)
    x = torch.from_numpy(levels(file.path).transpose(2, 0, 1) / 255).float()[None]
    seen = int(classifier(x).argmax())
    with pytest.raises(UserError, match=r"a\.png .*already, as efficientnet_lite0 sees it"):
        pair_up([file], [seen], classifier)
    with pytest.raises(UserError, match=r"a\.png .*already, by its name"):
        pair_up([ImageFile(file.path, 7)], [7], classifier)
    assert all(pair_up([file], None, classifier, seed)[0].index != seen for seed in range(5))


def test_units_that_are_no_pairs_are_refused(classifier):
    attack = Attack(steps=1)
    attack.classifier = classifier
    with pytest.raises(UserError, match="needs images"):
        attack.predict_step(parse_units("301", classifier))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"epsilon": 1.5}, "epsilon"), ({"epsilon": -0.1}, "epsilon"), ({"tv": -1.0}, "tv"), ({"lr": 0.0}, "lr")],
)
def test_arguments_out_of_range(arguments, words):
    with pytest.raises(UserError, match=f"^{words} must be"):
        Attack(**arguments)


@pytest.mark.parametrize("path", PRESETS, ids=lambda p: p.stem)
def test_every_preset_opens_with_its_command_and_is_parsed(path):
    text = path.read_text()
    first, second, third = text.splitlines()[:3]
    assert first.startswith("# featvis attack ")
    assert f"--preset {path.stem}" in first
    assert second.startswith("# Cost: ")
    assert third.startswith("# Expect: ")
    said = yaml.safe_load(text)["model"]
    assert said["class_path"] == "featvis.generators.Attack"
    made = Attack(**said["init_args"])
    assert {k: made.hparams[k] for k in said["init_args"]} == said["init_args"]


def test_the_presets_are_those_of_table_2():
    """Zhu and Cangelosi 2025, Table 2, and ours."""
    found = {p.stem: yaml.safe_load(p.read_text())["model"]["init_args"] for p in PRESETS}
    shared = {"lr": 0.01, "tv": 1e-4, "steps": 30, "sign": False}
    assert found["resnet50v2"] == {"epsilon": 0.01, **shared}
    assert found["vit"] == {"epsilon": 0.05, **shared}
    assert found["sign"] == {"epsilon": 4 / 255, "lr": None, "tv": 1e-4, "steps": 30, "sign": True}


# --- real images, real files ------------------------------------------------------------------------------------------


class Cut(Callback):
    """Ends a run after a step, as a kill would; says from which step each batch began."""

    def __init__(self, after: int | None = None) -> None:
        self.after = after
        self.began: list[int] = []

    def on_optimization_start(self, trainer, pl_module, state) -> None:
        self.began.append(state.step)

    def on_optimization_step(self, trainer, pl_module, step, score, state) -> None:
        if step == self.after:
            raise RuntimeError("cut")


def attacked(classifier, pairs: list[Pair], folder: Path, cut: Cut, **arguments) -> dict[str, bytes]:
    """The files of an attack through Lightning's Trainer."""
    attack = Attack(**{"steps": 8, "epsilon": 4 / 255, **arguments})
    attack.classifier = classifier
    writer = ImageWriter(str(folder), every=1e-9)
    trainer = Trainer(
        accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, enable_model_summary=False,
        enable_progress_bar=False, inference_mode=False, callbacks=[writer, cut],
    )  # fmt: skip
    try:
        trainer.predict(attack, datamodule=GivenUnits(pairs, 2), return_predictions=False)
    finally:
        # Where a process dies, the system gives its folder back.
        writer.teardown(trainer, attack, "predict")
    return {p.name: p.read_bytes() for p in folder.glob("*.png")}


@pytest.fixture(scope="module")
def real(classifier, sample) -> list[Pair]:
    """Four photographs with random targets."""
    names = ("n01440764", "n01860187", "n02669723", "n04562935")
    paths = [next((sample / name).glob("*.JPEG")) for name in names]
    return pair_up([image_file(p, classifier.synsets) for p in paths], None, classifier)


@pytest.mark.parametrize("epsilon", [0.01, 4 / 255])
def test_saved_files_lie_inside_their_ball(classifier, real, tmp_path, epsilon):
    made = attacked(classifier, real, tmp_path, Cut(), epsilon=epsilon, steps=16)
    assert set(made) == {f"{p.id}.png" for p in real}
    for pair in real:
        with Image.open(pair.path) as image:
            seen = ImageOps.fit(image.convert("RGB"), (224, 224), Image.Resampling.BICUBIC)
        written, original = levels(tmp_path / f"{pair.id}.png"), np.asarray(seen).astype(int)
        change = np.abs(written - original)
        assert (change / 255 <= epsilon).all()
        assert change.max() == {0.01: 2, 4 / 255: 4}[epsilon], "the ball is used to its edge"
        x = torch.from_numpy(np.stack([original, written]).transpose(0, 3, 1, 2) / 255).float()
        with torch.no_grad():
            before, after = classifier.net((x - 0.5) / 0.5)[:, pair.index].tolist()
        assert after - before > 3, "the target's logit rises in every image"


def test_a_run_that_was_cut_goes_on_to_the_same_bytes(classifier, real, tmp_path):
    whole, again = Cut(), Cut()
    undisturbed = attacked(classifier, real, tmp_path / "whole", whole)
    with pytest.raises(RuntimeError, match="cut"):
        attacked(classifier, real, tmp_path / "cut", Cut(after=4))
    assert not list((tmp_path / "cut").glob("*.png"))
    assert attacked(classifier, real, tmp_path / "cut", again) == undisturbed
    assert (whole.began, again.began) == ([0, 0], [5, 0]), "two batches"
