"""`featvis probe` and `featvis invert`: what they write, that they resume, and what they refuse."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
from commands import ROOT, Refusals
from PIL import Image, ImageOps

from benchmark.cli import main
from benchmark.records.record import load_all
from benchmark.report import montage
from benchmark.report.montage import Panel, Strip, Tile
from benchmark.studies import accentuate as accentuating
from benchmark.studies import invert as inverting
from benchmark.studies import probe as probing
from benchmark.studies.probe import correlation, high_share
from featvis.generators import inversion
from featvis.generators.rivals import accentuation
from featvis.networks.units import parse_units
from featvis.storage import images

pytestmark = pytest.mark.usefixtures("plain_engine")
PICTURE = ROOT / "results" / "figures" / "visualizations.jpg"
NET = "efficientnet_lite0"


def wave(cycles: float, amplitude: float = 0.2, side: int = 64) -> np.ndarray:
    x = np.arange(side) / side
    return np.repeat((0.5 + amplitude * np.sin(2 * np.pi * cycles * x))[None, :, None], side, 0).repeat(3, 2)


@pytest.mark.parametrize("turn", [False, True])
def test_the_share_of_high_energy_of_waves(turn):
    """A quarter of the Nyquist frequency of 64 pixels is 8 cycles."""
    pick = (lambda a: a.transpose(1, 0, 2)) if turn else (lambda a: a)
    assert high_share(pick(wave(7))) < 1e-9
    assert high_share(pick(wave(9))) > 1 - 1e-9
    # Energies add as squared amplitudes; the last column of a half spectrum counts once, as it is there once.
    assert high_share(pick(wave(4) + wave(12, 0.1) - 0.5)) == pytest.approx(0.1**2 / (0.2**2 + 0.1**2))
    nyquist = 0.5 + 0.1 * np.where(np.arange(64) % 2, 1, -1)[None, :, None] * np.ones((64, 1, 3))
    assert high_share(pick(wave(4) + nyquist - 0.5)) == pytest.approx(0.1**2 / (0.2**2 / 2 + 0.1**2))


def test_the_share_of_high_energy_of_any_image_is_that_of_the_full_spectrum():
    image = np.random.default_rng(0).random((31, 44, 3))
    decorrelated = image @ np.linalg.inv(
        [[0.56282854, 0.58447580, 0.58447580], [0.19482528, 0, -0.19482528], [0.04329450, -0.10823626, 0.06494176]]
    )
    power = (np.abs(np.fft.fft2(decorrelated, axes=(0, 1))) ** 2).sum(2)
    f = np.hypot(np.fft.fftfreq(31)[:, None], np.fft.fftfreq(44)[None])
    assert high_share(image) == pytest.approx(power[f > 0.125].sum() / power[f > 0].sum())
    assert correlation(image, 1 - image) == pytest.approx(-1)


def check_page(out: Path) -> str:
    text = (out / "index.html").read_text()
    for target in re.findall(r'(?:src|href)="([^"#:]+)"', text):
        assert (out / target).is_file(), target
    return text


def test_a_probe_shows_layers_and_compares_and_resumes(tmp_path, capsys, classifier):
    args = ["probe", NET, "--layers", "blocks.0.0,blocks.2.1", "--channels", "2", "--steps", "2", "--canvas", "64"]
    assert main([*args, "--out", str(tmp_path)]) == 0
    assert "of the energy above Nyquist / 4" in capsys.readouterr().out
    records = {r.method: r for r in load_all(tmp_path / "records")}
    assert sorted(records) == ["am_literal", "am_lucid", "am_pixel"]
    hierarchy = records["am_lucid"]
    assert [len(records[m].units) for m in ("am_lucid", "am_pixel")] == [4, 2]
    assert str(hierarchy.command).startswith(f"featvis probe {NET} --layers blocks.0.0,blocks.2.1 --channels 2")
    folder = tmp_path / str(hierarchy.images)
    units = [u for u in hierarchy.units if u.startswith("blocks.2")]
    maps = [at(classifier, "blocks.2.1", seen(folder / f"{u}.png")).reshape(-1, 28, 28) for u in units]
    reached = [image[int(u.rpartition("-")[2])].mean() for u, image in zip(units, maps, strict=True)]
    assert hierarchy.metric("activation_blocks.2.1").value == pytest.approx(np.mean(reached), abs=1e-4)
    # From the same start, with the same views: after two steps the twins are all but one picture.
    assert records["am_literal"].metric("pixel_correlation").value > 0.85
    # So has the method of the hierarchy, which is made before the pixels' are.
    assert records["am_lucid"].metric("pixel_correlation").n == 2
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("blocks*.png")}
    assert len(before) == 4 + 2 + 2
    text = check_page(tmp_path)
    assert text.count("<figure>") >= 4 + 6
    assert main([*args, "--out", str(tmp_path)]) == 0
    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("blocks*.png")}


@pytest.mark.parametrize("side", [16, 24])
@pytest.mark.parametrize("study", ["probe", "invert", "accentuate"])
def test_the_same_files_give_the_same_numbers_whatever_precision_made_them(tmp_path, monkeypatch, study, side):
    """Whoever has no bfloat16 could not verify them; what the files' facts say of float canvases is another number.

    And a canvas that is larger than the network's input is read in every study as it is for scores: by Pillow.
    """
    pixels = np.random.default_rng(1).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels[::-1]).save(tmp_path / "photo.png")
    network = tiny.network()
    # Dropped instead: what makes the images, and what is shown of them.
    kept = []
    record = SimpleNamespace(write=lambda path: None, record_path=lambda out: out)
    for module in (inverting, accentuating):
        monkeypatch.setattr(module, "folder_of", lambda *args: tmp_path)
        monkeypatch.setattr(module, "produce", lambda *args: {})
        monkeypatch.setattr(module, "of_images", lambda m, u, f, metrics, *a, **k: kept.append(metrics) or record)
        monkeypatch.setattr(module, "report", lambda *args: None)
    monkeypatch.setattr(accentuating, "strip", lambda *args: None)

    def measure(used) -> list:
        if study == "probe":
            units = parse_units("3:0+5", used)
        elif study == "invert":
            units = inversion.units_of([tmp_path / "photo.png"], ["3"], used)
        else:
            units = accentuation.units_of([tmp_path / "photo.png"], parse_units("fox,3:5", used))
        for unit in units:
            images.write(tmp_path / f"{unit.id}.png", pixels, pixels[..., 0], {"unit": unit.id, "activation": 99.0})
        if study == "probe":
            return probing.measure(probing.Probe(used, (("3", tuple(units)),)), units, tmp_path, None, None)
        if study == "invert":
            inverting.run(inversion.Inversion(model=used, canvas=16), ["3"], [tmp_path / "photo.png"], 1, tmp_path, "")
        else:
            made = accentuation.Accentuation(model=used, layer="1", canvas=16)
            accentuating.run(made, units, 1, tmp_path, "")
        return kept.pop()

    exact = measure(network)
    assert measure(network.in_precision("bfloat16")) == exact
    assert all(abs(m.value) < 10 for m in exact)
    canvas, photo = (fitted(image, network) for image in (pixels, pixels[::-1]))
    if study == "invert":
        everywhere = [network.activations(x, frozenset({"3[:]"}))["3[:]"].flatten() for x in (canvas, photo)]
        expected = torch.cosine_similarity(*everywhere, dim=0).item()
        assert exact[0].value == pytest.approx(expected, abs=1e-5)
    else:
        reached = network.activations(canvas, frozenset({"3"}))["3"][0]
        expected = reached[[0, 5]].mean().item() if study == "probe" else reached[5].item()
        assert next(m for m in exact if m.name == "activation_3").value == pytest.approx(expected, abs=1e-5)


def test_units_of_one_photograph_go_together_in_an_accentuations_interval():
    """Three units in each of four photographs, all alike: what one unit in each says of four."""
    values = {f"{photo}-{unit}": float(photo**2) for photo in range(4) for unit in range(3)}
    units = [SimpleNamespace(id=name, path=Path(name.partition("-")[0])) for name in values]
    together = accentuating._measure("logits", units, values)
    once = accentuating._measure("logits", units[::3], values)
    assert (together.n, once.n) == (12, 4)
    assert together.interval == pytest.approx(once.interval)


@torch.no_grad()
def fitted(pixels: np.ndarray, network) -> torch.Tensor:
    """Pixels as the network takes them, by Pillow alone."""
    small = ImageOps.fit(Image.fromarray(pixels), network.input_size[::-1], Image.Resampling.BICUBIC)
    return torch.from_numpy(np.asarray(small) / 255).float().permute(2, 0, 1)[None]


def seen(path: Path) -> np.ndarray:
    """An image as the network sees it, by Pillow alone: (H, W, 3) in [0, 1]."""
    with Image.open(path) as image:
        return np.asarray(ImageOps.fit(image.convert("RGB"), (224, 224), Image.Resampling.BICUBIC)) / 255


def at(classifier, layer: str, image: np.ndarray) -> np.ndarray:
    """All activations of a layer, by a hook of the test's own."""
    kept = []
    handle = classifier.net.get_submodule(layer).register_forward_hook(lambda m, a, out: kept.append(out))
    with torch.no_grad():
        classifier.net(torch.from_numpy((image.transpose(2, 0, 1)[None] - 0.5) / 0.5).float())
    handle.remove()
    return kept[0].double().numpy().ravel()


