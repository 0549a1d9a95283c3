"""`featvis perf`: the table of what a step costs."""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from benchmark import launch, tracking
from benchmark.perf import measure, parts, peers, peers_record, record, worker
from benchmark.scoring.recording import git_commit
from featvis.errors import UserError
from featvis.limits import LIMITS
from featvis.networks.devices import Precision, default_device
from featvis.networks.loading import load
from featvis.networks.units import class_of, parse_units
from featvis.storage.versions import versions

Batch = tuple[int, int]


def device_name(device: torch.device) -> str:
    """The device in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name()
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    except OSError:
        found = None
    return found[1] if found else device.type


def file_name(device: str) -> str:
    """A device's name as part of a file's."""
    return re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")


def _circumstances(command: str, device: torch.device) -> dict[str, Any]:
    """The arguments of `record.Circumstances`, here and now."""
    return {
        "command": command,
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "git_commit": git_commit(),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _finish(
    found: record.PerfRecord | peers_record.PeersRecord, text: str, out: Path, kind: str, wandb: str,
    figures: dict[str, Path | np.ndarray],
) -> int:  # fmt: skip
    """Write the record and its text, print that, and log all of it."""
    data, table = record.write(found, text, out, f"{kind}-{file_name(found.device)}")
    print(text)
    print(f"written to {data} and {table}")
    lists = {f.name: getattr(found, f.name) for f in dataclasses.fields(found)}
    tables = {k: pd.DataFrame([dataclasses.asdict(x) for x in v]) for k, v in lists.items() if v and type(v) is tuple}
    config = {k: v for k, v in lists.items() if k not in tables and not dataclasses.is_dataclass(v)}
    command = {"perf": "perf", "peers": "perf-peers"}[kind]
    content = tracking.Content(config, found.numbers(), tables, figures, [data, table])
    tracking.log_command(wandb, out, command, file_name(found.device), content)
    return 0


def run(
    models: Sequence[str], methods: Sequence[str], batches: Sequence[Batch], memory: Sequence[Batch],
    worth: Sequence[Batch], canvas: int, precision: Precision, seconds: float, processes: bool, out: Path, command: str,
    wandb: str = "disabled",
) -> int:  # fmt: skip
    """Time everything, print the tables, write the record."""
    launch.quiet()
    device = default_device()
    measure.check(models, methods, canvas)
    timings: list[record.Timing] = []
    left_out = []
    with tqdm(total=len(models) * len(methods) * len(batches), desc="perf", unit="row") as bar:
        for name in models:
            classifier, random = measure.network(name, precision, device)
            for units, views in batches:
                for method in methods:
                    bar.set_postfix_str(f"{name} {method} {units}x{views}")
                    found = measure.measure(method, classifier, random, units, views, canvas, seconds)
                    if isinstance(found, record.Timing):
                        timings.append(found)
                    else:
                        left_out.append(record.LeftOut(classifier.name, method, units, views, canvas, found))
                    bar.update()
    classifier, _ = measure.network(models[0], precision, device)
    bought: list[record.Part] = []
    with tqdm(total=len(worth) * len(methods), desc="parts", unit="method") as bar:
        for units, views in worth:
            for method in methods:
                bought += parts.parts(method, classifier, units, views, canvas, seconds, bar.set_postfix_str)
                bar.update()
    around = measure.around(methods[0], classifier, canvas)
    model, method = models[0], methods[0]
    cases = [(u, v, canvas) for u, v in memory]
    low, high = LIMITS["canvas"]
    cases += [(*memory[0], side) for side in (canvas // 2, 2 * canvas) if low <= side <= high] if memory else []
    used = [worker.peak_memory(model, method, precision, *case) for case in tqdm(cases, desc="memory", unit="process")]
    two = worker.two_processes(model, method, precision, 4, 4, canvas) if processes and device.type == "cpu" else None
    found_all = record.PerfRecord(
        **_circumstances(command, device),
        timings=tuple(timings),
        left_out=tuple(left_out),
        around=(around,),
        memory=tuple(used),
        processes=two,
        parts=tuple(bought),
    )
    return _finish(found_all, record.markdown(found_all), out, "perf", wandb, {})


def run_peers(
    model: str, judges: Sequence[str], units: str, views: int, canvas: int, steps: int, rounds: int, folder: Path,
    out: Path, command: str, wandb: str = "disabled",
) -> int:  # fmt: skip
    """Time the other libraries and ours in turn, draw and score the pictures, print the tables, write the record."""
    launch.quiet()
    device = default_device()
    classifier, target = load(model, "auto", device), load(model, "float32", device)
    networks = [load(name, "float32", device, "--classifiers") for name in judges]
    chosen = parse_units(units, classifier)
    if any(class_of(unit.id) is None for unit in chosen):
        raise UserError(f"--units {units}: other libraries are compared on classes alone")
    others = peers.peers(folder, classifier, views, canvas)
    timings = peers.time_steps(classifier, others, chosen, views, canvas, 4, rounds)
    drawn: list[peers_record.PeerPictures] = []
    figures: dict[str, Path | np.ndarray] = {}
    if steps:
        drawn, sheet = peers.pictures(classifier, others, chosen, views, canvas, steps, target, networks, out)
        print(f"pictures: {sheet}")
        figures = {sheet.name: sheet}
    found = peers_record.PeersRecord(
        **_circumstances(command, device),
        model=classifier.name,
        views=views,
        canvas=canvas,
        rounds=rounds,
        timings=tuple(timings),
        pictures=tuple(drawn),
    )
    return _finish(found, peers_record.markdown(found), out, "peers", wandb, figures)
