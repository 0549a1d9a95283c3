"""What a site is computed of: a small site of a real network, its numbers held against the network itself."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from places import SHARED
from tiny import network

from benchmark.cli import main
from benchmark.running import produce
from benchmark.site import model
from benchmark.site.making import embedding, maps, visualizations
from benchmark.site.making import run as making_run
from benchmark.site.making.embedding import embed, principal
from benchmark.site.making.options import Options, Subject
from benchmark.site.making.seen import Photographs, Seen, correlations, look
from benchmark.site.making.units import LayerMaker, Sight, sights
from benchmark.site.pictures import Shelf
from featvis.concepts.craft import Concepts, Place
from featvis.concepts.sobol import Effects
from featvis.data.files import as_seen
from featvis.data.sets import open_images
from featvis.generators import Fourier
from featvis.generators.batches import unfinished
from featvis.generators.callbacks import ImageWriter
from featvis.networks.layers import Layer
from featvis.networks.loading import load
from featvis.networks.units import parse_units
from featvis.storage import images

pytestmark = pytest.mark.usefixtures("plain_engine")
ALIAS, LAYER = "efficientnet_lite0", "blocks.1"
CLASSES = ("n01440764", "n03888257")
FLAGS = (
    "--classes", "tench,parachute,ladybug", "--layers", LAYER, "--methods", "maco_fast", "--seeds", "1",
    "--channels", "2", "--concepts", "2", "--images", "2", "--steps", "2", "--crops", "1", "--canvas", "48",
)  # fmt: skip


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    """Two photographs of each of two classes."""
    whole = SHARED / "imagenette" / "train"
    if not whole.is_dir():
        pytest.skip("needs ../shared/imagenette")
    folder = tmp_path_factory.mktemp("photographs")
    for name in CLASSES:
        (folder / name).mkdir()
        for path in sorted((whole / name).iterdir())[:2]:
            shutil.copy(path, folder / name)
    return folder


@pytest.fixture(scope="module", autouse=True)
def without_umap():
    """Principal components, because UMAP compiles itself in every process; what it is asked for has its own test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedding, "FEWEST", 1_000)
        yield


