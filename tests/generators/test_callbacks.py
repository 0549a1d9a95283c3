"""A Trainer around a generator: what it writes, what it skips, what it shows."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from safetensors.torch import save_file

from featvis.canvas.color import to_bytes, transparency
from featvis.errors import UserError
from featvis.generators import MACO, Fourier
from featvis.generators.batches import Units
from featvis.generators.callbacks import ImageWriter, RunLogger, StepProgress
from featvis.generators.state import Optimisation, Part
from featvis.storage import images


def trainer(folder, *callbacks, logger=False) -> Trainer:
    return Trainer(
        accelerator="cpu", logger=logger, enable_checkpointing=False, enable_model_summary=False,
        callbacks=[ImageWriter(str(folder)), *callbacks],
    )  # fmt: skip


def generator(classifier, **changes) -> MACO:
    found = MACO(**{"steps": 2, "canvas": 48, "views": 1, "precision": "float32"} | changes)
    found.classifier = classifier
    return found


def test_images_carry_the_optimisation_and_its_facts(classifier, tmp_path):
    method = generator(classifier)
    trainer(tmp_path).predict(method, datamodule=Units("301,323", 2), return_predictions=False)
    expected = generator(classifier).predict_step(units_of(classifier, "301,323"))
    for i, unit in enumerate(("301", "323")):
        pixels, facts = images.read(tmp_path / f"{unit}.png")
        assert np.array_equal(pixels[..., :3], to_bytes(expected.canvas[i]))
        # A scaled alpha tells the raw map: to half a level, where it is not clipped.
        raw = expected.alpha[i].numpy()
        shown = pixels[..., 3].astype(float) / 255 * facts["alpha_scale"]
        inside = raw < facts["alpha_scale"]
        assert np.abs(shown - raw)[inside].max() <= 0.51 / 255 * facts["alpha_scale"]
        assert (pixels[..., 3][~inside] == 255).all()
        assert 0.04 < (~inside).mean() < 0.06
        assert facts["config_hash"] == method.config_hash()
        assert facts["logit"] == pytest.approx(float(expected.activations[i]), abs=1e-5)
        assert facts["label"] == {"301": "ladybug", "323": "monarch"}[unit]
    timing = json.loads((tmp_path / "timings.jsonl").read_text())
    assert {"301", "323"} == set(timing["units"])
    assert timing["device"] == f"cpu ({torch.get_num_threads()} threads, float32)"


def units_of(classifier, text):
    from featvis.networks.units import parse_units

    return parse_units(text, classifier)


def test_only_batches_with_a_missing_unit_are_redone(classifier, tmp_path):
    method = generator(classifier)
    trainer(tmp_path).predict(method, datamodule=Units("301,323,953,985", 2), return_predictions=False)
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.glob("*.png")}
    cut = tmp_path / "985.png"
    cut.write_bytes(cut.read_bytes()[:-200])
    (tmp_path / ".985.png.1.tmp").write_bytes(b"left by a killed run")
    trainer(tmp_path).predict(generator(classifier), datamodule=Units("301,323,953,985", 2), return_predictions=False)
    after = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.glob("*.png")}
    assert {k: v[0] for k, v in before.items()} == {k: v[0] for k, v in after.items()}
    assert before["301.png"] == after["301.png"]
    assert before["953.png"][1] < after["953.png"][1], "the neighbour in the batch is redone with it"
    assert not list(tmp_path.glob(".*.tmp"))


def test_a_folder_belongs_to_one_configuration(classifier, tmp_path):
    trainer(tmp_path).predict(generator(classifier), datamodule=Units("301", 1), return_predictions=False)
    other = Fourier(steps=1, canvas=48, precision="float32")
    other.classifier = classifier
    with pytest.raises(UserError, match="another configuration"):
        trainer(tmp_path).predict(other, datamodule=Units("301", 1), return_predictions=False)


def test_the_bar_moves_with_steps(classifier, tmp_path):
    bar = StepProgress()
    moved = []
    bar_update = bar.on_optimization_step

    def count(*args):
        bar_update(*args)
        moved.append((bar.predict_progress_bar.n, bar.predict_progress_bar.total))

    bar.on_optimization_step = count  # type: ignore[method-assign]
    trainer(tmp_path, bar).predict(
        generator(classifier, steps=3), datamodule=Units("301,323", 1), return_predictions=False
    )
    assert moved == [(n, 6) for n in range(1, 7)]


def test_curves_go_to_the_loggers(classifier, tmp_path):
    log = CSVLogger(tmp_path / "logs")
    trainer(tmp_path / "images", RunLogger(), logger=log).predict(
        generator(classifier, steps=3), datamodule=Units("301", 1), return_predictions=False
    )
    log.save()
    lines = (tmp_path / "logs" / "lightning_logs" / "version_0" / "metrics.csv").read_text().splitlines()
    expected = generator(classifier, steps=3).predict_step(units_of(classifier, "301")).scores[:, 0]
    column = lines[0].split(",").index("score/301 ladybug")
    assert [float(line.split(",")[column]) for line in lines[1:]] == pytest.approx(expected.tolist(), abs=1e-5)


def test_a_full_disk_is_one_sentence_and_loses_nothing(classifier, tmp_path, monkeypatch):
    write, calls = images.write, []

    def full(path, *args):
        calls.append(path)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        write(path, *args)

    monkeypatch.setattr(images, "write", full)
    with pytest.raises(UserError, match="No space left on device.*run the same command again"):
        trainer(tmp_path).predict(generator(classifier), datamodule=Units("301,323", 1), return_predictions=False)
    assert images.verify(tmp_path / "301.png", generator(classifier).config_hash()) is None
    assert not (tmp_path / "323.png").exists()


def test_transparency_of_nothing_is_opaque():
    alpha, scale = transparency(torch.zeros(4, 5))
    assert scale == 0
    assert (alpha == 255).all()


def test_transparency_of_few_pixels_shows_where_they_are():
    """As of a neuron of an early layer, which sees less than a twentieth of the canvas."""
    alpha = torch.zeros(20, 20)
    alpha[3, :10] = torch.arange(1.0, 11)
    seen, scale = transparency(alpha)
    assert scale == pytest.approx(np.quantile(np.arange(1, 11), 0.95))
    assert (seen[alpha.numpy() == 0] == 0).all()
    assert seen[3, :10].tolist() == [min(255, round(255 * i / scale)) for i in range(1, 11)]


def test_transparency_of_the_largest_canvases_is_scaled_as_that_of_others(monkeypatch):
    """The quantile of older versions of PyTorch takes no more than 2 ** 24 values."""
    newer = torch.quantile

    def older(values, q):
        if values.numel() > 2**24:
            raise RuntimeError("quantile() input tensor is too large")
        return newer(values, q)

    monkeypatch.setattr(torch, "quantile", older)
    for side in (100, 4097):
        alpha, scale = transparency(torch.linspace(0, 2, side**2).view(side, side))
        assert scale == pytest.approx(1.9, rel=1e-5)
        assert alpha.shape == (side, side)
        assert (int(alpha[0, 0]), int(alpha[side // 2, 0]), int(alpha[-1, -1])) == (0, pytest.approx(134, abs=1), 255)


def test_every_process_gets_its_share_and_some_may_get_none():
    from featvis.generators.batches import Share

    for count in range(5):
        shares = [list(Share(count, rank, 3)) for rank in range(3)]
        assert sorted(i for share in shares for i in share) == list(range(count))
        assert [len(Share(count, rank, 3)) for rank in range(3)] == [len(share) for share in shares]


@pytest.mark.parametrize("says", [{"device": "cuda"}, {}])
def test_what_was_put_down_on_another_kind_of_device_is_begun_anew(says, tmp_path):
    """A GPU's random streams are 16 bytes, which no CPU's takes; files of before do not say what they are of."""
    parameters = torch.zeros(2, 3, requires_grad=True)
    part, streams = Part(slice(0, 2), parameters, None, torch.optim.Adam([parameters])), [torch.Generator()] * 2
    state = Optimisation([], [part], streams, torch.zeros(2, 4, 4), torch.zeros(5, 2), torch.full((2,), -1))
    there = state.tensors() | {"alpha": torch.ones(2, 4, 4), "step": torch.tensor(3)}
    writer, around = ImageWriter(str(tmp_path)), (trainer(tmp_path), LightningModule())
    writer.config_hash = "0a"
    for kept, taken in (
        (there | {"streams": torch.zeros(2, 16, dtype=torch.uint8)}, False),
        (there, "device" not in says),
    ):
        save_file(kept, writer.unfinished([]), metadata={"config_hash": "0a", **says})
        writer.on_optimization_start(*around, state)
        assert (state.step, bool(state.alpha.any())) == ((3, True) if taken else (0, False))
    state.step = 4
    writer.every = 1e-9
    writer.on_optimization_step(*around, 3, torch.zeros(2), state)
    state.step = 0
    writer.on_optimization_start(*around, state)
    assert state.step == 4, "what it puts down itself it takes up"


@pytest.mark.parametrize(("fused", "expected"), [(True, "meta"), (False, "cpu")])
def test_what_was_put_down_goes_back_to_where_the_optimiser_has_it(fused, expected):
    # Where an optimiser is one operation, its counter lies on the device too; on a GPU it raises otherwise.
    parameters = torch.zeros(2, 3, device="meta", requires_grad=True)
    optimizer = torch.optim.Adam([parameters])
    optimizer.param_groups[0]["fused"] = fused
    part = Part(slice(0, 2), parameters, None, optimizer)
    whole = {"alpha": torch.zeros(2, 4, 4), "scores": torch.zeros(5, 2), "failed": torch.full((2,), -1)}
    state = Optimisation([], [part], [], **{name: t.to("meta") for name, t in whole.items()})
    kept = {"parameters": torch.zeros(2, 3), **whole}
    kept |= {"step": torch.tensor(3), "seconds": torch.tensor(1.0), "streams": torch.zeros(0, 16)}
    kept |= {"optimizer.tensor.step": torch.tensor(3.0), "optimizer.tensor.exp_avg": torch.ones(2, 3)}
    state.restore(kept)
    found = optimizer.state[parameters]
    assert found["exp_avg"].device.type == "meta"
    assert found["step"].device.type == expected
