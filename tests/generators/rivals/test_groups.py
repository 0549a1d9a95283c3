"""Groups in a folder: killed and resumed, one file lost, other members, on two processes: always the same bytes."""

from __future__ import annotations

import json
from pathlib import Path

import lightning
import pytest
import yaml
from commands import command
from lightning.pytorch.callbacks import Callback

from featvis.generators import DeepInversion
from featvis.generators.batches import GivenUnits
from featvis.generators.callbacks import ImageWriter
from featvis.networks.units import parse_units
from featvis.storage import images

UNITS = "cat,dog@0-1,fox"


class Stop(Callback):
    """Ends a run in the middle of its second group, as a kill would."""

    def __init__(self) -> None:
        self.steps = 0

    def on_optimization_step(self, *args: object) -> None:
        self.steps += 1
        if self.steps == 6:
            raise KeyboardInterrupt


def make(tiny, folder: Path, units: str = UNITS, callbacks: tuple[Callback, ...] = ()) -> dict[str, bytes]:
    """What a folder holds once the units are made, groups of two, a batch each."""
    method = DeepInversion(model=tiny, group=2, steps=4, canvas=16, roll=3)
    trainer = lightning.Trainer(
        accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, enable_model_summary=False,
        enable_progress_bar=False, inference_mode=False, callbacks=[ImageWriter(str(folder), every=1e-9), *callbacks],
    )  # fmt: skip
    trainer.predict(method, datamodule=GivenUnits(parse_units(units, tiny), 2), return_predictions=False)
    return {path.name: path.read_bytes() for path in folder.glob("*.png")}


def test_a_killed_run_and_a_lost_file_end_with_the_same_bytes(tiny, tmp_path):
    whole = make(tiny, tmp_path / "whole")
    assert set(whole) == {"0.png", "1.png", "1@1.png", "2.png"}
    assert images.facts(tmp_path / "whole" / "1@1.png")["group"] == ["1@1", "2"]
    with pytest.raises(SystemExit):
        make(tiny, tmp_path / "killed", callbacks=(Stop(),))
    assert {p.name for p in (tmp_path / "killed").glob("*.png")} == {"0.png", "1.png"}
    assert list((tmp_path / "killed").glob(".batch-*")), "the group at hand was put down"
    assert make(tiny, tmp_path / "killed") == whole
    (tmp_path / "whole" / "2.png").unlink()
    assert make(tiny, tmp_path / "whole") == whole, "its group is made again, as a whole"


def test_an_image_of_another_group_is_not_finished(tiny, tmp_path):
    first = make(tiny, tmp_path / "out", "cat,dog")
    second = make(tiny, tmp_path / "out", "cat,fox")
    assert second["0.png"] != first["0.png"]
    assert images.facts(tmp_path / "out" / "0.png")["group"] == ["0", "2"]
    assert second["0.png"] == make(tiny, tmp_path / "other", "cat,fox")["0.png"]


def test_two_processes_give_the_bytes_of_one(tmp_path):
    found = {}
    for name, trainer in (("one", {}), ("two", {"accelerator": "cpu", "devices": 2, "strategy": "ddp"})):
        config = {
            "model": {
                "class_path": "featvis.generators.DeepInversion",
                "init_args": {"steps": 1, "canvas": 64, "group": 2, "precision": "float32"},
            },
            "data": {"units": "0-3", "batch_size": 1},
            "trainer": {"enable_progress_bar": False, **trainer},
            "out": name,
        }
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(config))
        done = command("generate", "--config", f"{name}.yaml", cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-3000:]
        found[name] = {path.name: path.read_bytes() for path in (tmp_path / name).glob("*.png")}
    ranks = {json.loads(line)["rank"] for line in (tmp_path / "two" / "timings.jsonl").read_text().splitlines()}
    assert ranks == {0, 1}, "both processes must have worked"
    assert found["one"] == found["two"]
    assert len(found["one"]) == 4