@pytest.fixture(scope="module")
def site(photographs, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("made") / "site"
    assert main(["site", ALIAS, "--data", str(photographs), *FLAGS, "--out", str(out)]) == 0
    return out


def page(site: Path, kind: type, name: str):
    folder = {model.ClassPage: "classes", model.UnitPage: "units", model.LayerPage: "layers"}[kind]
    return model.read(site / "data" / ALIAS / folder / f"{name}.json", kind)


def activations(classifier, paths: list[Path]) -> np.ndarray:
    """Mean activations of the layer, by a hook of the test's own: (images, channels)."""
    kept = []
    handle = classifier.net.get_submodule(LAYER).register_forward_hook(lambda m, a, out: kept.append(out.mean((2, 3))))
    try:
        with torch.no_grad():
            classifier.shipped(torch.stack([as_seen(p, classifier.input_size) for p in paths]))
    finally:
        handle.remove()
    return kept[-1].detach().double().numpy()


def test_units_say_what_the_network_says_of_the_photographs(site, photographs, classifier):
    paths = sorted(photographs.rglob("*.*"))
    expected = activations(classifier, paths)
    table = np.corrcoef(expected.T)
    for channel in range(expected.shape[1]):
        unit = page(site, model.UnitPage, f"{LAYER}-{channel}")
        order = np.argsort(-expected[:, channel])
        assert [p.facts["image"].split("/")[-1] for p in unit.most] == [paths[i].name for i in order]
        assert [p.facts["image"] for p in unit.least] == [p.facts["image"] for p in unit.most][::-1]
        d = unit.distribution
        assert (d.low, d.high) == pytest.approx(
            (expected[:, channel].min(), expected[:, channel].max()), rel=1e-3, abs=1e-4
        )
        assert sum(d.counts) == len(paths)
        first = unit.similar[0]
        others = [v for i, v in enumerate(table[channel]) if i != channel]
        assert first.value == pytest.approx(max(others), abs=2e-3)
    made = [u for u in range(expected.shape[1]) if page(site, model.UnitPage, f"{LAYER}-{u}").visualizations]
    assert len(made) == 2
    for channel in made:
        d = page(site, model.UnitPage, f"{LAYER}-{channel}").distribution
        assert d.below == pytest.approx((expected[:, channel] < d.reached).mean())


def test_the_line_of_a_unit_is_of_the_first_method_that_maximises_it(tmp_path, monkeypatch):
    tiny = network()
    settings = {"model": tiny, "canvas": 16, "steps": 1, "chain": "none"}
    other = Fourier(**settings)
    monkeypatch.setattr(other, "objective", lambda unit: -unit.objective)
    methods = {"other": other, "fourier": Fourier(**settings, seed=1)}
    monkeypatch.setattr(visualizations, "generator", lambda subject, method, options: methods[method])
    units = parse_units("cat,dog", tiny)
    subject = SimpleNamespace(network=tiny, model="tiny", alias="tiny")
    options = SimpleNamespace(batch_size=2, seed=0, budget={})
    shown, reached, missing = visualizations.visualize(
        subject, [*methods], units, options, tmp_path / "work", Shelf(tmp_path / "out")
    )
    assert missing == []
    assert [[s.method for s in shown[unit.id]] for unit in units] == [["other", "fourier"]] * 2
    (folder,) = (tmp_path / "work" / "tiny" / "fourier").iterdir()
    files = {unit.id: images.facts(folder / f"{unit.id}.png") for unit in units}
    assert reached == {unit: facts["activation"] for unit, facts in files.items()}


def test_units_at_the_same_depth_of_another_network(photographs, classifier, tmp_path):
    options = Options(None, (LAYER,), (), 1, 0, 0, (), 2, {}, 1, 0)
    found = []
    for net in (classifier, load("efficientnet_lite1", "float32")):
        subject = Subject(net.alias, net, net, open_images(str(photographs), net))
        found += sights(subject, [LAYER], look(subject, [net.layer(LAYER)], options, tmp_path))
    mine, theirs = found
    _, pages = LayerMaker(mine, [theirs], options, tmp_path, Shelf(tmp_path / "site"), "featvis site").pages()
    paths = sorted(photographs.rglob("*.*"))
    here, there = activations(classifier, paths), activations(theirs.subject.exact, paths)
    table = np.corrcoef(here.T, there.T)[: here.shape[1], here.shape[1] :]
    for unit in pages:
        first = unit.elsewhere[0]
        assert first.network == "efficientnet_lite1"
        assert first.value == pytest.approx(table[unit.index].max(), abs=2e-3)
        number = int(first.key.rpartition("-")[2])
        # It is shown by the photograph that excites it most, as on its own page.
        assert first.picture.facts["unit"] == f"{LAYER}:{number}"
        assert first.picture.facts["image"].endswith(paths[int(there[:, number].argmax())].name)


def test_units_of_networks_of_other_classes_are_compared_over_the_same_photographs(tmp_path):
    """One network does not know the first class, so that its list of the folder begins with another photograph."""
    synsets, rng = ("n00000001", "n00000002", "n00000003"), np.random.default_rng(0)
    for name in synsets:
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path / "data" / name / f"{name}_{i}.png")
    paths = sorted((tmp_path / "data").rglob("*.png"))
    layer, options = Layer("map", (4, 1, 1), "map", 1, grid=(1, 1)), Options(None, (), (), 1, 0, 0, (), 3, {}, 1, 0)
    found, values = [], {}
    for alias, known in (("all", synsets), ("fewer", synsets[1:])):
        values[alias] = rng.normal(size=(len(paths), 4))
        own = [i for i, path in enumerate(paths) if path.parent.name in known]
        seen = Seen(np.arange(len(own)), values[alias][own], np.zeros((len(own), 4), np.int64))
        net = SimpleNamespace(alias=alias, input_size=(8, 8))
        found.append(Sight(Subject(alias, net, net, open_images(str(tmp_path / "data"), known)), layer, seen, 0.0))
    for own, other in (found, found[::-1]):
        _, pages = LayerMaker(own, [other], options, tmp_path, Shelf(tmp_path / "site"), "featvis site").pages()
        # Both know the six photographs of the last two classes.
        here, there = values[own.subject.alias][3:], values[other.subject.alias][3:]
        table = np.corrcoef(here.T, there.T)[:4, 4:]
        for unit in pages:
            assert [r.value for r in unit.elsewhere] == pytest.approx(sorted(table[unit.index])[:0:-1], abs=1e-3)


