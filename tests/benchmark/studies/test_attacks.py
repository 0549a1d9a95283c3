"""`featvis attack`: its numbers against Pillow, NumPy, SciPy and timm; its files; running it again."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote

import numpy as np
import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from commands import tree
from PIL import Image
from scipy.signal import convolve

from benchmark.cli import main
from benchmark.records.record import Record
from benchmark.report.tables.sheet import definition_of
from benchmark.studies.attacks import plots
from benchmark.studies.attacks.job import settings
from benchmark.studies.attacks.numbers import measured
from benchmark.studies.attacks.plots import epsilon_text
from benchmark.suites.presets import presets
from featvis.errors import UserError

pytestmark = pytest.mark.usefixtures("plain_engine")
NETWORKS = ("efficientnet_lite0", "efficientnet_lite1")
EPSILONS = ("1/255", "4/255")


def attack(pictures: Path, out: Path, *more: str) -> int:
    """The command, five steps."""
    return main(["attack", ",".join(NETWORKS), "--images", str(pictures), "--steps", "5", "--out", str(out), *more])


@pytest.fixture(scope="module")
def pictures(sample, tmp_path_factory) -> Path:
    """Two photographs, one folder a class."""
    folder = tmp_path_factory.mktemp("pictures")
    for name in ("n01440764", "n01860187"):
        shutil.copytree(sample / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def out(pictures, tmp_path_factory) -> Path:
    """A finished command: two networks, two epsilons."""
    folder = tmp_path_factory.mktemp("attack") / "out"
    assert attack(pictures, folder, "--epsilon", ",".join(EPSILONS)) == 0
    return folder


@pytest.fixture(scope="module")
def nets(classifier):
    """timm's networks and their input sizes; mean and deviation of both are .5."""
    from featvis.networks.loading import load

    other = load("efficientnet_lite1", "float32")
    return {c.alias: (c.net, c.input_size) for c in (classifier, other)}


def records_of(out: Path) -> dict[tuple[str, str], Record]:
    found = [Record.read(p) for p in sorted((out / "records").rglob("*.json"))]
    return {(r.alias, r.method): r for r in found}


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)[..., :3].astype(int)


def logits(net, size, path: Path) -> torch.Tensor:
    x = torch.from_numpy(pixels(path).transpose(2, 0, 1) / 255).float()[None]
    if x.shape[-2:] != size:
        x = F.interpolate(x, size, mode="bicubic", antialias=True).clamp(0, 1)
    with torch.no_grad():
        return net((x - 0.5) / 0.5)[0]


