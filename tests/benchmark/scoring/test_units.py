"""Pictures of channels in a folder: what is read off them, against a network whose channels are colours."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from places import ROOT
from scipy.optimize import brentq
from scipy.special import expit
from torch import nn

from benchmark.cli import main
from benchmark.evaluation import evaluate
from benchmark.perf import peers
from benchmark.records.record import Record
from benchmark.scoring.evaluators.units import Observer
from benchmark.scoring.natural import Natural
from featvis.data.files import as_seen
from featvis.data.gallery import LEAST, Rows, excited
from featvis.errors import UserError
from featvis.networks.classifier import Classifier
from featvis.networks.loading import load
from featvis.networks.units import unit_of
from featvis.networks.weights import ModelSpec

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
PEERS = ROOT / ".peers"
ABOUT = {"mean": 0.5, "std": 0.25, "input_size": 24, "labels": ["red", "green", "blue"]}
SIDE = 24
OBSERVER = """
import torch
from torch import nn


def make(broken=False):
    net = nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))
    with torch.no_grad():
        net[0].weight.copy_(torch.cat([torch.eye(3), -torch.eye(3)]).view(6, 3, 1, 1))
        net[0].bias.zero_()
        if broken:
            net[0].weight.fill_(float("nan"))
    return net
"""


def colours() -> nn.Module:
    """Channel c of its first layer is how much of colour c a place has; channel 3 is nothing."""
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    with torch.no_grad():
        net[0].weight.zero_()
        net[0].weight[:3, :, 0, 0] = torch.eye(3)
        for p in (net[0].bias, net[3].bias):
            p.zero_()
    return net


def picture(path: Path, colour, rng) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.clip(np.asarray(colour) + rng.integers(-15, 15, (SIDE, SIDE, 3)), 0, 255)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Real images of every colour, and pictures of three channels, each of its own colour, and of one of another."""
    folder, rng = tmp_path_factory.mktemp("units"), np.random.default_rng(5)
    for i in range(LEAST + 30):
        label = ABOUT["labels"][i % 3]
        picture(folder / "real" / label / f"{i}.png", rng.integers(20, 235, 3), rng)
    for c in range(3):
        colour = [30, 30, 30]
        colour[c] = 250
        picture(folder / "good" / f"0_{c}.png", colour, rng)
        picture(folder / "good" / f"0_{c}@1.png", colour, rng)
        picture(folder / "wrong" / f"p{c}.png", colour, rng)
    picture(folder / "good" / "0_3.png", [128, 128, 128], rng)
    (folder / "wrong" / "units.csv").write_text(
        "file,unit\n" + "".join(f"p{c}.png,0:{(c + 1) % 3}\n" for c in range(3))
    )
    (folder / "eyes.py").write_text(OBSERVER)
    common = "mean: [0.5, 0.5, 0.5]\nstd: [0.25, 0.25, 0.25]\ninput_size: [24, 24]\n"
    (folder / "eyes.yaml").write_text(f"class_path: eyes.make\n{common}")
    (folder / "blind.yaml").write_text(f"class_path: eyes.make\ninit_args: {{broken: true}}\n{common}")
    return folder


def scores(place: Path, name: str, observers: list[str]):
    table = evaluate(
        place / name, colours(), [], ["units"], [f"wrap:{place}/{o}.yaml" for o in observers],
        data=str(place / "real"), out=place / "out" / f"{name}-{len(observers)}", **ABOUT,
    )  # fmt: skip
    return table.set_index(["method", "metric"])


