"""Commands in processes of their own that need not import PyTorch again: copies (fork) of one that has.

Importing takes five to ten seconds of a core, and the tests start some hundred processes. `Warm` starts one that
imports everything, runs one thread and does nothing else; a command is a copy of it, with arguments, folder,
environment, output and process group of its own, and what the command starts is a copy of the command. Where a copy
would not be the same as a new process (threads are running, or the system has no fork), a new one is started.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import runpy
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[2]
SINGLE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
EVERYTHING = (
    "matplotlib.pyplot", "pandas", "lightning", "torchmetrics", "timm", "faiss", "benchmark.cli",
    "benchmark.running.generate", "benchmark.running.runner", "benchmark.running.dry_run", "benchmark.report.report",
    "benchmark.scoring.evaluate", "benchmark.scoring.references", "featvis.generators",
)  # fmt: skip


def threads() -> int:
    """How many threads this process has, jemalloc's (Arrow's) aside, which a copy does without; 99 if nobody knows."""
    try:
        names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    except OSError:
        return 99
    return len([name for name in names if name != "jemalloc_bg_thd"]) or 99


# --- in the copies ----------------------------------------------------------------------------------------------------


def execute(arguments: Sequence[str]) -> int:
    """What `python ARGUMENTS` does, `-m MODULE ...` or `-c CODE ...`; its exit code."""
    kind, what, *rest = arguments
    sys.argv = [what if kind == "-m" else "-c", *rest]
    sys.path.insert(0, str(Path.cwd()))
    try:
        if kind == "-m":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # a module that is there already, by design
                name = f"{what}.__main__" if Path(ROOT, what.replace(".", "/")).is_dir() else what
                runpy.run_module(name, run_name="__main__", alter_sys=True)
        else:
            exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
    except SystemExit as error:
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
            return 1
        return int(error.code or 0)
    except KeyboardInterrupt:
        return 130
    except BaseException:
        import traceback

        traceback.print_exc()
        return 1
    return 0


def leave(code: int) -> None:
    """End a copy as a process ends, without what the frames around it would do."""
    try:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def settle() -> None:
    """What a process finds out when it is started."""
    import figures

    from benchmark import launch
    from featvis.storage import interrupt

    _media.cache_clear()
    figures.leave_out()
    interrupt._STARTER = os.getppid()
    launch.subprocess = Nested  # type: ignore[attr-defined]
    # Each process has a temporary folder for the media that it logs, and removes it at its end.
    for name, module in list(sys.modules.items()):
        if name.startswith("wandb.") and "MEDIA_TMP" in vars(module):
            module.MEDIA_TMP._finalizer.detach()
            module.MEDIA_TMP = _media()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


@functools.cache
def _media() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory("wandb-media")


class Copy:
    """What `subprocess.Popen` is to `launch.call`: a copy of this process, or a new one where there are threads."""

    def __new__(cls, arguments: list[str], env: dict[str, str]) -> Any:
        """The handle."""
        return super().__new__(cls) if threads() == 1 else subprocess.Popen(arguments, env=env)

    def __init__(self, arguments: list[str], env: dict[str, str]) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            # As in a new process: locks that the starter holds are the starter's alone.
            os.closerange(3, 1024)
            os.environ.clear()
            os.environ.update(env)
            settle()
            leave(execute(arguments[1:]))

    def poll(self) -> int | None:
        """Its exit code, None where it is running."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, once it is there."""
        if timeout is None and self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        until = time.monotonic() + (timeout or 0)
        while (code := self.poll()) is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired("copy", timeout or 0)
            time.sleep(0.01)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, where it is running."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


class Nested:
    """The module `subprocess`, as far as `benchmark.launch` needs it."""

    Popen, TimeoutExpired = Copy, subprocess.TimeoutExpired


def serve(line: socket.socket) -> None:
    """Make copies until nobody asks any more."""
    import importlib

    import torch

    from benchmark.launch import keep_freed
    from featvis.choice import has_numba

    torch.set_num_threads(1)
    keep_freed()
    # Numba is optional, and what it has compiled is read by whoever needs it.
    for name in (*EVERYTHING, *["featvis.engine.loops"] * has_numba()):
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    line.sendall(struct.pack("i", threads()))
    while True:
        message, handles, _, _ = socket.recv_fds(line, 1 << 16, 3)
        if not message:
            return
        if os.fork() == 0:
            line.close()
            _watch(json.loads(message), *handles)
        for handle in handles:
            os.close(handle)