def test_a_layer_has_all_of_its_channels_once(site, classifier):
    sheet = page(site, model.LayerPage, LAYER)
    assert sorted(t.index for t in sheet.tiles) == list(range(classifier.layer(LAYER).channels))
    assert sum(t.made for t in sheet.tiles) == 2


def test_classes_have_their_concepts_or_say_why_not(site):
    network = model.read(site / "data" / ALIAS / "network.json", model.Network)
    assert [(e.name, e.parts) for e in network.classes] == [("tench", 2), ("parachute", 2), ("ladybug", 0)]
    for entry in network.classes[:2]:
        found = page(site, model.ClassPage, entry.key)
        assert sum(c.share for c in found.concepts) == pytest.approx(1)
        assert found.concepts[0].importance >= found.concepts[1].importance
        assert len(found.dots) == 2
        for concept in found.concepts:
            assert concept.visualization is not None
            assert 1 <= len(concept.maps) <= 2
            assert all(other.key != entry.key for other in concept.similar)
    assert "no image of the class 301" in str(page(site, model.ClassPage, network.classes[2].key).absent)
    atlas = model.read(site / "data" / ALIAS / "atlas.json", model.Atlas)
    assert len(atlas.points) == 4 + len(page(site, model.LayerPage, LAYER).tiles)


def test_the_same_command_computes_nothing_again(site, photographs, monkeypatch, capsys):
    def computed(*args: object, **kwargs: object) -> None:
        raise AssertionError("something was computed again")

    before = {p: p.stat().st_mtime_ns for p in site.rglob("*") if p.is_file()}
    monkeypatch.setattr(produce.lightning.Trainer, "predict", computed)
    # First all of it, then as after a kill before the end: what is there is found again, file by file.
    assert main(["site", ALIAS, "--data", str(photographs), *FLAGS, "--out", str(site)]) == 0
    assert "nothing has changed" in capsys.readouterr().out
    (site.with_name("site-work") / "done.json").unlink()
    assert main(["site", ALIAS, "--data", str(photographs), *FLAGS, "--out", str(site)]) == 0
    assert {p: p.stat().st_mtime_ns for p in site.rglob("*") if p.is_file()} == before


def test_what_is_said_to_be_done_must_be_there(site, photographs, tmp_path, monkeypatch, capsys):
    out, done = tmp_path / "site", tmp_path / "site-work" / "done.json"
    shutil.copytree(site, out)
    shutil.copytree(site.with_name("site-work"), done.parent)
    shutil.rmtree(out / "data" / ALIAS)
    assert main(["site", ALIAS, "--data", str(photographs), *FLAGS, "--out", str(out)]) == 0
    assert "nothing has changed" not in capsys.readouterr().out
    assert (out / "data" / ALIAS / "network.json").is_file()
    # Other options, killed on the way: what lies there then is of neither.
    assert done.is_file()
    monkeypatch.setattr(making_run, "look", lambda *_: sys.exit(137))
    with pytest.raises(SystemExit):
        main(["site", ALIAS, "--data", str(photographs), *FLAGS, "--seed", "7", "--out", str(out)])
    assert not done.exists()


