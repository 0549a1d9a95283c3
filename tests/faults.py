"""A fault run: everything that goes wrong on a cluster, in minutes; `python tests/faults.py --kills 20`.

Suites are generated and a reference is built while their processes are killed (-9) at random moments, images and cache
files are damaged, a disk of a few MB fills, and a second run wants the same folder. At the end everything must be what
an undisturbed run makes: the same image bytes, the same numbers, the same features.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
SUITE = [
    "run", "--methods", "maco,fourier", "--units", "301,323,953,0,7,340", "--batch-size", "1", "--steps", "16",
    "--crops", "2", "--canvas", "64", "--wandb", "disabled",
]  # fmt: skip
# Small chunks, so that a kill can come between them.
REFERENCE = (
    "import featvis.data.reference as r, benchmark.scoring.references as b, sys; b.CHUNK = b.SPECTRUM_CHUNK = 8;"
    "from benchmark.cli import main; sys.exit(main(sys.argv[1:]))"
)


def start(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    """A command in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, *arguments], cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, start_new_session=True,
    )  # fmt: skip


def finish(*arguments: str, cwd: Path, code: int = 0) -> str:
    """A command to its end; what it said."""
    process = start(*arguments, cwd=cwd)
    said, _ = process.communicate(timeout=600)
    assert process.returncode == code, f"exit code {process.returncode}, not {code}:\n{said[-3000:]}"
    return said


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


def kill_at_random(arguments: list[str], cwd: Path, kills: int, rng: random.Random, sign: str) -> int:
    """Start a command and kill it, `kills` times: its whole group, or the first process alone; how often it was alive.

    Every third time at any moment of its start; else soon after the first sign of work, one more file of a pattern.
    """
    alive = 0
    for i in range(kills):
        before = len(list(cwd.rglob(sign)))
        process = start(*arguments, cwd=cwd)
        until = time.monotonic() + (rng.uniform(0.5, 12) if i % 3 == 2 else 120)
        while time.monotonic() < until and len(list(cwd.rglob(sign))) == before and process.poll() is None:
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 1))
        if process.poll() is None:
            alive += 1
            # The orphans of a killed run must stop by themselves, and give the folder back.
            (os.killpg if rng.random() < 0.5 else os.kill)(process.pid, signal.SIGKILL)
        process.communicate(timeout=120)
    return alive


def _says(holder: Path, process: int) -> bool:
    try:
        return bool(json.loads(holder.read_text())["process"] == process)
    except (OSError, ValueError):
        return False


def second_run(work: Path) -> str:
    """Start a run, and another into the same folder; the other must say who holds it, and exit with 2."""
    first = start("-m", "benchmark", *SUITE, "--data", "data", "--out", "shaken", cwd=work)
    holder = work / "shaken" / ".lock.json"
    until = time.monotonic() + 120
    # The file of a killed run may still lie there; it is the lock that counts, and the file says whose it is.
    while not _says(holder, first.pid) and first.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    said = finish("-m", "benchmark", *SUITE, "--data", "data", "--out", "shaken", cwd=work, code=2)
    assert f"is in use by process {first.pid} on " in said, said
    rest, _ = first.communicate(timeout=600)
    assert first.returncode == 0, rest[-3000:]
    return said


