from __future__ import annotations

import dataclasses
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from figures import DRAW
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sample_records import metric, record, write_images

from benchmark.records.record import Record
from benchmark.report import figures as plots
from benchmark.report import report
from benchmark.report import spectra as spectrum_plots
from featvis.canvas.matrix import RECORRELATE
from featvis.errors import UserError


def test_decorrelation_undoes_the_recorrelation_of_a_canvas() -> None:
    x = np.random.default_rng(0).normal(size=(5, 4, 3))
    canvas = np.einsum("hwi,ij->hwj", x, np.array(RECORRELATE))
    np.testing.assert_allclose(spectrum_plots.decorrelate(canvas), x, atol=1e-12)


@pytest.mark.parametrize("size", [(16, 16), (15, 12), (12, 15)])
def test_mean_magnitude_is_the_mean_of_each_images_plain_fourier_sum(size: tuple[int, int]) -> None:
    height, width = size
    images = np.random.default_rng(1).random((3, height, width, 3))
    # The definition, summed out: F(v, u) = sum_y sum_x c(y, x) exp(-2 pi i (v y / H + u x / W)).
    rows = np.exp(-2j * np.pi * np.outer(np.arange(height), np.arange(height)) / height)
    columns = np.exp(-2j * np.pi * np.outer(np.arange(width), np.arange(width // 2 + 1)) / width)
    inverse = np.linalg.solve(np.array(RECORRELATE).T, images.reshape(-1, 3).T).T.reshape(images.shape)
    expected = np.abs(np.einsum("vy,nyxc,xu->ncvu", rows, inverse, columns)).mean(axis=0)
    np.testing.assert_allclose(spectrum_plots.mean_magnitude(iter(images)), expected, rtol=1e-9, atol=1e-9)


def test_mean_magnitude_refuses_nothing_and_mixed_sizes() -> None:
    with pytest.raises(UserError, match="at least one"):
        spectrum_plots.mean_magnitude([])
    with pytest.raises(UserError, match="one size"):
        spectrum_plots.mean_magnitude([np.zeros((4, 4, 3)), np.zeros((4, 6, 3))])


@settings(max_examples=25, deadline=None)
@given(height=st.integers(2, 9), width=st.integers(2, 9), seed=st.integers(0, 99))
def test_the_full_plane_is_the_shifted_complete_transform(height: int, width: int, seed: int) -> None:
    image = np.random.default_rng(seed).random((height, width))
    expected = np.fft.fftshift(np.abs(np.fft.fft2(image)))
    np.testing.assert_allclose(spectrum_plots.full_plane(np.abs(np.fft.rfft2(image)), width), expected, atol=1e-12)


@pytest.mark.parametrize(("cycles", "axis"), [(5, 0), (5, 1), (11, 1)])
def test_a_cosine_peaks_at_its_cycles_per_image(cycles: int, axis: int) -> None:
    wave = np.cos(2 * np.pi * cycles * np.arange(32) / 32)
    image = np.broadcast_to((wave[:, None] if axis == 0 else wave[None, :])[..., None], (32, 32, 3)) * 0.4 + 0.5
    frequencies, means = spectrum_plots.radial_average(spectrum_plots.mean_magnitude([image]).mean(axis=0), 32)
    assert frequencies[np.argmax(means)] == cycles
    others = np.delete(means, np.argmax(means))
    assert others.max() < 1e-9 * means.max()


@pytest.mark.parametrize("size", [(16, 16), (17, 17), (16, 15), (12, 20)])
def test_the_radial_average_of_a_function_of_the_ring_is_that_function(size: tuple[int, int]) -> None:
    height, width = size
    v = np.fft.fftfreq(height, 1 / height)[:, None]
    u = np.arange(width // 2 + 1)[None, :]
    ring = np.rint(np.sqrt(u**2 + v**2))
    frequencies, means = spectrum_plots.radial_average(1 / np.maximum(ring, 1), width)
    np.testing.assert_allclose(frequencies, np.arange(1, min(size) // 2 + 1))
    np.testing.assert_allclose(means, 1 / frequencies)


def test_the_radial_average_counts_every_frequency_of_the_plane_once() -> None:
    image = np.random.default_rng(3).random((8, 10))
    whole = np.abs(np.fft.fft2(image))
    sums: dict[int, list[float]] = {}
    for y in range(8):
        for x in range(10):
            v, u = (y if y < 4 else y - 8), (x if x < 5 else x - 10)
            sums.setdefault(round(math.hypot(v, u)), []).append(float(whole[y, x]))
    frequencies, means = spectrum_plots.radial_average(np.abs(np.fft.rfft2(image)), 10)
    np.testing.assert_allclose(means, [np.mean(sums[int(f)]) for f in frequencies])


def test_a_method_keeps_its_colour_whoever_else_is_there() -> None:
    alone, together = plots.colours(["maco", "am"]), plots.colours(["am", "cbr", "fourier", "maco", "noise", "real"])
    assert alone["maco"] == together["maco"]
    assert alone["am"] == together["am"]
    many = plots.colours([f"method{i}" for i in range(8)])
    assert len(set(many.values())) == 8


def test_the_grid_shows_opaque_pictures_in_their_own_proportions(tmp_path: Path) -> None:
    maco, cbr = record("maco"), record("cbr")
    write_images(maco, tmp_path)
    written = plots.grid([cbr, maco, record("real")], tmp_path, tmp_path / "figures" / "grid.png")
    assert written == [tmp_path / "figures" / "grid.png"]
    with Image.open(written[0]) as figure:
        pixels = np.asarray(figure.convert("RGB")).astype(int)
    # Where the picture is: its RGB also where its alpha is 0, once for each unit, each wider than high as 32 x 24 is.
    hit = np.abs(pixels - np.array([200, 40, 90])).max(axis=2) < 3
    rows, columns = np.flatnonzero(hit.any(axis=1)), np.flatnonzero(hit.any(axis=0))
    runs = np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1)
    assert len(runs) == 2
    assert len(runs[0]) / len(rows) == pytest.approx(32 / 24, rel=0.02)
    assert plots.grid([record("real")], tmp_path, tmp_path / "none.png") == []
    assert not (tmp_path / "none.png").exists()


def test_several_models_make_several_figures(tmp_path: Path) -> None:
    records = [record("maco", metric("fid", 1.0)), record("maco", metric("fid", 1.0), alias="vit")]
    written = plots.scores(records, tmp_path / "scores.png")
    assert [p.name for p in written] == ["scores-quick-flexivit.png", "scores-quick-vit.png"]


def test_each_model_has_a_figure_of_its_own_spectra(tmp_path: Path) -> None:
    """Rows of the same name are the same method of another network; one that failed has no picture in it."""
    made = [record("maco"), record("cbr"), record("maco", alias="vit", images="vit/maco/0")]
    made.append(record("cbr", alias="vit", images="vit/cbr/0", status="failed"))
    for one in made:
        write_images(one, tmp_path)
    written = DRAW(made, [], tmp_path, tmp_path / "figures")
    assert {p.name for p in written if p.name.startswith("spectra")} == {
        "spectra-quick-flexivit.png", "spectra-quick-vit.png",
    }  # fmt: skip
    found = report._files([r for r in made if r.alias == "vit"], tmp_path)
    assert {m: {p.relative_to(tmp_path).parts[0] for p in paths} for m, paths in found.items()} == {"maco": {"vit"}}


def test_a_row_that_was_scored_over_grey_is_drawn_over_grey(tmp_path: Path) -> None:
    """Both rows have one folder: opaque (200, 40, 90); over 128 with half of alpha, 164, 84, 109, and 128 with none."""
    seen = record("maco", config={"evaluation": {"transparency": True}}, images="flexivit/maco/0")
    opaque = record("maco_no_transparency", images="flexivit/maco/0")
    write_images(seen, tmp_path, {"config_hash": "0"})
    found = report._files([seen, opaque], tmp_path)
    over, path = found["maco"][0] * 255, found["maco_no_transparency"][0]
    assert isinstance(path, Path)
    assert np.abs(over[:, :16] - [164, 84, 109]).max() <= 1
    assert np.abs(over[:, 16:] - 128).max() == 0
    (file,) = plots.grid([seen], tmp_path, tmp_path / "grid.png")
    with Image.open(file) as figure:
        pixels = np.asarray(figure.convert("RGB")).astype(int)
    for colour, hits in (((200, 40, 90), False), ((164, 84, 109), True), ((128, 128, 128), True)):
        assert bool((np.abs(pixels - np.array(colour)).max(axis=2) < 3).sum() > 100) is hits


def test_the_natural_spectrum_is_called_embedded_where_rows_had_another(tmp_path: Path, monkeypatch) -> None:
    called = []
    monkeypatch.setattr(report, "spectra", lambda files, natural, path, name: called.append(name) or [])
    for evaluation in ({"data": None}, {"data": {"spectrum": {"name": "mine"}}}):
        made = record("maco", config={"evaluation": evaluation})
        write_images(made, tmp_path)
        DRAW([made], [], tmp_path, tmp_path / "figures")
    assert called == ["natural", "natural (embedded)"]


def test_figures_of_other_tables_do_not_stay_in_the_folder_of_a_run(tmp_path: Path) -> None:
    """The page shows every figure that lies there: with one table they are called otherwise than with two."""
    folder = tmp_path / "figures"
    one = [record("maco", metric("fid", 2.0, 0.5)), record("cbr", metric("fid", 3.0, 0.5))]
    two = [*one, record("maco", metric("fid", 1.0, 0.5), alias="vit", images="vit/maco/0")]
    for made in two:
        write_images(made, tmp_path)
    folder.mkdir()
    # A run's own others, somebody's, and one that is no picture at all.
    own = ["path-flexivit.png", "hierarchy.png", "scores-for-the-talk.png", "visualizations.jpg", "scores-notes.txt"]
    for name in own:
        Image.new("RGB", (4, 4)).save(folder / name, "PNG")
    (folder / "spectra-broken.png").write_bytes(b"no picture")
    own.append("spectra-broken.png")

    def there() -> set[str]:
        return {p.name for p in folder.iterdir()} - set(own)

    assert set(own) <= {p.name for p in folder.iterdir()}
    several = {
        f"{n}-quick-{alias}.png" for n in ("scores", "visualizations", "spectra") for alias in ("flexivit", "vit")
    }
    for found, names in (
        (one, {"scores.png", "visualizations.png", "spectra.png"}),
        (two, several),
        (one, {"scores.png", "visualizations.png", "spectra.png"}),
    ):
        DRAW(found, [], tmp_path, folder)
        assert there() == names
        assert set(own) <= {p.name for p in folder.iterdir()}
    # What is up to date is not drawn again, and stays.
    before = (folder / "scores.png").stat().st_mtime_ns
    DRAW(one, [], tmp_path, folder)
    assert (folder / "scores.png").stat().st_mtime_ns == before
    # Where the images are gone nothing can draw them again.
    shutil.rmtree(tmp_path / "flexivit")
    DRAW([record("maco", metric("logit", None))], [], tmp_path, folder)
    assert there() >= {"visualizations.png", "spectra.png"}


def test_published_figures_lose_none_that_lies_beside_them(tmp_path: Path, capsys) -> None:
    """`featvis tables` draws the figures of numbers alone; those of images were placed by hand."""
    record("maco", metric("fid", 2.0, 0.5)).write(tmp_path / "results" / "records" / "quick" / "maco.json")
    folder = tmp_path / "results" / "figures"
    folder.mkdir(parents=True)
    own = {"spectra.png", "visualizations.jpg", "visualizations.png", "targets.jpg", "scores-other.png"}
    for name in own:
        Image.new("RGB", (4, 4)).save(folder / name, "PNG")
    report.published(tmp_path / "results" / "records", tmp_path / "results")
    assert {p.name for p in folder.iterdir()} == own | {"scores.png"}


def test_scores_mark_what_is_absent_and_point_to_the_better_side(tmp_path: Path) -> None:
    records = [
        record("maco", metric("fid", 231.0, 6.0), metric("logit", 8.0, 1.0)),
        record("cbr", metric("fid", None), metric("logit", 6.0, 1.0)),
        record("am", status="failed", error="no"),
    ]
    path = plots.scores(records, tmp_path / "scores.svg")[0]
    text = path.read_text(encoding="utf-8")
    # In an SVG every text is a comment beside its glyphs.
    for expected in ("fid ↓", "logit ↑", "absent", "failed", "flexivit, suite quick"):
        assert f"<!-- {expected} -->" in text
    assert text.count("<!-- failed -->") == 2
    with pytest.raises(UserError, match=r"\.xyz"):
        plots.scores(records, tmp_path / "scores.xyz")
    assert plots.scores([record("am", status="failed", error="no")], tmp_path / "none.png") == []


def test_scores_of_many_rows_and_metrics_stay_low_and_controls_are_apart(tmp_path: Path) -> None:
    def row(name: str, sees: str | None) -> Record:
        return record(name, *[metric(f"m{i}", float(i), 1.0) for i in range(24)], sees=sees)

    rows = [row(f"row{i}", "nothing") for i in range(20)] + [row("real", None), row("noise", None)]
    rows += [row(f"row{i}_random", "nothing; control: random network") for i in range(3)]
    written = plots.scores(rows, tmp_path / "scores.svg")
    assert [p.name for p in written] == ["scores.svg", "scores-controls.svg"]
    texts = [path.read_text(encoding="utf-8") for path in written]
    for text, there, not_there in zip(texts, ("row3", "row1_random"), ("row1_random", "row3"), strict=True):
        assert f"<!-- {there} -->" in text
        assert f"<!-- {not_there} -->" not in text
        assert "<!-- real -->" in text
        assert all(f"<!-- m{i} ↓ -->" in text for i in range(24))
        assert float(re.search(r'height="([\d.]+)pt"', text)[1]) / 72 * 200 <= 2500, "pixels, as a PNG"


def test_spectra_take_files_arrays_and_a_reference(tmp_path: Path) -> None:
    maco = record("maco")
    write_images(maco, tmp_path)
    files = sorted((tmp_path / str(maco.images)).glob("*.png"))
    rng = np.random.default_rng(0)
    reference = spectrum_plots.mean_magnitude(rng.random((2, 16, 16, 3)))
    np.savez(tmp_path / "natural.npz", spectrum=reference.astype(np.float32), n=np.array(2))
    images = {"maco": files, "cbr": list(rng.random((2, 16, 16, 3))), "none": []}
    written = spectrum_plots.spectra(images, tmp_path / "natural.npz", tmp_path / "spectra.svg")
    text = written[0].read_text(encoding="utf-8")
    order = [text.index(f"<!-- {name} -->") for name in ("natural", "maco", "cbr")]
    assert order == sorted(order)
    assert "<!-- none -->" not in text
    assert "cycles per image" in text
    assert spectrum_plots.spectra({}, None, tmp_path / "none.png") == []
    with pytest.raises(UserError, match="shape"):
        spectrum_plots.spectra({}, np.zeros((16, 9)), tmp_path / "none.png")


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    records = [record("maco", metric("fid", 231.0, 6.0))]
    one, other = plots.scores(records, tmp_path / "a.png")[0], plots.scores(records, tmp_path / "b.png")[0]
    assert one.read_bytes() == other.read_bytes()


def test_a_figure_is_drawn_anew_where_its_numbers_changed_and_only_there(tmp_path: Path, monkeypatch) -> None:
    records = [record(name, metric("logit", 2.0)) for name in ("maco", "fourier")]
    drawings = []
    draw = plots._scores
    monkeypatch.setattr(plots, "_scores", lambda *args: drawings.append(1) or draw(*args))
    (path,) = plots.scores(records, tmp_path / "scores.png")
    before = path.read_bytes()
    plots.scores(records, path)
    assert len(drawings) == 1, "nothing changed"
    path.write_bytes(before[:-20])
    plots.scores(records, path)
    assert (len(drawings), path.read_bytes()) == (2, before), "a file that is cut off is drawn again, to the byte"
    changed = dataclasses.replace(records[0].metrics[0], value=1.5, interval=None)
    plots.scores([dataclasses.replace(records[0], metrics=(changed,)), records[1]], path)
    assert len(drawings) == 3
    assert path.read_bytes() != before