def test_a_site_that_lacks_pictures_says_which_and_is_not_done(site, photographs, tmp_path, monkeypatch, capsys):
    """An optimisation that stops being finite leaves a marker in an image's place: of a class, a channel, a concept."""
    out, work = tmp_path / "site", tmp_path / "site-work"
    shutil.copytree(site, out)
    shutil.copytree(site.with_name("site-work"), work)
    whole = {p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    channel = next(u for u in range(99) if page(site, model.UnitPage, f"{LAYER}-{u}").visualizations)
    found = [next(work.glob(f"{ALIAS}/maco_fast/*/{name}.png")) for name in (f"{LAYER}-{channel}", "0")]
    found.append(next(work.glob(f"concepts/{ALIAS}/*/visualizations/*/*-0-cosine.png")))
    for path in found:
        path.unlink()
    (work / "done.json").unlink()

    def not_finite(trainer, generator, datamodule, **_):
        (writer,) = (c for c in trainer.callbacks if isinstance(c, ImageWriter))
        for unit in unfinished(datamodule.units, writer.folder, generator.config_hash()):
            marker = writer.folder / f"{unit.id}.failed.json"
            marker.write_text(json.dumps({"step": 1, "reason": "its score is not finite"}))

    args = ["site", ALIAS, "--data", str(photographs), *FLAGS, "--out", str(out)]
    with monkeypatch.context() as patch:
        patch.setattr(produce.lightning.Trainer, "predict", not_finite)
        for _ in range(2):
            assert main(args) == 1
            (said,) = [s for s in capsys.readouterr().err.splitlines() if s.startswith("featvis: 3 pictures")]
            assert "are missing from the site" in said
            for name in (f"{LAYER}:{channel} of {ALIAS} by maco_fast", f"0 of {ALIAS} by maco_fast", "concept 1 of"):
                assert name in said
            assert not (work / "done.json").exists()
    assert main(args) == 0
    assert (work / "done.json").is_file()
    assert {p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()} == whole


def test_a_site_without_photographs_says_what_is_left_out(site, tmp_path):
    out = tmp_path / "plain"
    shutil.copytree(site.with_name("site-work"), tmp_path / "plain-work")  # its visualizations are the same
    assert main(["site", ALIAS, *FLAGS, "--out", str(out)]) == 0
    text = (out / ALIAS / "class" / "0-tench.html").read_text()
    assert "No real images were given" in text
    assert "No real images were given" in (out / ALIAS / "unit" / f"{LAYER}-0.html").read_text()
    assert json.loads((out / "site.json").read_text())["notes"]


def test_an_unknown_layer_or_class_is_refused(tmp_path, capsys):
    for flags, words in ((["--layers", "blocks.99"], "--layers blocks.99"), (["--classes", "tensch"], "tench")):
        assert main(["site", ALIAS, *flags, "--out", str(tmp_path / "x")]) == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


# --- Parts ---------------------------------------------------------------------------------------------------------


class OneImage:
    """An image set of one image whose pixels say where they lie."""

    name = fingerprint = "one"

    def open(self, i):
        rows, columns = np.mgrid[0:96, 0:64]
        return Image.fromarray(np.stack([rows, columns, 0 * rows], -1).astype(np.uint8)), 0


@given(st.integers(0, 3 * 2 - 1))
def test_a_patch_lies_around_the_middle_of_its_place(place):
    layer = Layer("map", (4, 3, 2), "map", 1, grid=(3, 2))
    part = np.asarray(Photographs(OneImage(), (96, 64)).patch(0, place, layer))
    side = round(0.375 * 64)
    assert part.shape[:2] == (side, side)
    row, column = divmod(place, 2)
    for axis, (at, size) in enumerate((((row + 0.5) * 32, 96), ((column + 0.5) * 32, 64))):
        values = part[..., axis]
        assert values.min() <= at <= values.max()
        assert 0 <= values.min() <= values.max() < size


@given(arrays(np.float64, (6, 3), elements=st.floats(-9, 9)))
def test_correlations_are_numpys(x):
    found = correlations(x, x)
    for i in range(3):
        for j in range(3):
            least = min(np.ptp(x[:, i]), np.ptp(x[:, j]))
            if least == 0:
                assert found[i, j] == 0
            elif least > 1e-6:
                assert found[i, j] == pytest.approx(np.corrcoef(x[:, i], x[:, j])[0, 1], abs=1e-6)


def test_what_is_constant_correlates_with_nothing():
    """However its mean is rounded: that of seven times 0.1 is not 0.1."""
    x = np.stack([np.full(7, 0.1), np.arange(7.0), np.full(7, 1e3 / 3)], 1)
    np.testing.assert_allclose(correlations(x, x), np.diag([0.0, 1.0, 0.0]), atol=1e-12)


@given(arrays(np.float64, (7, 4), elements=st.floats(-9, 9)), st.integers(1, 2))
def test_places_are_the_singular_vectors_scaled(x, dimensions):
    places = principal(x, dimensions)
    assert places.shape == (7, dimensions)
    assert ((places >= 0) & (places <= 1)).all()
    centred = x - x.mean(0)
    _, values, directions = np.linalg.svd(centred, full_matrices=False)
    for i in range(dimensions):
        # Where two are equal, any directions of their plane will do.
        if min(np.abs(values[i] - np.delete(values, i))) > 1e-3 < values[i]:
            line = centred @ directions[i]
            line = (line - line.min()) / np.ptp(line)
            assert min(np.abs(places[:, i] - line).max(), np.abs(1 - places[:, i] - line).max()) < 1e-5


def test_without_umap_the_pages_say_what_was_taken_instead(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    monkeypatch.setattr(embedding, "FEWEST", 12)
    rows = np.repeat(np.eye(3), 12, axis=0) + 0.01 * np.random.default_rng(0).random((36, 3))
    places, how = embed(rows, 1)
    assert "umap-learn is not installed" in how
    np.testing.assert_array_equal(places, principal(rows, 1))


@pytest.mark.parametrize(("count", "near"), [(12, 11), (40, 15)])
def test_umap_is_asked_for_neighbours_by_the_cosine(monkeypatch, count, near):
    """A stand-in for the package, which need not be installed."""
    asked = []

    class UMAP:
        def __init__(self, **options):
            asked.append(options)

        def fit_transform(self, rows):
            return 3 - 2 * rows[:, : asked[-1]["n_components"]].astype(np.float32)

    package = ModuleType("umap")
    package.UMAP = UMAP
    monkeypatch.setitem(sys.modules, "umap", package)
    monkeypatch.setattr(embedding, "FEWEST", 12)
    rows = np.random.default_rng(0).random((count, 5))
    places, how = embed(rows, 2, seed=7)
    assert how == "UMAP"
    assert asked == [{"n_neighbors": near, "n_components": 2, "metric": "cosine", "random_state": 7, "n_jobs": 1}]
    expected = (rows[:, :2].max(0) - rows[:, :2]) / np.ptp(rows[:, :2], axis=0)
    np.testing.assert_allclose(places, expected, atol=1e-5)
    # Of fewer rows neighbours say little.
    assert embed(rows[:11], 2)[1] == "principal components"
    assert len(asked) == 1


def made_up(coefficients: list[list[float]], images: list[int]) -> Concepts:
    values = torch.tensor(coefficients)
    k = values.shape[1]
    places = [Place(i, 0, 0) for i in images]
    return Concepts(torch.eye(k), values, places, Effects(torch.ones(k), torch.ones(k), 0.0, 0.0), 0.0, 1.0)


def test_which_concept_matters_to_which_image():
    found = made_up([[4.0, 0.0], [2.0, 0.0], [1.0, 3.0], [1.0, 5.0]], [0, 0, 1, 1])
    # Means of the images: (3, 0) and (1, 4); over both (2, 2).
    np.testing.assert_allclose(maps.weights(found, [0.5, 2.0], own=2), [[0.75, 0.0], [0.25, 4.0]])
    assert maps.most_lit(found, 1, own=2, count=2) == [1, 0]
    assert maps.most_lit(found, 1, own=1, count=2) == [0]


def test_an_image_is_bright_where_the_concept_is():
    strength = np.zeros((4, 4))
    strength[:, :2] = 3.0
    lit = np.asarray(maps.lit(torch.ones(3, 64, 64), strength, most=3.0)).astype(float)
    assert (lit[:, :8] > 250).all()
    assert (lit[:, -8:] < 255 * (maps.DARK + 0.02)).all()
