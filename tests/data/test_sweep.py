"""Passes over images: cut, resumed, damaged and shared, they come to the numbers of one loop in NumPy."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from featvis.data import sweep
from featvis.data.sets import FolderImages
from featvis.errors import UserError
from featvis.storage.interrupt import WORKER, Stopped, stoppable, uninterrupted
from featvis.storage.locks import held

SYNSETS = [f"n{i:08d}" for i in range(4)]


class Sums(sweep.Job):
    """The sum of the pixels and the digests of a chunk; a network that is quick."""

    title, size = "sums", (8, 8)

    def __init__(self):
        self.facts = {"kind": "sums"}
        self.begun = []

    def start(self, chunk):
        self.begun.append(chunk.name)
        self.total, self.rows = torch.zeros(3, dtype=torch.float64), []

    def see(self, views, batch):
        self.total += views.double().sum((0, 2, 3))
        self.rows += batch.rows.tolist()

    def finish(self):
        return {"total": self.total, "rows": torch.tensor(self.rows)}


@pytest.fixture
def source(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(23):
        path = tmp_path / "set" / f"n{i % 4:08d}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    (tmp_path / "set" / "n00000000" / "zz.png").write_bytes(b"no image")
    return FolderImages(tmp_path / "set", SYNSETS)


def content(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.glob("*.safetensors"))}


@pytest.mark.parametrize("workers", [0, 2])
def test_chunks_hold_what_a_loop_over_their_images_gives(source, tmp_path, workers):
    todo = sweep.chunks(range(len(source)), 5)
    sweep.run(source, Sums(), todo, tmp_path / "out", batch=2, workers=workers)
    seen = []
    for chunk in todo:
        tensors, facts = sweep.read(tmp_path / "out" / f"{chunk.name}.safetensors", {"kind": "sums"})
        rows = tensors["rows"].tolist()
        want = sum(np.asarray(Image.open(source.files[i].path)).astype(float).sum((0, 1)) / 255 for i in rows)
        np.testing.assert_allclose(tensors["total"], want, rtol=1e-6)
        assert set(chunk.rows) - set(rows) == {i for i in chunk.rows if source.files[i].path.name == "zz.png"}
        assert ("zz.png" in facts["broken"]) == (len(rows) < len(chunk.rows))
        seen += rows
    assert len(seen) == 23


def test_only_what_is_missing_or_damaged_is_made_anew(source, tmp_path):
    todo, out = sweep.chunks(range(len(source)), 5), tmp_path / "out"
    sweep.run(source, Sums(), todo, out, batch=2)
    whole = content(out)
    (out / "00001.safetensors").unlink()
    data = bytearray(whole["00002.safetensors"])
    data[-1] ^= 1
    (out / "00002.safetensors").write_bytes(data)
    (out / "00003.safetensors").write_bytes(whole["00003.safetensors"][:-5])
    job = Sums()
    assert sweep.missing(out, todo, job.facts) == ["00001", "00002", "00003"]
    sweep.run(source, job, todo, out, batch=2)
    assert job.begun == ["00001", "00002", "00003"]
    assert content(out) == whole
    job = Sums()
    sweep.run(source, job, todo, out, batch=2)
    assert job.begun == []
    # Facts of another network, or another cut, are another pass.
    job.facts["kind"] = "others"
    assert len(sweep.missing(out, todo, job.facts)) == 5


def test_a_folder_that_cannot_be_written_is_said_so(source, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="the finished parts are safe"):
        sweep.run(source, Sums(), sweep.chunks(range(4), 2), tmp_path / "file" / "out")


def test_a_folder_has_one_writer_and_the_lock_dies_with_it(tmp_path):
    code = (
        "import sys, pathlib; from featvis.storage.locks import held\n"
        "with held(pathlib.Path(sys.argv[1])): print('mine', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "mine\n"
        with (
            pytest.raises(UserError, match=rf"--out .* is in use by process {other.pid} on .* since 20.*wait for it"),
            held(tmp_path),
        ):
            pass
        other.kill()
        other.wait()
        with held(tmp_path):
            assert (tmp_path / ".lock.json").is_file()
    assert not (tmp_path / ".lock.json").is_file()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_write_at_hand(number):
    before, done = signal.getsignal(number), []

    def write():
        with stoppable(), uninterrupted():
            with uninterrupted():
                os.kill(os.getpid(), number)
                done.append("inner")
            done.append("outer")

    with pytest.raises(Stopped) as stopped:
        write()
    assert done == ["inner", "outer"]
    assert stopped.value.code == 128 + number
    assert signal.getsignal(number) is before


ORPHAN = """
import sys
from featvis.storage.interrupt import Stopped, check_starter
check_starter()
print("at work", flush=True)
sys.stdin.readline()
try:
    check_starter()
    print("goes on", flush=True)
except Stopped:
    print("stops", flush=True)
"""


@pytest.mark.parametrize("killed", [True, False])
def test_a_worker_whose_starter_is_killed_stops(killed):
    """The worker has the pipes of its starter, so that it can be asked when the starter is gone."""
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    with subprocess.Popen(
        [sys.executable, "-c", code, ORPHAN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, WORKER: "1"},
    ) as starter:  # fmt: skip
        assert starter.stdin is not None
        assert starter.stdout is not None
        assert starter.stdout.readline() == "at work\n"
        if killed:
            starter.kill()
            starter.wait()
        starter.stdin.write("go on\n")
        starter.stdin.flush()
        assert starter.stdout.readline() == ("stops\n" if killed else "goes on\n")
