"""What needs a process of its own: peak memory, and the rate of one thread. A JSON object on standard output.

`python -m benchmark.perf.worker '{"what": "memory", ...}'`
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmark.perf.measure import generator, network, started, units_of
from benchmark.perf.record import Memory, Processes
from featvis import engine
from featvis.errors import UserError
from featvis.networks.devices import Precision, default_device

Job = dict[str, Any]
"""model, method, precision, units, views, canvas, and `what`: memory or rate."""

ROUNDS, STEPS = 5, 4
"""Of one process and two in turn; and the steps of each in a round."""


def _forget_peak(device: torch.device) -> float:
    """Let the peak begin anew; megabytes held now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / 1e6
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5", encoding="utf-8")
        return _status("VmRSS")
    return _peak(device)


def _peak(device: torch.device) -> float:
    """Megabytes, at most, since then."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 1e6
    if Path("/proc/self/status").exists():
        # Not ru_maxrss, which on Linux begins with what the starting process held.
        return _status("VmHWM")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # bytes on a Mac


def _status(field: str) -> float:
    return int(Path("/proc/self/status").read_text(encoding="utf-8").split(f"{field}:")[1].split()[0]) * 1024 / 1e6


def memory(job: Job) -> dict[str, Any]:
    """The peak of two steps."""
    device = default_device()
    engine.prepare()
    classifier, _ = network(job["model"], job["precision"], device)
    # The network's first pass is part of what any work takes.
    classifier(torch.rand(1, 3, *classifier.input_size, device=device))
    made = generator(job["method"], classifier, job["views"], job["canvas"])
    before = _forget_peak(device)
    state = started(made, units_of(classifier, job["units"]))
    for _ in range(2):
        made.step(state)
    size = sum(p.parameters.numel() * p.parameters.element_size() for p in state.parts) / 1e6
    return {"before_mb": before, "parameters_mb": size, "peak_mb": _peak(device)}


def rate(job: Job) -> None:
    """One thread: say that it is ready, wait for a line, work, print views a second."""
    torch.set_num_threads(1)
    engine.prepare()
    classifier, _ = network(job["model"], job["precision"], torch.device("cpu"))
    made = generator(job["method"], classifier, job["views"], job["canvas"])
    state = started(made, units_of(classifier, job["units"]))
    made.step(state)
    print("ready", flush=True)
    for line in sys.stdin:
        start, steps = time.perf_counter(), int(line)
        for _ in range(steps):
            made.step(state)
        print(steps * job["units"] * job["views"] / (time.perf_counter() - start), flush=True)


def _run(job: Job) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmark.perf.worker", json.dumps(job)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def peak_memory(
    model: str, method: str, precision: Precision, units: int, views: int, canvas: int
) -> Memory:  # fmt: skip
    """The memory of a process of its own."""
    facts: dict[str, Any] = {"model": model, "method": method, "units": units, "views": views, "canvas": canvas}
    with _run({"what": "memory", "precision": precision, **facts}) as process:
        out, _ = process.communicate()
    if process.returncode:
        raise UserError(f"the process that measures the memory of {method} on {model} ended with {process.returncode}")
    return Memory(**facts, **json.loads(out.splitlines()[-1]))


def two_processes(model: str, method: str, precision: Precision, units: int, views: int, canvas: int) -> Processes:
    """One process of one thread and two at once, in turn."""
    facts: dict[str, Any] = {"model": model, "method": method, "units": units, "views": views, "canvas": canvas}
    workers = [_run({"what": "rate", "precision": precision, **facts}) for _ in range(2)]
    one, two = [], []
    try:
        for worker in workers:
            _answer(worker)
        for _ in range(ROUNDS):
            alone = [_asked(worker) for worker in workers]
            one.append(statistics.mean(alone))
            for worker in workers:
                _ask(worker)
            two.append(sum(float(_answer(worker)) for worker in workers))
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    ratio = statistics.median(b / a for a, b in zip(one, two, strict=True))
    return Processes(**facts, rounds=ROUNDS, one=statistics.median(one), two=statistics.median(two), ratio=ratio)


def _ask(worker: subprocess.Popen[str]) -> None:
    assert worker.stdin is not None
    worker.stdin.write(f"{STEPS}\n")
    worker.stdin.flush()


def _answer(worker: subprocess.Popen[str]) -> str:
    assert worker.stdout is not None
    line = worker.stdout.readline()
    if not line:
        raise UserError("a process that measures the speed of one thread ended before its time")
    return line


def _asked(worker: subprocess.Popen[str]) -> float:
    _ask(worker)
    return float(_answer(worker))


if __name__ == "__main__":
    given: Job = json.loads(sys.argv[1])
    if given["what"] == "memory":
        print(json.dumps(memory(given)))
    else:
        rate(given)