def full_disk(work: Path) -> bool:
    """Run on a disk that fills, make room, run again; False where this machine does not let us mount one."""
    script = """
        set -e
        mkdir -p disk && mount -t tmpfs -o size=3m tmpfs disk
        head -c 3050000 /dev/zero > disk/filler
        {run} > full.log 2>&1 && exit 9 || echo $? > full.code
        ls -A disk/shaken/efficientnet_lite0/*/* > full.files || true
        rm disk/filler
        {run} > room.log 2>&1
        cp -r disk/shaken on_disk
    """
    run = " ".join([sys.executable, "-m", "benchmark", *SUITE, "--out", "disk/shaken"])
    for prefix in (["sh", "-c"], ["unshare", "-rm", "sh", "-c"]):
        probe = subprocess.run(
            [*prefix, "mkdir -p probe && mount -t tmpfs -o size=1m tmpfs probe"], cwd=work, check=False
        )
        if probe.returncode == 0:
            break
    else:
        return False
    subprocess.run(["umount", "probe"], cwd=work, check=False, capture_output=True)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*prefix, script.format(run=run)], cwd=work, check=False, env=env, timeout=900)
    subprocess.run(["umount", "disk"], cwd=work, check=False, capture_output=True)
    said = (work / "full.log").read_text()
    assert done.returncode == 0, f"{done.returncode}: {said[-2000:]}"
    assert (work / "full.code").read_text().strip() in ("1", "2"), said
    assert "No space left on device" in said, said
    assert "Traceback" not in said, said
    assert ".tmp" not in (work / "full.files").read_text(), "a half-written file is removed"
    return True


def main(kills: int, seed: int) -> None:
    """Do all of it; AssertionError where something was lost."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        photographs(work / "data", 48)
        run = ["-m", "benchmark", *SUITE, "--data", "data"]
        finish(*run, "--out", "calm/run", cwd=work)
        make = ["-c", REFERENCE, "reference", "--data", "data", "--models", "efficientnet_lite0", "--spectrum"]
        finish(*make, "--out", "calm_reference", cwd=work)

        alive = kill_at_random([*run, "--out", "shaken"], work, kills - kills // 3, rng, "shaken/**/*.png")
        alive += kill_at_random(
            [*make, "--out", "shaken_reference"], work, kills // 3, rng, "shaken_reference/**/*.safe*"
        )
        print(f"{kills} kills, {alive} of them of a living process")
        assert alive >= kills * 2 // 3, "most of the kills must have hit something"

        image = next((work / "shaken").rglob("[0-9]*.png"), None)
        assert image is not None, "something was finished between the kills"
        data = bytearray(image.read_bytes())
        data[len(data) // 2] ^= 0xFF
        image.write_bytes(data)
        chunk = next((work / "shaken_reference").rglob("0*.safetensors"), None)
        assert chunk is not None, "something was finished between the kills"
        data = bytearray(chunk.read_bytes())
        data[-3] ^= 0xFF
        chunk.write_bytes(data)

        print(second_run(work).strip().splitlines()[-1])
        finish(*make, "--out", "shaken_reference", cwd=work)
        compare(work / "calm" / "run", work / "shaken")
        calm, shaken = (files(work / n, "*.safetensors") for n in ("calm_reference", "shaken_reference"))
        assert calm == shaken, "the features"
        print(f"{len(calm)} files of features and spectra are the same")
        # A cache that is damaged after it was read by a run is found out by the next one.
        cached = next((work / "reference").rglob("*lite0*/00000.safetensors"))
        data = bytearray(cached.read_bytes())
        data[-3] ^= 0xFF
        cached.write_bytes(data)
        shutil.rmtree(work / "shaken" / "records")
        finish(*run, "--out", "shaken", cwd=work)
        compare(work / "calm" / "run", work / "shaken")
        if full_disk(work):
            finish("-m", "benchmark", *SUITE, "--out", "roomy", cwd=work)
            compare(work / "roomy", work / "on_disk")
            print("a full disk: one sentence, nothing half-written, and the same images after making room")
        else:
            print("a full disk: NOT TRIED, this machine lets nobody mount one")


def compare(calm: Path, shaken: Path) -> None:
    """The same images, byte for byte, and the same numbers."""
    a, b = (files(folder / "efficientnet_lite0", "[0-9]*.png") for folder in (calm, shaken))
    assert len(a) >= 12
    assert a == b, "the images"
    assert numbers(calm) == numbers(shaken), "the numbers"
    print(f"{len(a)} images and the numbers of {len(numbers(calm))} rows are the same")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    main(given.kills, given.seed)