def _watch(asked: dict[str, Any], out: int, err: int, told: int) -> None:
    """Start one copy, tell its number, then its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    child = os.fork()
    if child:
        os.write(told, struct.pack("i", child))
        for handle in (out, err):
            os.close(handle)
        os.write(told, struct.pack("i", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))
        os._exit(0)
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.closerange(3, 1024)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    settle()
    leave(execute(asked["arguments"]))


# --- in the tests -----------------------------------------------------------------------------------------------------


class Process:
    """A command that runs: what is needed of `subprocess.Popen`. Its group's number is its own, as in a new session."""

    def __init__(self, pid: int, told: socket.socket, out: IO[str], err: IO[str]) -> None:
        self.pid, self.told, self.files = pid, told, (out, err)
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit code, None where it is running."""
        try:
            return self.wait(0.001)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float = 600) -> int:
        """Its exit code, once it is there."""
        if self.returncode is None:
            self.told.settimeout(timeout)
            try:
                (self.returncode,) = struct.unpack("i", self.told.recv(4))
            except TimeoutError as error:
                raise subprocess.TimeoutExpired("warm", timeout) from error
        return self.returncode

    def communicate(self, timeout: float = 600) -> tuple[str, str]:
        """Everything that it and what it started wrote, once it is over."""
        self.wait(timeout)
        said = []
        for file in self.files:
            file.seek(0)
            said.append(file.read())
        return said[0], said[1]

    def send_signal(self, number: int) -> None:
        """Send a signal, where it is running."""
        if self.poll() is None:
            os.kill(self.pid, number)


class Warm:
    """Starts commands as copies of one process, which is started at the first."""

    def __init__(self) -> None:
        self.line: socket.socket | None = None
        self.alone = True

    def _connect(self) -> socket.socket:
        if self.line is None:
            here, there = socket.socketpair()
            subprocess.Popen(
                [sys.executable, __file__, str(there.fileno())], pass_fds=[there.fileno()], cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), **SINGLE},
            )  # fmt: skip
            there.close()
            (count,) = struct.unpack("i", here.recv(4))
            self.line, self.alone = here, count == 1
        return self.line

    @property
    def possible(self) -> bool:
        """Whether a copy is as good as a new process on this machine."""
        if not hasattr(os, "fork") or not hasattr(socket, "send_fds") or not sys.platform.startswith("linux"):
            return False
        self._connect()
        return self.alone

    def start(self, *arguments: str, cwd: Path, merged: bool = False, **more: str) -> Process:
        """`python ARGUMENTS` in a folder, with `more` in its environment; with standard error among the output where
        they are `merged`."""
        out = tempfile.TemporaryFile("w+")  # noqa: SIM115
        err = out if merged else tempfile.TemporaryFile("w+")  # noqa: SIM115
        here, there = socket.socketpair()
        env = {**os.environ, "PYTHONPATH": str(ROOT), **SINGLE, **more}
        asked = json.dumps({"arguments": arguments, "cwd": str(cwd), "env": env}).encode()
        line = self._connect()
        assert len(asked) < 1 << 16
        socket.send_fds(line, [asked], [out.fileno(), err.fileno(), there.fileno()])
        there.close()
        (pid,) = struct.unpack("i", here.recv(4))
        return Process(pid, here, out, err)


WARM = Warm()


def start(*arguments: str, cwd: Path, warm: bool = True, **more: str) -> Any:
    """`python ARGUMENTS` in a process group of its own, output and errors together: what is needed of `Popen`.

    A copy where that is as good, unless `warm` is false.
    """
    if warm and WARM.possible:
        return WARM.start(*arguments, cwd=cwd, merged=True, **more)
    return subprocess.Popen(
        [sys.executable, *arguments], cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **SINGLE, **more}, start_new_session=True,
    )  # fmt: skip


if __name__ == "__main__":
    # Under its own name, so that what a command starts finds the same classes.
    sys.path.insert(0, str(Path(__file__).parent))
    import warm

    warm.serve(socket.socket(fileno=int(sys.argv[1])))
