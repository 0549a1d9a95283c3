"""Fault runs: everything that goes wrong on a cluster; `python tests/faults.py --kills 20`, in a quarter of an hour.

Suites are generated and a reference is built while their processes are killed (-9) at random moments, images and cache
files are damaged, a disk of a few MB fills, and a second run wants the same folder. At the end everything must be what
an undisturbed run makes: the same image bytes, the same numbers, the same features. The tests run the same three parts
with a few kills, each at a sign of work, and with processes that are copies of one (`warm`); by hand each is a new one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent / "support"))

from warm import SINGLE, start

ROOT = Path(__file__).parents[1]
HANGS = 1200
"""Seconds after which a process is taken to hang, on however slow a machine."""
REST = ["--batch-size", "1", "--crops", "1", "--canvas", "64", "--wandb", "disabled"]
# Small chunks, so that a kill can come between them.
REFERENCE = (
    "import featvis.data.reference as r, benchmark.scoring.references as b, sys; b.CHUNK = b.SPECTRUM_CHUNK = 8;"
    "from benchmark.cli import main; sys.exit(main(sys.argv[1:]))"
)
MAKE = ["-c", REFERENCE, "reference", "--data", "data", "--models", "efficientnet_lite0", "--spectrum"]


@dataclass(frozen=True)
class Faults:
    """How much is tried.

    Attributes:
        work: an empty folder.
        kills: how often a process is killed.
        units: how many there are of each method, 2 to 6.
        steps: of each optimisation.
        suite: its name or file; the file says how it is scored.
        warm: whether processes are copies of one that has imported everything.
        random: of the moments.
    """

    work: Path
    kills: int
    units: int = 6
    steps: int = 16
    suite: str = "quick"
    warm: bool = False
    random: random.Random = field(default_factory=lambda: random.Random(0))

    @property
    def run(self) -> list[str]:
        """The suite that is run."""
        units = ",".join(("301", "323", "953", "0", "7", "340")[: self.units])
        given = ["--suite", self.suite, "--methods", "maco,fourier", "--units", units, "--steps", f"{self.steps}"]
        return ["-m", "benchmark", "run", *given, *REST]

    def start(self, *arguments: str) -> Any:
        """A command in a process group of its own: what is needed of `subprocess.Popen`."""
        return start(*arguments, cwd=self.work, warm=self.warm)

    def finish(self, *arguments: str, code: int = 0) -> str:
        """A command to its end; what it said."""
        process = self.start(*arguments)
        said, _ = process.communicate(timeout=HANGS)
        assert process.returncode == code, f"exit code {process.returncode}, not {code}:\n{said[-3000:]}"
        return str(said)

    def kill(self, arguments: list[str], sign: str) -> None:
        """Start a command and kill it, again and again: its whole group, or the first process alone, in turn.

        Soon after the first sign of work, one more file of a pattern; among many kills every third at any moment.
        """
        alive = 0
        for i in range(self.kills):
            anywhere = self.kills > 3 and i % 3 == 2
            before = len(list(self.work.rglob(sign)))
            process = self.start(*arguments)
            until = time.monotonic() + (self.random.uniform(0.5, 12) if anywhere else HANGS)
            while time.monotonic() < until and len(list(self.work.rglob(sign))) == before and process.poll() is None:
                time.sleep(0.02)
            time.sleep(self.random.uniform(0, 1) if self.kills > 3 else 0)
            if process.poll() is None:
                alive += 1
                # The orphans of a killed run must stop by themselves, and give the folder back.
                (os.killpg if i % 2 else os.kill)(process.pid, signal.SIGKILL)
            process.communicate(timeout=HANGS)
        print(f"{self.kills} kills, {alive} of them of a living process")
        assert alive >= (self.kills * 2 + 2) // 3, "most of the kills must have hit something"


def photographs(folder: Path, count: int) -> None:
    """Images of six classes, each its own texture."""
    rng = np.random.default_rng(0)
    for i in range(count):
        coarse = rng.random((4, 4, 3)) * 255
        path = folder / ("301", "323", "953", "0", "7", "340")[i % 6] / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(coarse.astype(np.uint8)).resize((96, 80), Image.Resampling.BICUBIC).save(path)


def files(folder: Path, pattern: str) -> dict[str, bytes]:
    """The bytes of the files below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob(pattern))}


def numbers(folder: Path) -> dict[str, object]:
    """What the records of a run say, but for times and places."""
    found = {}
    for path in sorted((folder / "records").rglob("*.json")):
        record = json.loads(path.read_text())
        found[path.name] = {k: record[k] for k in ("metrics", "units", "n", "status", "images_sha256", "config_hash")}
    return found


def flip(path: Path, place: int) -> None:
    """Damage one byte."""
    data = bytearray(path.read_bytes())
    data[place] ^= 0xFF
    path.write_bytes(data)


def _says(holder: Path, process: int) -> bool:
    try:
        return bool(json.loads(holder.read_text())["process"] == process)
    except (OSError, ValueError):
        return False


def second_run(faults: Faults, run: list[str]) -> str:
    """Start a run, and another into the same folder; the other must say who holds it, and exit with 2."""
    first = faults.start(*run)
    holder = faults.work / "shaken" / ".lock.json"
    until = time.monotonic() + HANGS
    # The file of a killed run may still lie there; it is the lock that counts, and the file says whose it is.
    while not _says(holder, first.pid) and first.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    # It is held while the other looks, however fast this machine is.
    os.kill(first.pid, signal.SIGSTOP)
    try:
        said = faults.finish(*run, code=2)
    finally:
        os.kill(first.pid, signal.SIGCONT)
    assert f"is in use by process {first.pid} on " in said, said
    rest, _ = first.communicate(timeout=HANGS)
    assert first.returncode == 0, rest[-3000:]
    return said


