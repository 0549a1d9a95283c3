"""Normalised plausibility, distances on the sphere and the row `real_other`, folders in and records out."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from benchmark.cli import main
from benchmark.records.columns import column_of
from benchmark.records.record import Record, load_all
from benchmark.scoring import others, references
from benchmark.scoring.evaluate import evaluate
from benchmark.scoring.plan import Picture, Plan, Row
from benchmark.scoring.scorer import Scorer
from featvis.data.files import fit, open_rgb, to_tensor
from featvis.data.reference import EMBEDDED, read_bank
from featvis.data.sets import FolderImages
from featvis.networks.loading import load
from featvis.storage import images

NET = '''
import torch
from torch import nn


class Net(nn.Module):
    """Logits that follow the mean colour; its features shifted, all zero, or no numbers."""

    def __init__(self, kind="plain"):
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU())
        self.head = nn.Linear(8, 5)
        if kind == "zero":
            nn.init.zeros_(self.features[0].weight)
            nn.init.zeros_(self.features[0].bias)
        self.broken = kind == "broken"

    def forward(self, x):
        x = self.features(x).mean((2, 3))
        return self.head(x / 0 - x / 0 if self.broken else x)
'''
SIDE = 24
LABELS = ["red", "green", "blue", "white", "black"]
COLOURS = ((180, 40, 40), (40, 180, 40), (40, 40, 180), (200, 200, 200), (60, 60, 60))
OWN = "wrap-own"


def picture(rng: np.random.Generator, label: int) -> Image.Image:
    noise = rng.integers(-35, 35, (SIDE, SIDE, 3))
    return Image.fromarray((np.array(COLOURS[label]) + noise).clip(0, 255).astype(np.uint8))


def photographs(folder: Path, labels: list[str], each: int = 4) -> Path:
    rng = np.random.default_rng(1)
    for label in labels:
        (folder / label).mkdir(parents=True)
        for i in range(each):
            picture(rng, LABELS.index(label)).save(folder / label / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Networks, photographs of five classes and of three of them, and pictures of the three."""
    folder = tmp_path_factory.mktemp("distances")
    (folder / "mynet.py").write_text(NET)
    for name, kind in (("own", "plain"), ("zero", "zero"), ("broken", "broken")):
        (folder / f"{name}.yaml").write_text(
            f"class_path: mynet.Net\ninit_args: {{kind: {kind}}}\nmean: [0.5, 0.5, 0.5]\nstd: [0.25, 0.25, 0.25]\n"
            f"input_size: [{SIDE}, {SIDE}]\nlabels: [{', '.join(LABELS)}]\n"
        )
    photographs(folder / "five", LABELS)
    photographs(folder / "three", LABELS[:3])
    (folder / "seen").mkdir()
    rng = np.random.default_rng(2)
    for label in (2, 0, 1):
        picture(rng, label).save(folder / "seen" / f"{label}.png")
    return folder


def scored(place: Path, data: str, *more: str) -> dict[str, Record]:
    arguments = ["evaluate", "seen", "--model", "wrap:own.yaml", "--frechet", "wrap:own.yaml", "--data", data, *more]
    assert main([*arguments, "--out", f"out-{data}"]) == 0
    return {r.method: r for r in load_all(place / f"out-{data}" / "records")}


@pytest.fixture(scope="module")
def found(place) -> dict[str, Record]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        both = "wrap:broken.yaml,wrap:zero.yaml"
        return scored(place, "five", "--classifiers", both, "--observers", f"wrap:own.yaml,{both}")