def test_an_inversion_has_its_four_columns_and_resumes(tmp_path, capsys, classifier):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, shift in enumerate((0, 300)):
        with Image.open(PICTURE) as image:
            image.crop((shift, 0, shift + 260, 250)).save(folder / f"{i}.png")
    out = tmp_path / "out"
    args = ["invert", NET, "--images", str(folder), "--layer", "blocks.0.0,blocks.6.0", "--steps", "3"]
    assert main([*args, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    (record,) = load_all(out / "records")
    assert record.n == 4
    for layer in ("blocks.0.0", "blocks.6.0"):
        measured = record.metric(f"cosine_{layer}")
        assert measured.n == 2
        cosines = []
        for path in sorted(folder.glob("*.png")):
            (file,) = (out / str(record.images)).glob(f"{layer}-{path.stem}.*.png")
            a, b = (at(classifier, layer, seen(p)) for p in (path, file))
            cosines.append(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
        assert measured.value == pytest.approx(np.mean(cosines), abs=1e-3)
        assert f"{NET} cosine {layer}: cosine {measured.value:.3f} over 2 images" in said
    text = check_page(out)
    assert text.count("<figcaption>transparency") == 4
    files = {p: p.stat().st_mtime_ns for p in (out / str(record.images)).glob("*.png")}
    assert main([*args, "--out", str(out)]) == 0
    assert files == {p: p.stat().st_mtime_ns for p in files}


def test_tiles_show_the_mask_and_what_is_seen_through_it(tmp_path):
    rgb = np.full((8, 8, 3), 200, np.uint8)
    alpha = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    images.write(tmp_path / "a.png", rgb, alpha, {})
    shown = {k: np.asarray(montage.picture(Tile(tmp_path / "a.png", "", k))) for k in ("opaque", "mask", "over_grey")}
    assert (shown["opaque"] == 200).all()
    assert (shown["mask"] == alpha[..., None]).all()
    expected = 128 + (200 - 128) * alpha.astype(float) / 255
    assert np.abs(shown["over_grey"][..., 0] - expected).max() <= 1
    assert montage.picture(Tile(tmp_path / "none.png")) is None
    figure = montage.draw(
        [
            Panel(
                "p",
                (
                    Strip(
                        "s",
                        (Tile(tmp_path / "a.png", "c"), Tile(tmp_path / "no.png")),
                    ),
                ),
            )
        ],
        tmp_path / "f.png",
    )
    with Image.open(figure) as drawn:
        assert drawn.width > 400


@pytest.fixture
def refused(tmp_path, capsys, monkeypatch) -> Refusals:
    """Refused commands, in a folder with a picture and a file that is none."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEATVIS_WEIGHTS", raising=False)
    (tmp_path / "pictures").mkdir()
    Image.fromarray(np.zeros((30, 30, 3), np.uint8)).save(tmp_path / "pictures" / "one.png")
    (tmp_path / "broken.png").write_text("no image")
    (tmp_path / "empty").mkdir()
    torch.manual_seed(0)
    return Refusals(tmp_path, capsys)


GOOD = ["invert", NET, "--images", "pictures"]
CASES = {
    "probe, model": (["probe", "efficientnet_lit0"], ["MODEL efficientnet_lit0", NET]),
    "probe, no model": (["probe", ","], ["MODEL is empty"]),
    "probe, layer": (["probe", NET, "--layers", "blocks.22"], ["no layer blocks.22", "did you mean"]),
    "probe, channels": (["probe", NET, "--layers", "blocks.0", "--channels", "17"], ["--channels 17", "16 channels"]),
    "probe, no channels": (["probe", NET, "--channels", "0"], ["--channels must be at least 1"]),
    "probe, method": (["probe", NET, "--method", "am_lucit"], ["am_lucit", "did you mean am_lucid"]),
    "probe, compare": (["probe", NET, "--compare", "am_pixl"], ["am_pixl", "did you mean am_pixel"]),
    "probe, steps": (["probe", NET, "--steps", "0"], ["--steps must be between 1 and"]),
    "probe, canvas": (["probe", NET, "--canvas", "8"], ["--canvas must be between 16 and"]),
    "probe, batch": (["probe", NET, "--batch-size", "0"], ["--batch-size must be between 1 and"]),
    "probe, out": (["probe", NET, "--out", "broken.png"], ["--out broken.png", "is not a folder"]),
    "invert, no images": (["invert", NET], ["--images is missing"]),
    "invert, nowhere": (["invert", NET, "--images", "nowhere"], ["--images nowhere", "not a folder"]),
    "invert, empty": (["invert", NET, "--images", "empty"], ["--images empty", "no image"]),
    "invert, no image": (["invert", NET, "--images", "broken.png"], ["--images broken.png", "no image"]),
    "invert, layer": ([*GOOD, "--layer", "blocks.22"], ["no layer blocks.22", "did you mean"]),
    "invert, steps": ([*GOOD, "--steps", "x"], ["--steps must be a whole number, not x"]),
    "invert, limit": ([*GOOD, "--limit", "0"], ["--limit must be at least 1"]),
    "invert, domain": ([*GOOD, "--domain", "pixels"], ["--domain must be spectrum or phase, not pixels"]),
    "units, position": (["run", "--units", "blocks.2:3[99,0]"], ["--units blocks.2:3[99,0]", "rows 0 to 27"]),
    "units, no space": (["run", "--units", "301[1,1]"], ["--units 301[1,1]", "have no space"]),
    "units, width": (["run", "--units", "blocks.2:3+40"], ["--units blocks.2:3+40", "0 to 39"]),
    "units, direction": (["run", "--units", "direction:no.safetensors:0"], ["no.safetensors is not a file"]),
    "tokens": (["run", "--tokens", "cls"], ["--tokens must be all or patches", "not cls"]),
    "wrap": (["layers", "wrap:no.yaml"], ["MODEL wrap:no.yaml", "there is no file no.yaml"]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_bad_input(refused, case):
    args, words = CASES[case]
    refused(args, *words)
