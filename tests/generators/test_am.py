"""Activation maximisation in the frequency domain, and an optimisation that is put down and taken up."""

from __future__ import annotations

import signal

import numpy as np
import pytest
import torch
from warm import start

from benchmark.running.produce import missing, produce
from featvis.generators import AM, MACO, Generator, callbacks
from featvis.networks.units import parse_units
from featvis.storage import images


def ready(generator: Generator, classifier) -> Generator:
    generator.classifier = classifier
    return generator


@pytest.mark.parametrize("size", [(48, 48), (45, 50), (31, 33)])
def test_plain_ascent_on_an_unscaled_spectrum_is_ascent_on_pixels(classifier, size):
    """Zhu and Cangelosi 2025, section 3.2, by hand: one step moves the pixels by their own gradient.

    A bin of a half spectrum stands for two, but those of the columns 0 and W/2, whose rows conjugate each other: there
    the step is half as long. All else of the difference between the two is the optimisation's sensitivity.
    """
    settings = {"steps": 1, "canvas": size, "chain": "none", "precision": "float32"}
    spectrum = ready(AM(domain="spectrum", lr=8.0, **settings), classifier)
    pixels = ready(AM(domain="pixel", lr=1.0, **settings), classifier)
    units = parse_units("301,blocks.2:3", classifier)
    z, _ = spectrum.start(units, spectrum.streams(units))
    x, _ = pixels.start(units, pixels.streams(units))
    assert torch.allclose(spectrum.parametrization.decode(z), pixels.parametrization.decode(x), atol=1e-6)

    def decorrelated(generator: AM) -> np.ndarray:
        canvas = generator.predict_step(units).canvas.double().clamp(1e-6, 1 - 1e-6)
        from featvis.canvas.color import decorrelate

        return decorrelate(torch.logit(canvas)).numpy()

    start = x.double().numpy()
    by_pixels, by_spectrum = decorrelated(pixels) - start, decorrelated(spectrum) - start
    step = np.fft.rfft2(by_pixels)
    edge = [0] + ([size[1] // 2] if size[1] % 2 == 0 else [])
    step[..., edge] /= 2
    expected = np.fft.irfft2(step, s=size)
    assert np.abs(by_pixels).max() > 1e-3, "the step must be visible"
    for i in range(len(units)):
        assert np.linalg.norm(by_spectrum[i] - expected[i]) < 0.02 * np.linalg.norm(expected[i])


STATES = [
    lambda **k: AM(canvas=48, ascent="adam", decay=1.0, **k),
    lambda **k: AM(canvas=48, **k),
    lambda **k: MACO(canvas=64, views=2, phase_offset=True, **k),
]


class Killed(BaseException):
    """What ends a process without a word."""


@pytest.mark.parametrize("make", STATES, ids=["am_lucid", "am_literal", "maco"])
def test_a_batch_is_taken_up_where_it_was_put_down(make, classifier, tmp_path, monkeypatch):
    units = parse_units("301,blocks.2:3-4", classifier)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    produce(ready(make(steps=9, precision="float32"), classifier), units, whole)
    put_down = callbacks.ImageWriter.on_optimization_step
    steps = []

    def now_and_then(self, trainer, module, step, score, state):
        steps.append(step)
        # By the clock, a batch this short is never put down.
        self.every = 1e-9 if step == 3 else 1e9
        put_down(self, trainer, module, step, score, state)
        if step == 5 and len(steps) == 6:
            raise Killed

    monkeypatch.setattr(callbacks.ImageWriter, "on_optimization_step", now_and_then)
    with pytest.raises(Killed):
        produce(ready(make(steps=9, precision="float32"), classifier), units, killed)
    assert not list(killed.glob("*.png"))
    assert len(list(killed.glob(".batch-*.safetensors"))) == 1
    produce(ready(make(steps=9, precision="float32"), classifier), units, killed)
    assert steps == [0, 1, 2, 3, 4, 5, 4, 5, 6, 7, 8], "four steps were saved, and are not done again"
    for unit in units:
        pixels, facts = images.read(killed / f"{unit.id}.png")
        expected, said = images.read(whole / f"{unit.id}.png")
        assert np.array_equal(pixels, expected)
        assert facts == said
    assert not list(killed.glob(".batch-*"))
    assert not missing(ready(make(steps=9, precision="float32"), classifier), units, killed)


def test_a_state_that_cannot_be_read_or_is_anothers_costs_a_batch(classifier, tmp_path, monkeypatch):
    units = parse_units("blocks.2:3", classifier)
    writer = callbacks.ImageWriter(str(tmp_path))
    writer.unfinished(units).write_bytes(b"half a file")
    produce(ready(AM(steps=2, canvas=48, precision="float32"), classifier), units, tmp_path)
    assert [p.name for p in tmp_path.glob("*.png")] == ["blocks.2-3.png"]


SCRIPT = """
import os, signal, sys
from pathlib import Path
from benchmark.running.produce import produce
from featvis.generators import callbacks
from featvis.generators import AM, Generator
from featvis.networks.units import parse_units

step = Generator.step

def until_killed(method, state):
    if state.step == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return step(method, state)

Generator.step = until_killed
callbacks.ImageWriter.__init__.__defaults__ = (1e-9,)
method = AM(steps=int(sys.argv[2]), canvas=64, ascent="adam", decay=1.0, precision="float32")
units = parse_units("blocks.0.0:0-15", method.load_classifier())
produce(method, units, Path(sys.argv[1]), batch_size=16)
"""


def test_sixteen_channels_share_a_batch_and_lose_nothing_when_killed(classifier, tmp_path):
    """One bar and one batch for all; a SIGKILL in the middle, and the bytes of an undisturbed run."""
    arguments = ("-c", SCRIPT, str(tmp_path / "killed"), "30")
    process = start(*arguments, "12", cwd=tmp_path)
    assert process.wait(600) == -signal.SIGKILL, process.communicate()[0]
    assert list((tmp_path / "killed").glob(".batch-*.safetensors")), "it was put down before"
    assert not list((tmp_path / "killed").glob("*.png"))
    # Whoever began anew would be killed before the first step.
    again = start(*arguments, "0", cwd=tmp_path)
    said = again.communicate(timeout=900)[0]
    assert again.returncode == 0, said
    assert "/30" in said, "one bar counts the steps of the one batch"
    method = AM(steps=30, canvas=64, ascent="adam", decay=1.0, precision="float32")
    produce(ready(method, classifier), parse_units("blocks.0.0:0-15", classifier), tmp_path / "whole", 16)
    names = sorted(p.name for p in (tmp_path / "whole").glob("*.png"))
    assert len(names) == 16
    assert len((tmp_path / "whole" / "timings.jsonl").read_text().splitlines()) == 1
    for name in names:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()