def killed_runs(faults: Faults) -> None:
    """A suite whose processes are killed, an image that is damaged, a second run, and a cache that is damaged later."""
    work = faults.work
    photographs(work / "data", 12)
    run = [*faults.run, "--data", "data"]
    faults.finish(*run, "--out", "calm/run")
    shaken = [*run, "--out", "shaken"]
    faults.kill(shaken, "shaken/**/*.png")
    image = next((work / "shaken").rglob("[0-9]*.png"), None)
    assert image is not None, "something was finished between the kills"
    flip(image, image.stat().st_size // 2)
    print(second_run(faults, shaken).strip().splitlines()[-1])
    compare(work / "calm" / "run", work / "shaken", 2 * faults.units)
    # A cache that is damaged after it was read by a run is found out by the next one.
    flip(next((work / "reference").rglob("*lite0*/00000.safetensors")), -3)
    shutil.rmtree(work / "shaken" / "records")
    faults.finish(*shaken)
    compare(work / "calm" / "run", work / "shaken", 2 * faults.units)


def killed_references(faults: Faults) -> None:
    """A reference whose processes are killed, and a chunk that is damaged."""
    work = faults.work
    photographs(work / "data", 48)
    faults.finish(*MAKE, "--out", "calm")
    faults.kill([*MAKE, "--out", "shaken"], "shaken/**/*.safe*")
    chunk = next((work / "shaken").rglob("0*.safetensors"), None)
    assert chunk is not None, "something was finished between the kills"
    flip(chunk, -3)
    faults.finish(*MAKE, "--out", "shaken")
    calm, shaken = (files(work / n, "*.safetensors") for n in ("calm", "shaken"))
    assert len(calm) > 6
    assert calm == shaken, "the features"
    print(f"{len(calm)} files of features and spectra are the same")


def full_disk(faults: Faults) -> bool:
    """Run on a disk that fills, make room, run again; False where this machine does not let us mount one."""
    work = faults.work
    # In a name space of its own where only that is allowed; the commands are new processes then.
    for prefix in (["sh", "-c"], ["unshare", "-rm", "sh", "-c"]):
        probe = subprocess.run(
            [*prefix, "mkdir -p probe && mount -t tmpfs -o size=1m tmpfs probe"], cwd=work, check=False
        )
        if probe.returncode == 0:
            break
    else:
        return False
    subprocess.run(["umount", "probe"], cwd=work, check=False, capture_output=True)
    fill = "set -e; mkdir -p disk; mount -t tmpfs -o size=3m tmpfs disk; head -c 3050000 /dev/zero > disk/filler"
    kept = "ls -A disk/shaken/efficientnet_lite0/*/* > full.files || true; rm disk/filler"
    command = [*faults.run, "--out", "disk/shaken"]
    try:
        if len(prefix) == 2:
            subprocess.run([*prefix, fill], cwd=work, check=True)
            process = faults.start(*command)
            said = process.communicate(timeout=HANGS)[0]
            code = process.returncode
            subprocess.run([*prefix, kept], cwd=work, check=True)
            faults.finish(*command)
            shutil.copytree(work / "disk" / "shaken", work / "on_disk")
        else:
            run = shlex.join([sys.executable, *command])
            script = f"{fill}; {run} > full.log 2>&1 && exit 9 || echo $? > full.code; {kept}; {run} > room.log 2>&1"
            env = {**os.environ, "PYTHONPATH": str(ROOT), **SINGLE}
            subprocess.run(
                [*prefix, f"{script}; cp -r disk/shaken on_disk"], cwd=work, check=True, env=env, timeout=2 * HANGS
            )
            said, code = (work / "full.log").read_text(), int((work / "full.code").read_text())
    finally:
        subprocess.run(["umount", "disk"], cwd=work, check=False, capture_output=True)
    assert code in (1, 2), said
    assert "No space left on device" in said, said
    assert "Traceback" not in said, said
    assert ".tmp" not in (work / "full.files").read_text(), "a half-written file is removed"
    faults.finish(*faults.run, "--out", "roomy")
    compare(work / "roomy", work / "on_disk", 2 * faults.units)
    print("a full disk: one sentence, nothing half-written, and the same images after making room")
    return True


def compare(calm: Path, shaken: Path, count: int) -> None:
    """The same images, byte for byte, and the same numbers."""
    a, b = (files(folder / "efficientnet_lite0", "[0-9]*.png") for folder in (calm, shaken))
    assert len(a) >= count
    assert a == b, "the images"
    assert len(numbers(calm)) >= 4
    assert numbers(calm) == numbers(shaken), "the numbers"
    print(f"{len(a)} images and the numbers of {len(numbers(calm))} rows are the same")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    for part, kills in ((killed_runs, given.kills * 2 // 3), (killed_references, given.kills // 3), (full_disk, 0)):
        with tempfile.TemporaryDirectory() as place:
            if part(Faults(Path(place), kills, random=random.Random(given.seed))) is False:
                print("a full disk: NOT TRIED, this machine lets nobody mount one")