def features(place: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    monkeypatch.chdir(place)
    network = load("wrap:own.yaml", "float32")
    seen = network.features(torch.stack([to_tensor(fit(open_rgb(p), (SIDE, SIDE))) for p in files]))
    return {k: v.double().numpy() for k, v in seen.items()}


def gap(x: np.ndarray, among: np.ndarray) -> float:
    return float(min(1 - x @ y / np.sqrt((x @ x) * (y @ y)) for y in among))


def test_plausibility_is_the_angle_to_the_nearest_photograph_of_the_class(place, found, monkeypatch):
    real = {c: features(place, [place / "five" / c / f"{i}.png" for i in range(4)], monkeypatch) for c in LABELS}
    shown = features(place, [place / "seen" / f"{c}.png" for c in range(3)], monkeypatch)
    want = [gap(shown["flat"][c], real[LABELS[c]]["flat"]) for c in range(3)]
    column = found["seen"].metric("plausibility")
    assert column.value == pytest.approx(np.mean(want), rel=1e-4)
    assert (column.n, column.label, column.group) == (3, "Plausibility", "plausibility")
    # A photograph that the reference holds is not its own neighbour.
    own = [gap(real[c]["flat"][0], real[c]["flat"][1:]) for c in LABELS[:3]]
    assert found["real"].metric("plausibility").value == pytest.approx(np.mean(own), rel=1e-4)
    # The units of the folder are 0, 1, 2; each gets the first photographs left of `white` and `black`.
    foreign = [real[LABELS[c]]["flat"][i] for c, i in taken([0, 1, 2])]
    wrong = [gap(x, real[LABELS[c]]["flat"]) for c, x in enumerate(foreign)]
    other = found["real_other"].metric("plausibility")
    assert other.value == pytest.approx(np.mean(wrong), rel=1e-4)
    assert other.n == found["real_other"].n == 3
    assert found["real"].metric("plausibility").value < other.value


def taken(classes: list[int]) -> list[tuple[int, int]]:
    """The class, and which of its photographs, that stands in for each class in the row."""
    found, _ = others.other_classes(classes, range(5))
    return [(int(str(c)), found[:i].count(c)) for i, c in enumerate(found)]


def test_the_distance_on_the_sphere_is_that_of_the_features_of_the_same_classes(place, found, monkeypatch):
    files = [place / "five" / c / f"{i}.png" for c in LABELS[:3] for i in range(1, 4)]  # the first is the row real
    reference = features(place, files, monkeypatch)["pooled"].astype(np.float16).astype(float)
    shown = features(place, [place / "seen" / f"{c}.png" for c in range(3)], monkeypatch)["pooled"]
    x, y = (z / np.linalg.norm(z, axis=1)[:, None] for z in (shown, reference))

    def within(z: np.ndarray) -> float:
        kernel = (z @ z.T + 1) ** 3
        return float((kernel.sum() - kernel.trace()) / (len(z) * (len(z) - 1)))

    column = found["seen"].metric(f"sphere_{OWN}")
    want = within(x) + within(y) - 2 * ((x @ y.T + 1) ** 3).mean()
    assert column.value == pytest.approx(want, abs=2e-3)
    assert column.label == f"Kernel on the sphere, {OWN}, the target"
    assert column.definition["reference"] == "9 images of the same classes: five"
    values = [found[row].metric(f"sphere_{OWN}").value for row in ("real", "real_other")]
    assert values[0] < values[1]


def test_an_observer_that_cannot_be_used_is_absent_and_nothing_else_is_lost(found):
    for method, record in found.items():
        assert record.status == "done"
        reasons = {m.name: str(m.absent) for m in record.metrics if m.value is None}
        assert "puts out values that are not finite for 3 of 3 images" in reasons["sphere_wrap-broken"]
        assert "puts out values that are not finite for 3 of 3 images" in reasons["top1_wrap-broken"]
        assert "wrap-zero makes of 3 of 3 images is zero throughout" in reasons["sphere_wrap-zero"]
        # Scores of units have reasons of their own, with three units; Inception's weights are not here.
        lost = {name for name in reasons if column_of(name).evaluator != "units"} - {"fid", "kid"}
        assert lost == {"sphere_wrap-broken", "top1_wrap-broken", "sphere_wrap-zero"}, method
    assert found["seen"].metric("sphere_wrap-zero").label == "Kernel on the sphere, wrap-zero, same family"


def test_where_there_are_the_units_own_classes_alone_the_labels_move_by_one(place, monkeypatch):
    monkeypatch.chdir(place)
    found = scored(place, "three", "--classifiers", "", "--metrics", "plausibility,frechet,sphere")
    other = found["real_other"]
    for name in (f"sphere_{OWN}", f"frechet_{OWN}", f"kernel_{OWN}"):
        assert other.metric(name).absent == others.OWN_CLASSES
        assert found["seen"].metric(name).value is not None
    real = {c: features(place, [place / "three" / c / f"{i}.png" for i in range(4)], monkeypatch) for c in LABELS[:3]}
    order = [int(u) for u in other.units]
    following = dict(zip(order, order[1:] + order[:1], strict=True))
    want = [gap(real[LABELS[following[c]]]["flat"][0], real[LABELS[c]]["flat"]) for c in order]
    assert other.metric("plausibility").value == pytest.approx(np.mean(want), rel=1e-4)
    assert other.metric("plausibility").values == pytest.approx(want, rel=1e-3)


@given(
    classes=st.lists(st.integers(0, 30), min_size=1, max_size=12, unique=True),
    there=st.sets(st.integers(0, 30), max_size=25),
)
def test_no_class_stands_in_for_itself(classes, there):
    found, foreign = others.other_classes(classes, there)
    assert found == others.other_classes(classes, there)[0]
    assert len(found) == len(classes)
    assert all(o != c and (o is None or o in there) for c, o in zip(classes, found, strict=True))
    rest = there - set(classes)
    assert foreign == bool(rest)
    if foreign:
        assert set(found) <= rest
        assert len(set(found)) == min(len(rest), len(classes)), "as different as they can be"
    else:
        chosen = [o for o in found if o is not None]
        assert sorted(chosen) == sorted(set(chosen))
        assert len(chosen) == (len(set(classes) & there) if len(set(classes) & there) > 1 else 0)


def test_no_photograph_stands_in_twice_and_a_broken_one_never(tmp_path):
    photographs(tmp_path / "set", ["red", "green", "white"], each=2)
    (tmp_path / "set" / "white" / "0.png").write_bytes(b"no image")
    source = FolderImages(tmp_path / "set", LABELS)
    pictures, why = others.photographs(source, [0, 1])
    assert [(p.label, p.unit, p.photograph) for p in pictures] == [(0, "0", True)], "white has one left"
    assert np.array_equal(np.asarray(pictures[0].image), np.asarray(open_rgb(tmp_path / "set" / "white" / "1.png")))
    assert why == ""
    assert [p.label for p in others.photographs(source, [0])[0]] == [0]


def test_the_row_is_in_tables_of_classes_that_have_others(tmp_path):
    source = FolderImages(photographs(tmp_path / "set", ["red", "green"]), LABELS)
    rows = [Row("maco", folder="a")]

    def kinds(units: list[str], bank: FolderImages | None) -> list[str]:
        return [row.kind for row in others.table_rows(rows, units, bank)]

    whole = ["real", "method", "real_other", "noise"]
    assert kinds(["0", "1"], source) == kinds(["0"], source) == kinds(["301@0", "301@1"], None) == whole
    one = FolderImages(tmp_path / "set", LABELS, classes=[0])
    without = ["real", "method", "noise"]
    assert kinds(["0"], one) == kinds(["blocks.2-3"], None) == kinds(["0", "blocks.2-3"], source) == without


PLAN = Plan(
    out="out", suite="s", model="efficientnet_lite0", classifiers=["efficientnet_lite0"], frechet="efficientnet_lite0",
    data=None, seed=0, units=["323", "301"], labels=["monarch", "ladybug"], canvas=[32, 32],
    rows=others.table_rows([], ["323", "301"], None),
)  # fmt: skip


def test_the_embedded_reference_has_the_row_as_far_as_it_goes(classifier, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    scorer = Scorer(PLAN, None, {"efficientnet_lite0": classifier})
    assert not torch.backends.cudnn.allow_tf32  # scores are in float32 on any card
    real, other = ({m.name: m for m in scorer.real(kind=kind)[0]} for kind in ("real", "real_other"))
    bank = read_bank(EMBEDDED, classifier.name)
    chosen, _ = others.other_classes([323, 301], bank.labels.tolist())
    rows = [int((bank.labels == c).nonzero()[0, 0]) for c in chosen]
    pooled = bank.features.double()
    of_class = [pooled[bank.labels == c] for c in (323, 301)]
    want = [float((y - pooled[i]).square().sum(1).min()) for y, i in zip(of_class, rows, strict=True)]
    assert other["plausibility_pooled"].value == pytest.approx(np.mean(want), rel=1e-6)
    right = [float(bank.predictions[i] == c) for i, c in zip(rows, (323, 301), strict=True)]
    assert other[f"top1_{classifier.name}"].value == pytest.approx(np.mean(right))
    assert other["sphere_efficientnet_lite0"].n == 2
    assert other["sphere_efficientnet_lite0"].definition["reference"].startswith("996 images of the other classes")
    for name, why in (("logit", "own class alone"), ("plausibility", "no flattened features of these images")):
        assert other[name].value is None
        assert why in other[name].absent
    assert other["spectrum_deviation"].value is None
    assert real["logit"].value == pytest.approx(float(bank.logits[torch.isin(bank.labels, scorer.classes)].mean()))
    # One image a class is its own only neighbour, whatever the order of the units.
    assert "no other image" in real["plausibility"].absent


def test_an_observer_of_other_classes_has_nothing_embedded_to_compare_with(place, classifier, monkeypatch):
    monkeypatch.chdir(place)
    plan = dataclasses.replace(
        PLAN, model=OWN, given="wrap:own.yaml", classifiers=[], observers=["lite0"], frechet=OWN, units=["0"],
        labels=["red"],
    )  # fmt: skip
    scorer = Scorer(plan, None, {OWN: load("wrap:own.yaml", "float32"), "lite0": classifier})
    shown = scorer.score([Picture(open_rgb(place / "seen" / "0.png"), 0)])
    reasons = {m.name: m.absent for m in shown}
    why = f"efficientnet_lite0 and {OWN} do not share their classes, of which the reference holds images"
    assert reasons["sphere_efficientnet_lite0"] == why
    assert f"the reference holds no features of {OWN}" in reasons[f"sphere_{OWN}"]
    assert reasons["logit"] is None
    assert scorer.real(kind="real_other")[1] == 0


def test_the_row_real_has_as_many_photographs_as_a_method_has_pictures(place, monkeypatch):
    """But no more than half of a class; sets are compared with all the others of those classes."""
    monkeypatch.chdir(place)
    units = ["0@0", "2@0", "2@1", "2@2", "1@0", "1@1"]
    plan = dataclasses.replace(PLAN, model=OWN, classifiers=[], frechet=OWN, units=units, labels=units, data="five")
    plan.rows = [Row("real", "real")]
    network = load("wrap:own.yaml", "float32")
    scorer = Scorer(plan, plan.sources(network), {OWN: network})
    shown = [(0, 0), (2, 0), (2, 1), (1, 0), (1, 1)]
    units_shown = [(p.unit, p.image.tobytes()) for p in scorer.real_images]
    files = {(c, i): place / "five" / LABELS[c] / f"{i}.png" for c in range(3) for i in range(4)}
    assert units_shown == [
        (f"{c}@{i}", open_rgb(files[c, i]).tobytes()) for c, i in shown
    ]  # fmt: skip
    reference, said = scorer.set_reference(OWN, torch.zeros(0, dtype=torch.long))
    assert said == "7 images of the same classes"
    want = features(place, [file for key, file in files.items() if key not in shown], monkeypatch)["pooled"]
    assert sorted(reference.double().tolist()) == [pytest.approx(x, abs=1e-3) for x in sorted(want.tolist())]
    measured, count = scorer.real()
    assert count == len(shown)
    logits = {m.name: m for m in measured}["logit"]
    assert logits.values is not None
    assert [v is None for v in logits.values] == [False, False, False, True, False, False]


def test_a_folder_with_several_pictures_a_class_has_floors_of_as_many(place, tmp_path, monkeypatch):
    monkeypatch.chdir(place)
    rng = np.random.default_rng(4)
    for name, label in (("0_a", 0), ("0_b", 0), ("2_a", 2), ("2_b", 2), ("2_c", 2)):
        (tmp_path / "many").mkdir(exist_ok=True)
        picture(rng, label).save(tmp_path / "many" / f"{name}.png")
    arguments = ["evaluate", str(tmp_path / "many"), "--model", "wrap:own.yaml", "--frechet", "wrap:own.yaml"]
    arguments += ["--classifiers", "", "--data", "five", "--metrics", "logit", "--out", str(tmp_path / "out" / "many")]
    assert main(arguments) == 0
    found = {r.method: r for r in load_all(tmp_path / "out" / "many" / "records")}
    assert found["many"].units == ("0", "0@1", "2", "2@1", "2@2")
    assert found["many"].labels == ("red", "red", "blue", "blue", "blue")
    # Of four photographs a class half at most; the noise of each picture is another.
    assert {name: found[name].n for name in ("many", "real", "noise")} == {"many": 5, "real": 4, "noise": 5}
    files = [tmp_path / "many" / f"{name}.png" for name in ("0_a", "0_b", "2_a", "2_b", "2_c")]
    network = load("wrap:own.yaml", "float32")
    own = [float(network(to_tensor(open_rgb(p))[None])[0, int(p.name[0])]) for p in files]
    assert found["many"].metric("logit").values == pytest.approx(own, abs=1e-4)
    assert len(set(found["noise"].metric("logit").values)) == 5


def test_a_broken_picture_takes_its_own_row_alone(place, tmp_path, monkeypatch):
    monkeypatch.chdir(place)
    rng = np.random.default_rng(3)
    for name in ("whole", "torn"):
        (tmp_path / name).mkdir()
        for label in (0, 2):
            alpha = np.full((SIDE, SIDE), 255, np.uint8)
            images.write(tmp_path / name / f"{label}.png", np.asarray(picture(rng, label)), alpha, {})
    torn = tmp_path / "torn" / "2.png"
    torn.write_bytes(torn.read_bytes()[:-400])
    rows = [Row("whole", folder="whole"), Row("torn", folder="torn"), Row("real", "real")]
    plan = dataclasses.replace(
        PLAN, out=str(tmp_path), model=OWN, classifiers=[], frechet=OWN, units=["0", "2"], labels=["red", "blue"],
        data="five", rows=rows, metrics=["plausibility"], cache=str(tmp_path / "reference"),
    )  # fmt: skip
    assert evaluate(plan, None, {OWN: load("wrap:own.yaml", "float32")}) == 1
    found = {r.method: r for r in load_all(tmp_path / "records")}
    assert {name: r.status for name, r in found.items()} == {"whole": "done", "torn": "failed", "real": "done"}
    assert "truncated" in found["torn"].error
    assert found["whole"].metric("plausibility").n == 2


def test_a_network_passes_over_a_set_once(monkeypatch):
    monkeypatch.setattr(references, "find_inception", lambda folders: None)
    names = {"classifiers": ["lite1"], "frechet": "lite1", "observers": ["lite1", "deit", "gone"]}
    plan = dataclasses.replace(PLAN, data="set", unavailable={"gone": "no weights"}, **names)
    tasks = references.passes(plan)
    assert len(set(tasks)) == len(tasks)
    banks = [(t.model, t.role) for t in tasks if t.kind == "bank"]
    frechet = [("lite1", "frechet"), ("efficientnet_lite0", "frechet"), ("deit", "frechet")]
    assert banks == [("efficientnet_lite0", "bank"), *frechet]
    assert {t.model for t in references.passes(dataclasses.replace(plan, metrics=["frechet"]))} == {"lite1"}
    assert references.passes(dataclasses.replace(plan, metrics=["logit"])) == []