def test_pictures_of_their_own_channel_are_told_apart_and_others_are_not(place):
    good, wrong = scores(place, "good", ["eyes"]), scores(place, "wrong", ["eyes"])
    for name in ("identification_wrap-eyes", "afc_easy_wrap-eyes"):
        assert good.loc[("good", name), "value"] > 0.95
        assert good.loc[("natural", name), "value"] > 0.9
        assert wrong.loc[("wrong", name), "value"] < 0.25
    assert 0 < good.loc[("noise", "identification_wrap-eyes"), "value"] < 1
    # The channel that nothing excites is named, and does not count.
    record = Record.read(next((place / "out" / "good-1").rglob("good.json")))
    excess = record.metric("excess_activation")
    assert excess.definition["without_an_exciting_image"] == ["0-3"]
    assert (excess.n, len(record.units)) == (3, 7)
    assert excess.values[-1] is None
    # By hand: a channel's activation is the mean of a colour, and so are those of the real images.
    real = np.array([np.asarray(Image.open(p)).mean((0, 1)) for p in sorted((place / "real").rglob("*.png"))])
    expected = []
    for c in range(3):
        own = [np.asarray(Image.open(place / "good" / n))[..., c].mean() for n in (f"0_{c}.png", f"0_{c}@1.png")]
        median = np.sort(real[:, c])[(len(real) - 1) // 2]
        expected.append((np.mean(own) - median) / (real[:, c].max() - median))
    assert good.loc[("good", "excess_activation"), "value"] == pytest.approx(np.mean(expected), abs=1e-3)
    assert good.loc[("good", "dead_share"), "value"] == 0
    assert wrong.loc[("wrong", "dead_share"), "value"] == 1
    assert wrong.loc[("wrong", "excess_activation"), "value"] < 0
    assert good.loc[("good", "diversity_wrap-eyes"), "value"] < 0.01
    assert "no unit has more than one picture" in wrong.loc[("wrong", "diversity_wrap-eyes"), "absent"]


def test_an_observer_that_sees_nothing_takes_nothing_from_the_others(place):
    both = scores(place, "good", ["eyes", "blind"])
    assert both.loc[("good", "identification_wrap-eyes"), "value"] == 1
    for name in ("identification", "afc_easy", "diversity"):
        assert both.loc[("good", f"{name}_wrap-blind"), "absent"]
    assert "has other classes" in both.loc[("good", "transfer_percentile_wrap-blind"), "absent"]


def test_one_unit_alone_has_nothing_to_be_told_apart_from(place):
    rng = np.random.default_rng(1)
    picture(place / "alone" / "0_0.png", [250, 20, 20], rng)
    table = scores(place, "alone", ["eyes"])
    assert "fewer than two units" in table.loc[("alone", "identification_wrap-eyes"), "absent"]
    assert "fewer than two units" in table.loc[("alone", "afc_easy_wrap-eyes"), "absent"]
    assert table.loc[("alone", "excess_activation"), "value"] > 0.5


def test_a_channel_that_the_network_does_not_have_is_left_out_by_name(place, capsys):
    rng = np.random.default_rng(1)
    for name in ("0_0", "0_1", "0_17", "sky"):
        picture(place / "odd" / f"{name}.png", [250, 20, 20], rng)
    table = scores(place, "odd", ["eyes"])
    said = capsys.readouterr().err
    assert "0_17.png: layer 0 has the indices 0 to 3; it is left out" in said
    assert "1 images without a unit in their name are left out" in said
    assert table.loc[("odd", "excess_activation"), "n"] == 2


def test_a_table_that_names_no_picture_is_one_sentence(place, capsys):
    rng = np.random.default_rng(1)
    picture(place / "named" / "a.png", [250, 20, 20], rng)
    (place / "named" / "units.csv").write_text("b.png,0:1\n")
    with pytest.raises(UserError, match="names none of the 1 images"):
        scores(place, "named", ["eyes"])


def test_too_few_real_images_have_no_queries():
    few = excited(torch.arange(float(LEAST - 1)))
    assert few.easy is None
    assert few.natural.tolist()[:2] == [LEAST - 2, LEAST - 3]
    whole = excited(torch.arange(float(LEAST)))
    for high, low in (whole.easy, whole.hard):
        assert not set(high.tolist()) & set(low.tolist())
        assert high.min() > low.max()


@pytest.mark.parametrize("n", [LEAST, 500, 925, 1000, 3000])
def test_no_query_is_one_of_the_nine_that_stand_for_the_unit_nor_on_both_sides(n):
    found = excited(torch.arange(float(n)))
    sides = [found.natural, *found.easy, *found.hard]
    for one, other in [(found.natural, side) for side in sides[1:]] + [found.easy, found.hard]:
        assert not set(one.tolist()) & set(other.tolist())
    start = max(9, round(0.02 * n) - 10)
    assert found.hard[0].tolist() == [n - 1 - rank for rank in range(start, start + 20)]
    assert found.hard[1].tolist() == [n - 1 - rank for rank in range(round(0.1 * n) - 10, round(0.1 * n) + 10)]


def test_what_is_not_finite_excites_least():
    values = torch.arange(1000.0)
    values[[3, 4, 5]] = torch.tensor([torch.inf, -torch.inf, torch.nan])
    found = excited(values)
    assert found.natural.tolist() == list(range(999, 990, -1))
    assert found.maximum == 999
    assert set(found.easy[1].tolist()) >= {3, 4, 5}


def test_a_photograph_is_no_query_for_itself():
    """Three units, of which two show photographs that would be their queries: against loops over the others."""
    n, width, units = 500, 6, 3
    stream = torch.Generator().manual_seed(0)
    pooled = torch.randn(n, width, generator=stream).half()
    activations = torch.randn(n, units, generator=stream)
    digests = torch.arange(1, n + 1)
    own = {0: [int(activations[:, 0].argsort(descending=True)[r]) for r in (12, 50)], 1: [], 2: []}
    own[2] = [int(activations[:, 2].argsort()[0])]
    shown = [(0, i) for i in own[0]] + [(1, None)] + [(2, i) for i in own[2]]
    features = torch.stack([torch.randn(width, generator=stream) if i is None else pooled[i].float() for _, i in shown])
    ids = torch.tensor([0 if i is None else int(digests[i]) for _, i in shown])
    rows = Rows(({"rows": torch.arange(n), "digests": digests, "activations": activations},))
    plan = SimpleNamespace(units=["0", "1", "2"], texts=[])
    network = Classifier(colours(), ModelSpec("tiny", "tiny", mean=(0.5,) * 3, std=(0.5,) * 3, input_size=(8, 8)))
    natural = Natural(SimpleNamespace(plan=plan, target=network), rows)
    gallery = Rows(({"rows": torch.arange(n), "pooled": pooled},))
    numbers = torch.tensor([u for u, _ in shown])
    observer = Observer(natural, gallery, SimpleNamespace(ids=ids), numbers, {"pooled": features})
    found = {m.name: m.value for m in observer.choices("eyes", "eyes", {})}

    x, mean = pooled.double().numpy(), pooled.double().numpy().mean(0)

    def direction(vectors):
        return (vectors - mean) / np.linalg.norm(vectors - mean, axis=-1, keepdims=True)

    of = np.stack([direction(features.double().numpy()[(numbers == u).numpy()]).mean(0) for u in range(units)])
    easy, hard = [], []
    for u in range(units):
        left = [i for i in activations[:, u].argsort(descending=True).tolist() if i not in own[u]]
        told_apart = of[u] - of[np.arange(units) != u].mean(0)
        said, m = direction(x[left]) @ told_apart, len(left)
        low = round(0.1 * m) - 10
        for scores_, up, down in ((easy, said[10:30], said[-20:]), (hard, said[9:29], said[low : low + 20])):
            scores_.append((up[:, None] > down[None]).mean())
    assert found["afc_easy_eyes"] == pytest.approx(np.mean(easy), abs=1e-6)
    assert found["afc_hard_eyes"] == pytest.approx(np.mean(hard), abs=1e-6)


def test_identification_grades_and_diversity_are_those_of_loops_in_early_and_late_layers():
    """Classes are compared by what an observer knows at its end, channels of a first layer by what it sees halfway."""
    n, widths, groups = 500, {"pooled": 6, "middle": 8}, [[0, 1, 2], [3, 4, 5]]
    keys = ["pooled"] * 3 + ["middle"] * 3
    stream = torch.Generator().manual_seed(0)
    activations = torch.randn(n, 6, generator=stream)
    gallery = {}
    for i, (key, width) in enumerate(widths.items()):
        # What excites a unit can be seen, in noise.
        seen = activations[:, groups[i]] @ torch.randn(3, width, generator=stream)
        gallery[key] = (1.0 + seen + torch.randn(n, width, generator=stream)).half()
    order = activations.argsort(0, descending=True)
    # Two pictures of each unit; the first two are photographs: one that stands for the unit, and one of its queries.
    numbers = torch.arange(6).repeat_interleave(2)
    features = {k: 1.0 + torch.randn(12, width, generator=stream) for k, width in widths.items()}
    for picture, rank in ((0, 3), (1, 12)):
        features["pooled"][picture] = gallery["pooled"][order[rank, 0]].float()
    digests, ids = torch.arange(1, n + 1), torch.zeros(12, dtype=torch.long)
    ids[:2] = digests[order[[3, 12], 0]]
    rows = Rows(({"rows": torch.arange(n), "digests": digests, "activations": activations},))
    plan = SimpleNamespace(units=["0", "1", "2", "0-0", "0-1", "0-2"], texts=["0", "1", "2", "0:0", "0:1", "0:2"])
    network = Classifier(colours(), ModelSpec("tiny", "tiny", mean=(0.5,) * 3, std=(0.5,) * 3, input_size=(8, 8)))
    natural = Natural(SimpleNamespace(plan=plan, target=network), rows)
    pool = Rows(({"rows": torch.arange(n), **gallery},))
    observer = Observer(natural, pool, SimpleNamespace(ids=ids), numbers, features)
    found = {m.name: m for m in observer.choices("eyes", "eyes", {})}
    told, diverse = "identification_eyes", "diversity_eyes"
    found |= {told: observer.identification(told, "eyes", {}), diverse: observer.diversity(diverse, "eyes", {})}

    def direction(vectors, key):
        moved = vectors.double().numpy() - gallery[key].double().numpy().mean(0)
        return moved / np.linalg.norm(moved, axis=-1, keepdims=True)

    images = {k: direction(x, k) for k, x in gallery.items()}
    shown = {k: direction(x, k) for k, x in features.items()}
    same, graded, apart, slopes = [], [], [], []
    for group in groups:
        key = keys[group[0]]
        nine = {v: images[key][order[:9, v]] for v in group}
        matrix = np.zeros((3, 3))
        for i, u in enumerate(group):
            for j, v in enumerate(group):
                # A photograph is not compared with itself.
                others = [(digests[order[:9, v]] != ids[p]).numpy() for p in (2 * u, 2 * u + 1)]
                alike = [np.mean(nine[v][other] @ shown[key][2 * u + k]) for k, other in enumerate(others)]
                matrix[i, j] = np.mean(alike)
        matrix -= matrix.mean(0)
        same += [np.mean([matrix[i, i] > matrix[i, j] for j in range(3) if j != i]) for i in range(3)]

        def gaps(of, leave, group=group, key=key):
            """For each unit of the group, the differences of its queries' similarity to what is shown of it."""
            out = []
            for u in group:
                told_apart = of[u] - np.mean([of[v] for v in group if v != u], 0)
                left = [i for i in order[:, u].tolist() if not (leave and u == 0 and digests[i] in ids)]
                said = images[key][left] @ told_apart
                out.append(said[10:30][:, None] - said[-20:][None])
            return np.array(out)

        known = gaps({v: nine[v].mean(0) for v in group}, leave=False)
        slope = brentq(lambda s, known=known: expit(s * known).mean() - 0.9, 0, 1e3)
        slopes.append(slope)
        mine = gaps({u: shown[key][[2 * u, 2 * u + 1]].mean(0) for u in group}, leave=True)
        graded += list(expit(slope * mine).mean((1, 2)))
        apart += [1 - shown["pooled"][2 * u] @ shown["pooled"][2 * u + 1] for u in group]
    for name, expected in ((told, same), ("afc_graded_eyes", graded), (diverse, apart)):
        assert found[name].value == pytest.approx(np.mean(expected), abs=1e-5), name
        assert found[name].values == pytest.approx(np.repeat(expected, 2), rel=1e-4), name  # kept by five digits
    assert list(found["afc_graded_eyes"].definition["slope"].values()) == pytest.approx(slopes, rel=1e-3)
    assert len(set(same)) > 1, "not all are told apart"


@pytest.mark.parametrize("named", [["red", "green", "blue"], ["van", "bus", "cab"], ["green", "red", "blue"], None])
def test_a_percentile_is_of_the_same_classes_alone(tmp_path, named):
    rng = np.random.default_rng(0)
    for c, label in enumerate(ABOUT["labels"]):
        for i in range(9):
            picture(tmp_path / "real" / label / f"{i}.png", rng.integers(20, 235, 3), rng)
        picture(tmp_path / "shown" / f"{c}.png", rng.integers(20, 235, 3), rng)
    (tmp_path / "eyes3.py").write_text(OBSERVER.replace("nn.Linear(6, 4)", "nn.Linear(6, 3)"))
    text = "class_path: eyes3.make\nmean: [0.5, 0.5, 0.5]\nstd: [0.25, 0.25, 0.25]\ninput_size: [24, 24]\n"
    (tmp_path / "eyes3.yaml").write_text(text + (f"labels: {named}\n" if named else ""))
    table = scores(tmp_path, "shown", ["eyes3"])
    value, absent = table.loc[("shown", "transfer_percentile_wrap-eyes3"), ["value", "absent"]]
    if named == ABOUT["labels"]:
        judge = load(f"wrap:{tmp_path / 'eyes3.yaml'}", "float32").net

        def sure(folder: str, label: int) -> np.ndarray:
            pixels = np.stack([np.asarray(Image.open(p)) for p in sorted(tmp_path.glob(folder))])
            x = torch.from_numpy(pixels.transpose(0, 3, 1, 2) / 255).float()
            logits = judge((x - 0.5) / 0.25).detach().double().numpy()
            return logits[:, label] - np.log(np.exp(logits).sum(1))

        below = [np.mean(sure(f"real/{label}/*.png", c) < sure(f"shown/{c}.png", c))
                 for c, label in enumerate(ABOUT["labels"])]  # fmt: skip
        assert 0 < min(below) < max(below) < 1
        assert value == pytest.approx(np.mean(below))
    else:
        assert np.isnan(value)
        assert "wrap-eyes3 has other classes than" in absent


def test_images_that_excite_a_unit_alike_are_chosen_whatever_the_order_of_their_files():
    """Of a sparse channel most images are exactly 0: the last ones of a sorted folder are of one class."""
    stream = torch.Generator().manual_seed(0)
    activations = torch.zeros(1000, 2)
    activations[torch.randperm(1000, generator=stream)[:50], 0] = torch.rand(50, generator=stream)
    activations[:, 1] = torch.rand(1000, generator=stream)
    digests = torch.randint(1, 2**62, (1000,), generator=stream)
    plan = SimpleNamespace(units=["0-0", "0-1"], texts=["0:0", "0:1"])
    network = Classifier(colours(), ModelSpec("tiny", "tiny", mean=(0.5,) * 3, std=(0.5,) * 3, input_size=(8, 8)))
    scorer = SimpleNamespace(plan=plan, target=network)

    def choices(order: torch.Tensor, leave: torch.Tensor) -> list[list[torch.Tensor]]:
        """The digests of all choices, of either unit, and the same without some images."""
        rows = Rows(({"rows": torch.arange(1000), "digests": digests[order], "activations": activations[order]},))
        natural = Natural(scorer, rows)
        found = [*natural.excited, *(natural.without(u, leave) for u in range(2))]
        return [[digests[order][part] for part in (e.natural, *e.easy, *e.hard)] for e in found]

    as_listed = choices(torch.arange(1000), leave := digests[-10:])
    last = set(as_listed[0][2].tolist())
    assert len(last & set(digests[-100:].tolist())) < 10
    assert not set(as_listed[2][2].tolist()) & set(leave.tolist())
    for one, other in zip(as_listed, choices(torch.randperm(1000, generator=stream), leave), strict=True):
        assert all(a.equal(b) for a, b in zip(one, other, strict=True))
    # Without ties it is the order of the activations alone.
    order = digests[activations[:, 1].argsort(descending=True)]
    for got, place in zip(as_listed[1][:3], (slice(9), slice(10, 30), slice(-20, None)), strict=True):
        assert got.equal(order[place])


@pytest.mark.parametrize("error", [-1e-7, 0.0, 1e-7])
def test_a_photograph_is_compared_with_the_others_of_its_class(error):
    """Not with itself, as another pass saw it; a picture of no photograph is compared with all of them."""
    stream = torch.Generator().manual_seed(0)
    labels = torch.tensor([0, 0, 0, 0, 1])
    digests, own = torch.arange(1, 6), torch.tensor([-1.0, -2.0, -3.0, -4.0, -1.0], dtype=torch.float64)
    kept = {"rows": torch.arange(5), "labels": labels, "digests": digests, "activations": torch.rand(5, 3)}
    plan = SimpleNamespace(units=["0", "1", "2"], texts=["0", "1", "2"])
    network = Classifier(colours(), ModelSpec("tiny", "tiny", mean=(0.5,) * 3, std=(0.5,) * 3, input_size=(8, 8)))
    natural = Natural(SimpleNamespace(plan=plan, target=network), Rows((kept,)))
    pooled = torch.randn(5, 2, generator=stream)
    gallery = Rows(({"rows": torch.arange(5), "pooled": pooled, "own": own + error},))
    # A photograph of class 0 and the only one of class 1, then generated pictures as sure as these.
    numbers, ids = torch.tensor([0, 1, 0, 1]), torch.tensor([2, 5, 0, 0])
    sure = torch.tensor([-2.0, -1.0, -2.5, -0.5]).exp()
    logits = ((1 - sure) / 2).log()[:, None].repeat(1, 3)
    logits[torch.arange(4), numbers] = sure.log()
    for row in (slice(0, 2), slice(2, 4)):
        seen = SimpleNamespace(ids=ids[row], pictures=[SimpleNamespace(label=int(n)) for n in numbers[row]])
        observer = Observer(natural, gallery, seen, numbers[row], {"pooled": pooled[:2], "logits": logits[row]})
        found = observer.percentile("transfer_percentile_eyes", "eyes", {}, seen, "eyes")
        if row.start == 0:
            assert found.values == (pytest.approx(2 / 3, abs=1e-4), None)
            assert found.value == pytest.approx(2 / 3)
            assert found.definition["left_out"].startswith("1 of 2 units: there is no other real image of their class")
        else:
            assert found.values == (0.5, 1.0)
            assert "left_out" not in found.definition


def test_names_of_files_and_ids_are_units():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    network = Classifier(net, ModelSpec("tiny", "tiny", mean=(0.5,) * 3, std=(0.5,) * 3, input_size=(8, 8)))
    for name, text in (("1", "1"), ("0-2", "0:2"), ("0_2", "0:2"), ("0:3@4", "0:3@4"), ("0-1-r2c3@1", "0:1[2,3]@1"),
                       ("0-2-middle", "0:2[middle]")):  # fmt: skip
        unit = unit_of(name, network)
        assert unit is not None
        assert unit.text == text
        assert unit_of(unit.id, network) == unit
    for name in ("n01440764_10", "sky", "9_1", "1@x"):
        assert unit_of(name, network) is None
    with pytest.raises(UserError, match="indices 0 to 3"):
        unit_of("0_4", network)


def some(sample: Path, real: Path, count: int) -> list[Path]:
    """A folder with a photograph each of some classes."""
    found = [min(folder.iterdir()) for folder in sorted(p for p in sample.iterdir() if p.is_dir())[:count]]
    for source in found:
        (real / source.parent.name).mkdir(parents=True)
        (real / source.parent.name / source.name).symlink_to(source)
    return found


def test_real_photographs_are_told_apart_by_a_real_network(sample, tmp_path, monkeypatch):
    """The photographs that excite a channel most, as its pictures, against noise."""
    some(sample, tmp_path / "real", 60)
    rng = np.random.default_rng(0)
    for c in range(4):
        picture(tmp_path / "shown" / f"blocks.4_{c}.png", rng.integers(0, 255, 3), rng)
    monkeypatch.chdir(tmp_path)
    arguments = ["evaluate", "shown", "--data", "real", "--metrics", "units", "--observers", "efficientnet_lite1"]
    assert main([*arguments, "--classifiers", "efficientnet_lite1", "--out", "out/s", "--wandb", "disabled"]) == 0
    rows = {r.method: r for p in Path("out/s").rglob("*.json") if (r := Record.read(p))}
    name = "identification_efficientnet_lite1"
    assert rows["natural"].metric(name).value > max(0.5, rows["shown"].metric(name).value)
    assert rows["natural"].metric("excess_activation").value == pytest.approx(1, abs=1e-4)
    assert "too few" in rows["natural"].metric("afc_easy_efficientnet_lite1").absent
    assert "same family" in rows["natural"].metric(name).label


def test_channels_that_another_library_drew_are_scored(sample, classifier, tmp_path, monkeypatch):
    """horama's pictures, by their names; the numbers from hooks in timm's network that the test sets itself."""
    if not (PEERS / "horama").is_dir():
        pytest.skip("needs the libraries that `make perf-peers` installs")
    photographs = some(sample, tmp_path / "real", 40)
    horama = peers.find(PEERS)["horama"]
    kept: list[torch.Tensor] = []
    handle = classifier.net.blocks[3].register_forward_hook(lambda module, args, output: kept.append(output))

    def channels(views: torch.Tensor) -> torch.Tensor:
        kept.clear()
        classifier.net((views - classifier.mean) / classifier.std)
        return kept[-1].mean((2, 3))

    (tmp_path / "horama").mkdir()
    activation = []
    for c in range(3):
        torch.manual_seed(0)
        drawn, _ = horama.fourier(
            lambda views, c=c: channels(views)[:, c].mean(), total_steps=6, image_size=224, model_input_size=224,
            crops_per_iteration=2, box_size=(0.4, 0.5), values_range=(0.0, 1.0), noise=0.0, device="cpu",
        )  # fmt: skip
        pixels = (drawn.detach().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(tmp_path / "horama" / f"blocks.3_{c}.png")
        with torch.no_grad():
            activation.append(channels(torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255)[0])
    with torch.no_grad():
        real = torch.cat([channels(as_seen(path, (224, 224))[None]) for path in photographs])
    handle.remove()
    monkeypatch.chdir(tmp_path)
    arguments = ["evaluate", "horama", "--data", "real", "--metrics", "units", "--observers", "efficientnet_lite1"]
    assert main([*arguments, "--classifiers", "efficientnet_lite1", "--out", "out/s", "--wandb", "disabled"]) == 0
    record = Record.read(next(Path("out/s").rglob("horama.json")))
    assert record.units == ("blocks.3-0", "blocks.3-1", "blocks.3-2")
    median, top = real.median(0).values, real.amax(0)
    expected = [float((activation[c][c] - median[c]) / (top[c] - median[c])) for c in range(3)]
    assert record.metric("excess_activation").values == pytest.approx(expected, rel=1e-2, abs=1e-2)
    assert record.metric("identification_efficientnet_lite1").n == 3
