"""Processes: which of several this one is, and how it starts others.

A run may be one process, which starts what it needs (`--devices 4`), or one of several that a launcher started:
`torchrun` or SLURM's `srun`. Then each of them goes through the same cells in the same order, each cell and each pass
over images is a process of its own that joins those of the other ranks, and rank 0 alone claims the folder, scores,
writes records and logs.
"""

from __future__ import annotations

import ctypes
import io
import itertools
import logging
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from featvis.errors import UserError, full_disk
from featvis.storage.interrupt import WORKER, Stopped, stoppable

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")
"""By which torchrun tells its processes of each other."""
PATIENCE = 20.0
"""Seconds for a process that is asked to stop; launchers send a SIGKILL after 30."""
_STARTED = itertools.count(1)

# Of glibc's malloc.h: how much free memory is kept, and how many allocations may be mappings of their own.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
KEPT = 1 << 30
"""Bytes of freed memory that a process keeps."""


@dataclass(frozen=True)
class World:
    """The processes that a launcher started.

    Attributes:
        rank: of this one.
        size: how many there are.
        local: how many on this machine.
    """

    rank: int
    size: int
    local: int


def world() -> World | None:
    """The launcher's processes, or None where there is no launcher or only one process.

    Raises:
        UserError: where SLURM has given a job several tasks, and nobody has started them.
    """
    env = os.environ
    if "TORCHELASTIC_RUN_ID" in env:
        found = World(int(env["RANK"]), int(env["WORLD_SIZE"]), int(env["LOCAL_WORLD_SIZE"]))
    elif (tasks := int(env.get("SLURM_NTASKS", "1"))) > 1 and env.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        # A batch script has the rank 0 of all tasks too; srun alone says how many processes it has started.
        if int(env.get("SLURM_STEP_NUM_TASKS", "1")) < 2:
            raise UserError(
                f"SLURM has {tasks} tasks for this job, and this process is none that srun started; start it with "
                f"srun, or ask for --ntasks=1 --cpus-per-task={tasks}"
            )
        found = World(int(env["SLURM_PROCID"]), tasks, tasks // int(env.get("SLURM_NNODES", "1")))
    else:
        return None
    return found if found.size > 1 else None


def rank() -> int:
    """Of this process: the launcher's, or the one that Lightning gave to a process that it started."""
    found = world()
    return found.rank if found is not None else int(os.environ.get("LOCAL_RANK", "0"))


def first_port(env: Mapping[str, str]) -> int:
    """Where processes meet if nothing says it: jobs that share a machine should not meet each other (as Lightning)."""
    return 15000 + int(job[-4:]) if (job := env.get("SLURM_JOB_ID", "")).isdigit() else 29500


def trainer(devices: int) -> dict[str, Any]:
    """Arguments of Lightning's Trainer."""
    found = world()
    if found is not None:
        return {"devices": found.local, "num_nodes": found.size // found.local, "strategy": "ddp"}
    return {"devices": devices, "strategy": "ddp"} if devices > 1 else {"devices": 1}


def environment() -> dict[str, str]:
    """Variables for the processes that are started, by us or by Lightning, whatever lies in the current folder.

    `python -m` and `-c` would look there first: a user's own `benchmark.py` would be started in the place of ours. Our
    packages are found where they are now, be they installed or not.
    """
    places = [place for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]
    root = Path(__file__).absolute().parents[1]
    if root.name not in ("site-packages", "dist-packages") and str(root) not in places:
        places.append(str(root))
    return {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(places)}


def call(arguments: Sequence[str], alone: bool = False) -> int:
    """Run Python with some arguments, and wait; its exit code, negative where a signal ended it.

    Args:
        arguments: of Python.
        alone: one process, which shall not find out that there are others.

    Raises:
        Stopped: after the process has stopped too, and finished the write at hand.
    """
    env = {**os.environ, **environment(), WORKER: "1"}
    number = next(_STARTED)
    if alone:
        env = {k: v for k, v in env.items() if k not in VARIABLES and not k.startswith(("SLURM_", "TORCHELASTIC_"))}
    elif world() is not None:
        # Each group of processes meets at a port of its own: torchrun's store still holds the last one's addresses.
        port = int(env.get("MASTER_PORT", first_port(env))) + number
        env |= {"TORCHELASTIC_USE_AGENT_STORE": "False", "MASTER_PORT": str(port)}
    process = subprocess.Popen([sys.executable, *arguments], env=env)
    try:
        return process.wait()
    except (Stopped, KeyboardInterrupt):
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            # It waits for another rank, where Python sees no signal; it is not writing then.
            process.kill()
            process.wait()
        raise


def keep_freed() -> bool:
    """Have the C library keep what is freed for what is asked for next, up to `KEPT`; whether it can: glibc's does.

    A network that scores makes and drops tensors of tens of megabytes a layer. Given back to the system each time, they
    are fetched and zeroed again page by page, which took almost as long as the arithmetic (docs/speed.md).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform.startswith("linux") else None
    return mallopt is not None and bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, KEPT))


def say_anything() -> None:
    """Have what cannot be printed, as a file's name that is no text, printed with its bytes in digits."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def end(work: Callable[[], int]) -> NoReturn:
    """What a process that a run started does: its work, and an exit code; 1 and a sentence where it failed."""
    quiet()
    say_anything()
    keep_freed()
    try:
        with stoppable():
            sys.exit(work())
    except UserError as error:
        text: str | None = str(error)
    except OSError as error:
        if (text := full_disk(error)) is None:
            raise
    except Stopped as error:
        sys.exit(error.code)
    print(f"featvis: {text}", file=sys.stderr)
    sys.exit(1)


def quiet() -> None:
    """Keep the Trainer's advice about loaders and loggers off the terminal; our own bars and errors stay."""
    for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning.*")
    warnings.filterwarnings(
        "ignore", message=".*(does not have many workers|overridden `transfer_batch|infer the batch indices).*"
    )
