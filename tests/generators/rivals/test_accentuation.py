"""Accentuation against NumPy on the same views of the image, which hooks set here see; the command, and its page."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from commands import Refusals
from PIL import Image
from places import ROOT

from benchmark.cli import main
from benchmark.records.record import load_all
from featvis import engine
from featvis.canvas.parametrizations import OwnPhase
from featvis.canvas.sampling import render
from featvis.canvas.transforms import draw
from featvis.data.files import open_rgb, to_tensor
from featvis.engine import fft
from featvis.errors import UserError
from featvis.generators import Accentuation
from featvis.generators.rivals.accentuation import units_of
from featvis.networks.units import parse_units

PICTURE = ROOT / "results" / "figures" / "visualizations.jpg"


def made(tiny, **options):
    return Accentuation(**{"model": tiny, "layer": "1", "steps": 1, "canvas": 16, "views": 2, **options})


def at(tiny, layer: int, images: torch.Tensor) -> np.ndarray:
    found: list[np.ndarray] = []
    handle = tiny.net[layer].register_forward_hook(lambda m, a, out: found.append(out.detach().flatten(1).numpy()))
    with torch.no_grad():
        tiny.net((images - 0.5) / 0.25)
    handle.remove()
    return found[0]


@pytest.mark.parametrize("mode", ["accentuate", "caricature"])
def test_the_score_compares_each_view_with_the_same_view_of_the_image(tiny, pictures, mode):
    generator = made(tiny, mode=mode)
    paths = [pictures / "cat" / "0.png", pictures / "dog" / "1.png"]
    units = units_of(paths, parse_units("fox", tiny))
    state = generator.optimisation(units)
    with torch.no_grad():
        moved = [generator.parametrization.decode(part.parameters + 0.3, part.fixed) for part in state.parts]
        canvas = torch.cat(moved)
    seeds = torch.stack([to_tensor(open_rgb(path)) for path in paths])
    frame = draw(generator.transforms(0), (16, 16), 2, generator.streams(units))
    views, same = (render(x, frame, (16, 16)) for x in (canvas, seeds))
    a, b = at(tiny, 1, views), at(tiny, 1, same)
    with torch.no_grad():
        logits = tiny(views)[:, 2].numpy()
    length = np.linalg.norm(b, axis=1)
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / length
    expected = {
        "accentuate": logits - 10 * np.linalg.norm(a - b, axis=1) / length,
        "caricature": (a * b).sum(1) / length * np.maximum(cosine, 0.1) ** 2,
    }[mode]
    _, score = generator.ascend(canvas, units, frame, generator.streams(units))
    assert np.allclose(score.numpy(), expected.reshape(2, 2).mean(1), rtol=1e-3)


def test_phases_under_an_images_own_magnitude_begin_as_the_image():
    images = torch.rand(2, 3, 9, 14, generator=torch.Generator().manual_seed(0))
    phase, magnitude = OwnPhase((9, 14)).of(images)
    assert torch.allclose(OwnPhase((9, 14)).decode(phase, magnitude), images.clamp(1 / 255, 254 / 255), atol=1e-4)


def test_optimised_phases_make_the_same_image_on_every_device(monkeypatch):
    """They are of no real image: what a GPU makes of such a spectrum is taken from the engine, as a CPU makes it."""
    own, stream = OwnPhase((8, 12)), torch.Generator().manual_seed(0)
    phase, magnitude = own.of(torch.rand(1, 3, 8, 12, generator=stream))
    phase = (phase + torch.rand(phase.shape, generator=stream)).requires_grad_()
    weights = torch.rand(1, 3, 8, 12, generator=stream)
    found, used = [], []
    for transform in (engine.irfft2, fft._of_hermitian_part):
        monkeypatch.setattr(engine, "irfft2", lambda *given, of=transform: used.append(of) or of(*given))
        image = own.decode(phase, magnitude)
        found.append((image, *torch.autograd.grad((image * weights).sum(), phase)))
    (image, gradient), (other, other_gradient) = found
    assert torch.allclose(image, other, atol=1e-6)
    assert torch.allclose(gradient, other_gradient, atol=1e-6)
    assert float(gradient.norm()) > 0
    assert len(used) == 2, "the engine's own, and nothing beside it"


def test_what_has_no_image_or_layer_is_refused(tiny, pictures):
    cat = units_of([pictures / "cat" / "0.png"], parse_units("fox", tiny))
    for options, units, words in (
        ({}, parse_units("fox", tiny), "2 has none; use featvis accentuate"),
        ({"layer": "layer9"}, cat, "has no layer layer9"),
        ({"crop": (0.5, 0.1)}, cat, "in ascending order"),
    ):
        with pytest.raises(UserError, match=words):
            made(tiny, **options).check_units(units)
    assert made(tiny).photographs(cat[0]) == (cat[0].digest,)


def test_of_many_photographs_those_of_a_batch_alone_are_held(tiny, pictures):
    units = units_of(sorted(pictures.rglob("*.png")), parse_units("fox,owl", tiny))
    generator = made(tiny)
    assert len({generator.photographs(unit) for unit in units}) == 9
    held = []
    for i in range(0, len(units), 2):
        canvas = generator.optimise(units[i : i + 2]).canvas
        assert generator.about(units[i])["image"] == units[i].path.name
        gc.collect()
        held.append(sum(type(o) is torch.Tensor and o.shape == canvas.shape[1:] for o in gc.get_objects()))
    assert len(held) == 9
    assert set(held) == {1}, "one image, of two units"


def test_the_command_makes_a_page_of_any_photograph_and_resumes(tmp_path, capsys, classifier):
    """Of another size than the network's input, and with an alpha channel."""
    with Image.open(PICTURE) as image:
        image.convert("RGBA").crop((0, 0, 260, 180)).save(tmp_path / "photo.png")
    out = tmp_path / "out"
    args = ["accentuate", "efficientnet_lite0", "--images", str(tmp_path / "photo.png"), "--units", "tabby",
            "--steps", "2", "--crops", "1", "--wandb", "disabled", "--out", str(out)]  # fmt: skip
    assert main(args) == 0
    said = capsys.readouterr().out
    (record,) = load_all(out / "records")
    assert record.sees == "one image"
    (file,) = (out / str(record.images)).glob("*.png")
    with Image.open(file) as image:
        canvas = np.asarray(image.convert("RGB")).transpose(2, 0, 1) / 255
    x = F.interpolate(torch.from_numpy(canvas).float()[None], (224, 224), mode="bicubic", antialias=True).clamp(0, 1)
    with torch.no_grad():
        logit = float(classifier.net((x - 0.5) / 0.5)[0, 281])
    assert record.metric("activation_logits").value == pytest.approx(logit, abs=1e-3)
    assert f"to {record.metric('activation_logits').value:.2f}" in said
    text = (out / "index.html").read_text()
    assert text.count("<figcaption>accentuate") == 1
    files = {p: p.stat().st_mtime_ns for p in (out / str(record.images)).glob("*.png")}
    assert len(files) == 1
    assert main(args) == 0
    assert files == {p: p.stat().st_mtime_ns for p in files}


def test_bad_input_is_one_sentence_and_nothing_is_lost(tmp_path, capsys):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    refused = Refusals(tmp_path, capsys)
    call = ["accentuate", "efficientnet_lite0", "--out", str(tmp_path / "out"), "--wandb", "disabled", "--images"]
    refused([*call, str(tmp_path / "broken.png"), "--units", "tabby"], "broken.png is no image that can be decoded")
    refused([*call, str(PICTURE)], "--units is missing")
    refused([*call, str(PICTURE), "--units", "tabby", "--layer", "blocks.99"], "has no layer blocks.99")
    refused([*call, str(tmp_path / "nowhere"), "--units", "tabby"], "is not a folder")