def files_of(record: Record, out: Path) -> list[tuple[Path, Path, int]]:
    """(original, example, target) of each unit."""
    h, w = record.config["generator"]["canvas"]
    parts = [(unit, *unit.split("-to-")) for unit in record.units]
    originals = out / "originals" / f"{h}x{w}"
    return [(originals / f"{image}.png", out / record.images / f"{unit}.png", int(to)) for unit, image, to in parts]


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Wang et al. 2004 by its formula: Gaussian window 11 x 11 of deviation 1.5, each channel on its own."""
    at = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    window = np.outer(at, at) / at.sum() ** 2
    found = []
    # The image is reflected at its edge, so that every pixel counts.
    a, b = (np.pad(z / 255, ((5, 5), (5, 5), (0, 0)), mode="reflect") for z in (a, b))
    for x, y in zip(np.moveaxis(a, 2, 0), np.moveaxis(b, 2, 0), strict=True):
        mx, my, xx, yy, xy = (convolve(z, window, mode="valid") for z in (x, y, x * x, y * y, x * y))
        vx, vy, cov = xx - mx**2, yy - my**2, xy - mx * my
        c1, c2 = 0.01**2, 0.03**2
        found.append((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
    return float(np.mean(found))


def test_every_number_is_that_of_the_files(out, nets):
    found = records_of(out)
    assert set(found) == {(n, f"sign-eps-{e.replace('/', '-')}-steps-5") for n in NETWORKS for e in EPSILONS}
    for (alias, _), record in found.items():
        files = files_of(record, out)
        values = {m.name: m.value for m in record.metrics}
        linf, tv, similar, grid = 0.0, [], [], []
        for original, example, _ in files:
            change = pixels(example) - pixels(original)
            linf = max(linf, np.abs(change).max() / 255)
            tv.append((np.abs(np.diff(change, axis=0)).sum() + np.abs(np.diff(change, axis=1)).sum()) / 255)
            similar.append(ssim(pixels(example), pixels(original)))
            strength = np.abs(change).mean(2)
            energy = np.abs(np.fft.fft2(strength - strength.mean())) ** 2
            # The frequencies of a period of 16 pixels and of its harmonics.
            step_y, step_x = (side // 16 for side in strength.shape)
            grid.append(energy[::step_y, ::step_x].sum() / energy.sum())
        epsilon = record.config["generator"]["init_args"]["epsilon"]
        assert linf <= epsilon
        assert values["linf"] == linf
        assert values["tv"] == pytest.approx(np.mean(tv))
        assert values["ssim"] == pytest.approx(np.mean(similar), abs=1e-9)
        assert values["grid"] == pytest.approx(np.mean(grid))
        # The matrix: every network looks at every file.
        for judge, (net, size) in nets.items():
            after = [logits(net, size, example) for _, example, _ in files]
            before = [logits(net, size, original) for original, _, _ in files]
            reached = [int(z.argmax()) == target for z, (_, _, target) in zip(after, files, strict=True)]
            left = [int(a.argmax()) != int(b.argmax()) for a, b in zip(after, before, strict=True)]
            tail = "" if judge == alias else f"_tf_{judge}.in1k"
            assert values[f"success{tail}"] == np.mean(reached)
            assert values[f"fooled{tail}"] == np.mean(left)
            if judge == alias:
                rise = [float((a - b)[t]) for a, b, (_, _, t) in zip(after, before, files, strict=True)]
                assert min(rise) > {1: 1.5, 4: 5}[round(255 * epsilon)], "the attack works on every image"
                p = [float(z.softmax(0)[target]) for z, (_, _, target) in zip(after, files, strict=True)]
                assert values["probability"] == pytest.approx(np.mean(p), abs=1e-4)
                right = [int(b.argmax()) == own for b, own in zip(before, (0, 100), strict=True)]
                assert values["clean_top1"] == np.mean(right)


def test_networks_of_one_command_attack_the_same_pairs(out):
    assert len({r.units for r in records_of(out).values()}) == 1


def test_the_matrix_holds_the_records(out):
    rows = list(csv.DictReader((out / "tables" / "attack" / "transfer.csv").open()))
    found = records_of(out)
    assert len(rows) == 2 * len(found) * len(NETWORKS)
    for row in rows:
        record = found[row["attacked"], row["method"]]
        own = row["judge"] == row["attacked"]
        name = row["measure"] if own else f"{row['measure']}_tf_{row['judge']}.in1k"
        assert float(row["value"]) == record.metric(name).value
    page = (out / "tables" / "attack" / "transfer.md").read_text()
    for record in found.values():
        shown = f"{100 * record.metric('success').value:.0f} %"
        (line,) = [t for t in page.split("Fooling rate")[0].splitlines() if f"{record.alias}, {record.method} " in t]
        assert f"| {shown} " in line
    assert r"\begin{tabular}" in (out / "tables" / "attack" / "transfer.tex").read_text()


def test_the_tables_have_a_row_an_epsilon(out):
    for alias in NETWORKS:
        rows = list(csv.DictReader((out / "tables" / "attack" / f"{alias}.csv").open()))
        success = {r["method"]: float(r["value"]) for r in rows if r["metric"] == "success"}
        assert success == {m: r.metric("success").value for (a, m), r in records_of(out).items() if a == alias}
        for suffix in ("md", "tex"):
            text = (out / "tables" / "attack" / f"{alias}.{suffix}").read_text()
            assert all(f"sign-eps-{e.replace('/', '-')}-steps-5" in text for e in EPSILONS)


def test_the_page_shows_what_the_files_say(out):
    page = (out / "index.html").read_text()
    for address in re.findall(r'(?:src|href)="([^#"][^"]*)"', page):
        assert address == "data:," or (out / unquote(address)).is_file()
    assert "http" not in page
    first = next(iter(records_of(out).values()))
    original, example, _ = files_of(first, out)[0]
    folder = out / "page" / first.alias / first.method
    shown = {k: pixels(folder / f"{first.units[0]}.{k}.jpg") for k in ("original", "perturbation", "result")}
    change = 128 + 10 * (pixels(example) - pixels(original))
    for kind, array in (("original", pixels(original)), ("result", pixels(example)), ("perturbation", change)):
        assert np.abs(shown[kind] - array.clip(0, 255)).mean() < 4, "but for the JPEG"
    with (out / "predictions" / first.alias / f"{first.method}.csv").open() as file:
        row = next(r for r in csv.DictReader(file) if r["judge"] == first.alias)
    assert f"<span>{row['label']}</span>" in page.replace("&#39;", "'")
    assert {p.name for p in (out / "figures").iterdir()} == {
        "epsilon.png", "grid.png", *(f"{a}-{m}.png" for a, m in records_of(out)),
    }  # fmt: skip


def test_running_again_changes_nothing_and_makes_what_is_missing(out, pictures, tmp_path):
    copy = tmp_path / "out"
    shutil.copytree(out, copy)
    before = tree(copy)
    first = next(iter(records_of(copy).values()))
    lost = copy / first.images / f"{first.units[1]}.png"
    lost.unlink()
    record, table = first.record_path(copy), copy / "predictions" / first.alias / f"{first.method}.csv"
    said = json.loads(record.read_text())
    record.unlink()
    table.unlink()
    assert attack(pictures, copy, "--epsilon", ",".join(EPSILONS)) == 0
    after = tree(copy)
    kept = [n for n in before if n not in (str(record.relative_to(copy)), f"{first.images}/timings.jsonl")]
    # What was run, and when, stands under the tables too.
    kept = [n for n in kept if not n.startswith(("tables", "index.html"))]
    assert {n: after.get(n) for n in kept} == {n: before[n] for n in kept}
    changing = ("created", "seconds_per_image", "git_commit")
    again = json.loads(record.read_text())
    assert {k: v for k, v in again.items() if k not in changing} == {k: v for k, v in said.items() if k not in changing}


def test_verify_finds_a_number_and_a_file_that_do_not_follow(out, tmp_path, capsys):
    copy = tmp_path / "out"
    shutil.copytree(out, copy)
    found = records_of(copy)
    record = next(iter(found.values()))
    path = record.record_path(copy)
    path.write_text(path.read_text().replace('"label": "SSIM", "n": 2', '"label": "SSIM", "n": 3'))
    (copy / "originals" / "240x240" / f"{record.units[0].rpartition('-to-')[0]}.png").unlink()
    assert main(["verify", str(copy)]) == 1
    said = capsys.readouterr()
    numbers = sum(len(r.metrics) for r in found.values() if r.alias == "efficientnet_lite0")
    assert f"8 images and {numbers} numbers checked, 3 problems" in said.out
    assert "not checked" not in said.out
    assert "efficientnet_lite0 / sign-eps-1-255-steps-5: SSIM" in said.err
    assert said.err.count("cannot be scored") == 2
    assert said.err.count("efficientnet_lite1") == 2


def test_a_column_in_percent_says_so_below_the_table():
    assert definition_of(measured("grid", [0.1, 0.3], "ab"), []).endswith("Unit: % of the variance; lower is better.")


def test_intervals_are_wilsons_of_shares_and_students_of_other_means_over_the_photographs():
    """Examples of one photograph say less than as many of different ones; one photograph is no sample of them."""
    judge = SimpleNamespace(alias="net", name="net")
    ten = list(range(10))
    for hits in (10, 3):
        low, high = measured("success", np.arange(10) < hits, ten, judge).interval
        expected = scipy.stats.binomtest(hits, 10).proportion_ci(method="wilson")
        assert (low, high) == pytest.approx((expected.low, expected.high))
    # As a resampled mean of so few: the ends of percentiles are those of an interval of t, about.
    values = np.linspace(-1, 1, 8) ** 3
    low, high = measured("tv", values, range(8)).interval
    assert high - low == pytest.approx(2 * scipy.stats.t.ppf(0.975, 7) * scipy.stats.sem(values), rel=0.12)
    # Five examples of each of ten photographs, of which half are fooled wholly: of ten, not of fifty.
    photographs, halves = np.repeat(ten, 5), np.repeat(np.arange(10) < 5, 5)
    low, high = measured("fooled", halves, photographs, judge).interval
    assert high - low > 0.5
    assert high - low > 1.5 * np.ptp(measured("fooled", halves, range(50), judge).interval)
    tenfold = measured("ssim", np.repeat(values, 10), np.repeat(range(8), 10)).interval
    assert tenfold == pytest.approx(measured("ssim", values, range(8)).interval)
    assert measured("fooled", halves, [0] * 50, judge).interval == measured("fooled", halves, range(50), judge).interval


# --- what is asked for ------------------------------------------------------------------------------------------------


def test_a_setting_is_named_by_what_differs_from_its_preset():
    def names(preset: str, epsilons: list[str], **overrides) -> list[str]:
        return [s.method for s in settings(preset, epsilons, overrides)]

    assert presets("attack") == ["resnet50v2", "sign", "vit"]
    assert names("vit", []) == ["vit"]
    assert names("vit", ["4/255", "0.05"], lr=None) == ["vit-eps-4-255", "vit-eps-0.05"]
    assert names("sign", ["8/255", "8/255"], lr=0.01, sign=False) == ["sign-eps-8-255-alpha-0.01-plain"]
    assert names("resnet50v2", [], steps=30, tv=0.0, sign=True) == ["resnet50v2-tv-0-sign"]
    (one,) = settings("vit", ["4/255"], {"steps": 7})
    assert one.arguments == {"epsilon": 4 / 255, "lr": 0.01, "tv": 1e-4, "steps": 7, "sign": False}
    with pytest.raises(UserError, match="--alpha must be above 0"):
        settings("vit", [], {"lr": -1.0})


def test_epsilons_as_people_write_them():
    assert [epsilon_text(e) for e in (1 / 255, 16 / 255, 0.01, 0.05)] == ["1/255", "16/255", "0.01", "0.05"]


def test_the_strength_in_a_patch_is_the_mean_over_patches_of_each_place():
    rng = np.random.default_rng(0)
    before, after = (rng.integers(0, 256, (8, 12, 3)).astype(np.uint8) for _ in range(2))
    pictures = [Image.fromarray(x) for x in (before, before, after)]
    found = plots.strength_in_a_patch([plots.Case("u", "t", True, tuple(pictures), ("", "", ""))], 4)
    want = np.zeros((4, 4))
    for row in range(8):
        for column in range(12):
            want[row % 4, column % 4] += np.abs(after[row, column].astype(int) - before[row, column]).mean() / 6
    assert found == pytest.approx(want / want.mean())
    assert plots.strength_in_a_patch([plots.Case("u", "t", True, tuple(pictures), ("", "", ""))], 5) is None
