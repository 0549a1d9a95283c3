"""Several devices and machines: whatever deals the work out, the images and the features are the same."""

from __future__ import annotations

import io
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import command
from lightning.pytorch.plugins.environments import SLURMEnvironment
from warm import start

from benchmark import launch
from benchmark.records import record as records
from benchmark.running.generate import parsed
from featvis.errors import UserError

pytestmark = pytest.mark.usefixtures("plain_engine")
SUITE = """
model: efficientnet_lite0
units: 301,323
methods: [maco]
classifiers: [efficientnet_lite0]
frechet: efficientnet_lite0
batch_size: 1
"""
SRUN = {"SLURM_PROCID": "5", "SLURM_NTASKS": "16", "SLURM_STEP_NUM_TASKS": "16"}


def free_port() -> int:
    """The first of a few ports that nobody listens at: each group of processes meets at the next one."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def files(folder: Path, pattern: str) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob(pattern))}


@pytest.fixture(scope="module")
def data(sample, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("launch")
    for name in ("n02165456", "n02279972", "n01440764", "n07753275"):
        shutil.copytree(sample / name, folder / "data" / name)
    return folder


def test_two_nodes_of_one_process_make_what_one_makes(data):
    """With what torchrun tells its processes, as on two machines with a shared file system."""
    (data / "small.yaml").write_text(f"{SUITE}metrics: [plausibility, spectrum]\n")
    run = ["run", "--suite", "small.yaml", "--steps", "2", "--crops", "1", "--canvas", "48", "--data", "data"]
    run += ["--wandb", "disabled"]
    done = command(*run, "--out", "one/run", cwd=data)
    assert done.returncode == 0, done.stderr[-3000:]
    world = {"WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "TORCHELASTIC_RUN_ID": "none"}
    world |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    nodes = [
        start("-m", "benchmark", *run, "--out", "two/run", cwd=data, **world, RANK=str(rank), GROUP_RANK=str(rank))
        for rank in (0, 1)
    ]
    try:
        said = [node.communicate(timeout=1500)[0] for node in nodes]
    finally:
        for node in nodes:
            if node.poll() is None:
                os.killpg(node.pid, signal.SIGKILL)
    assert [node.returncode for node in nodes] == [0, 0], "\n---\n".join(text[-3000:] for text in said)
    one, two = (files(data / name / "run" / "efficientnet_lite0", "[0-9]*.png") for name in ("one", "two"))
    assert len(one) == 4
    assert one == two
    ranks = "".join(p.read_text() for p in (data / "two").rglob("timings.jsonl"))
    assert '"rank": 0' in ranks
    assert '"rank": 1' in ranks, "both nodes worked"
    one, two = (files(data / name / "reference", "*.safetensors") for name in ("one", "two"))
    assert len(one) == 2, "features and a spectrum"
    assert one == two
    numbers = [
        {r.method: r.metrics for r in records.load_all(data / name / "run" / "records")} for name in ("one", "two")
    ]
    assert set(numbers[0]) == {"real", "maco", "real_other", "noise"}
    assert numbers[0] == numbers[1]
    assert "absent" not in said[1], "rank 0 alone speaks"


def test_features_on_two_devices_are_those_of_one(data):
    for devices in ("1", "2"):
        arguments = ["--data", "data", "--models", "efficientnet_lite0", "--devices", devices]
        done = command("reference", *arguments, "--out", f"on{devices}", cwd=data)
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = (files(data / f"on{n}", "*.safetensors") for n in (1, 2))
    assert len(one) == 1
    assert one == two


def started_by(monkeypatch, environment: dict[str, str]) -> None:
    """Have the variables of a launcher, and of no other."""
    for name in list(os.environ):
        if name.startswith(("SLURM_", "TORCHELASTIC_")) or name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
            monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"TORCHELASTIC_RUN_ID": "x", "RANK": "3", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}, launch.World(3, 8, 4)),
        ({"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}, None),
        (SRUN | {"SLURM_NNODES": "2"}, launch.World(5, 16, 8)),
        (SRUN | {"SLURM_NTASKS": "1", "SLURM_STEP_NUM_TASKS": "1"}, None),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "2", "SLURM_JOB_NAME": "bash"}, None),
    ],
)
def test_who_started_this(monkeypatch, environment, expected):
    started_by(monkeypatch, environment)
    assert launch.world() == expected
    want = {"devices": 2, "strategy": "ddp"}
    if expected is not None:
        want = {"devices": expected.local, "num_nodes": expected.size // expected.local, "strategy": "ddp"}
    assert launch.trainer(2) == want


@pytest.mark.parametrize("more", [{}, {"SLURM_NTASKS_PER_NODE": "8"}, {"SLURM_STEP_NUM_TASKS": "1"}])
def test_tasks_of_slurm_that_nobody_started_are_not_waited_for(monkeypatch, more):
    started_by(monkeypatch, {"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_JOB_NAME": "job.sh"} | more)
    for ask in (launch.world, launch.rank, lambda: launch.trainer(1)):
        with pytest.raises(UserError, match="has 8 tasks .* start it with srun, or ask for --ntasks=1"):
            ask()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_lightning_says_of_slurm_is_one_sentence(monkeypatch, tmp_path):
    started_by(monkeypatch, SRUN)
    with pytest.raises(UserError, match="the Trainer refuses its arguments .* Use `--ntasks-per-node=16`"):
        parsed(["--model", "MACO", "--data.units", "301", "--out", str(tmp_path)])


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_a_stopped_run_says_how_to_go_on_and_leaves_no_half_written_file(tmp_path, sign):
    (tmp_path / "small.yaml").write_text(f"{SUITE}metrics: [spectrum]\n")
    arguments = [
        "run", "--suite", "small.yaml", "--units", "301,323,953,0", "--steps", "12", "--crops", "2", "--canvas", "64",
        "--wandb", "disabled", "--out", "out",
    ]  # fmt: skip
    process = start("-m", "benchmark", *arguments, cwd=tmp_path)
    until = time.monotonic() + 900
    while not list(tmp_path.rglob("[0-9]*.png")) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    # A terminal sends Ctrl-C to all processes of the group; a scheduler sends SIGTERM to the first.
    if sign == signal.SIGINT:
        os.killpg(process.pid, sign)
    else:
        process.send_signal(sign)
    said = process.communicate(timeout=600)[0]
    assert process.returncode == 128 + sign, said[-3000:]
    assert "stopped; what is finished stays, and the same command goes on from there" in said
    assert said.count("featvis: stopped") == 1
    assert "Traceback" not in said
    made = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("[0-9]*.png")}
    assert 1 <= len(made) < 4
    assert not list(tmp_path.rglob("*.tmp"))
    done = command(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert {p: p.stat().st_mtime_ns for p in made} == made, "what was finished is not made again"
    assert (
        f"4 images in out/efficientnet_lite0/maco/{next(iter(made)).parent.name} ({len(made)} were there" in done.stdout
    )


def test_a_process_alone_does_not_hear_of_the_others(monkeypatch, capfd):
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "WORLD_SIZE": "2", "SLURM_PROCID": "0"}.items():
        monkeypatch.setenv(name, value)
    code = "import os; print(sorted(k for k in os.environ if 'RANK' in k or 'WORLD' in k or 'SLURM' in k))"
    assert launch.call(["-c", code], alone=True) == 0
    assert capfd.readouterr().out == "[]\n"
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    monkeypatch.setenv("MASTER_PORT", "1234")
    assert launch.call(["-c", "import os; print(int(os.environ['MASTER_PORT']) > 1234, os.environ['RANK'])"]) == 0
    assert capfd.readouterr().out == "True 0\n", "each group meets at a port of its own"


@pytest.mark.parametrize(("job", "port"), [("7123456", 18456), ("12", 15012), ("", 29500)])
def test_jobs_that_share_a_machine_meet_at_ports_of_their_own(job, port):
    """As Lightning's own SLURM environment has it."""
    assert launch.first_port({"SLURM_JOB_ID": job}) == port
    if job:
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("MASTER_PORT", raising=False)
            patch.setenv("SLURM_JOB_ID", job)
            assert SLURMEnvironment(auto_requeue=False).main_port == port


def test_a_name_that_is_no_text_can_be_printed(monkeypatch):
    for locale in ("utf-8", "ascii"):
        said = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(said, encoding=locale))
        launch.say_anything()
        print("caf\udce9", flush=True)
        assert said.getvalue() == b"caf\\udce9" + os.linesep.encode()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc, whose memory it is about")
def test_commands_keep_what_they_free():
    """Pages are fetched once, and not again for each tensor: counted, not timed."""
    work = (
        "import resource, torch; from benchmark import launch\n"
        "assert {keep}\n"
        "def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        # What alignment leaves over is put together after some rounds.
        "for _ in range(16): torch.ones(12 << 20)\n"
        "before = faults()\n"
        "for _ in range(16): torch.ones(12 << 20)\n"
        "print(faults() - before)"
    )
    plain, kept = (
        int(subprocess.run([sys.executable, "-c", work.format(keep=keep)], capture_output=True, check=True).stdout)
        for keep in ("True", "launch.keep_freed()")
    )
    assert kept < plain / 4
