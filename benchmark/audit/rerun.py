"""Rerunning a record: its command, checked against what that command would do here and now."""

from __future__ import annotations

import json
import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any

from benchmark.arguments import FOLDERS, command_line, flags_of
from benchmark.records import record as records
from benchmark.records.record import Record
from benchmark.scoring.plan import Row, kind_of
from benchmark.scoring.recording import definition
from benchmark.suites.job import from_flags
from benchmark.suites.suite import Suite
from featvis.errors import UserError
from featvis.generators.arguments import public_path
from featvis.networks.devices import default_device
from featvis.storage.versions import versions

NUMBERS = ("steps", "crops", "canvas", "batch_size", "seed")
KNOWN = {f.name for f in fields(Suite)} | {"suite", "steps", "crops", "canvas", "devices", "out", "wandb"}
"""Flags of `featvis run` that a record's command may have."""


def check(record: Record, data: dict[str, str | None]) -> tuple[str, list[str], list[str]]:
    """The command that makes a record anew.

    Args:
        record: of a run.
        data: where its real images lie here, by the names of the flags of `featvis run`.

    Returns:
        The command; in what a run of it would differ from the record; and what is other but need not matter.

    Raises:
        UserError: when the record has no command, or the command does not work here.
    """
    if record.command is None:
        raise UserError("the record has no command; it was made before records had one, or by hand")
    if not record.command.startswith("featvis run "):
        raise UserError(f"the record is of images that were not made by a run: {record.command}")
    try:
        flags: dict[str, Any] = {k: int(v) if k in NUMBERS else v for k, v in flags_of(record.command).items()}
    except ValueError as error:
        raise UserError(f"the record's command cannot be read ({error}): {record.command}") from error
    if unknown := sorted(flags.keys() - KNOWN):
        raise UserError(f"the record's command has {unknown[0]}, which `featvis run` does not take: {record.command}")
    for key in FOLDERS:
        if key in flags:
            flags[key] = data.get(key) or flags[key]
        elif data.get(key):
            raise UserError(f"--{key.replace('_', '-')} was not given to the run of this record; leave it out")
    path = flags.pop("suite", "quick")
    try:
        job = from_flags(path, flags, None, {})
    except UserError as error:
        raise UserError(f"{record.command} does not work here: {error}") from error
    spelled = command_line("run", {"suite": path} | {k: v for k, v in flags.items() if k not in FOLDERS})
    spelled += "".join(f" --{k.replace('_', '-')} {shlex.quote(str(flags[k]))}" for k in FOLDERS if k in flags)
    differences = []
    if [u.id for u in job.units] != list(record.units):
        differences.append(f"it would make {len(job.units)} other units than the record's {len(record.units)}")
    cell = next((c for c in job.cells if c.method == record.method), None)
    row = next(
        (r for r in job.plan.rows if r.method == record.method),
        Row(record.method, kind=kind_of(record)),
    )
    if cell is None and record.method not in records.REFERENCES:
        differences.append(f"the suite has no method {record.method} any more")
    elif cell is not None and cell.generator.config_hash(default_device()) != record.config_hash:
        now = cell.generator.config(default_device())
        then = dict(record.config.get("generator") or {})
        then["class_path"] = public_path(str(then.get("class_path")))
        differences += _differences(then, now, "")
    said = record.config.get("evaluation") or {}
    again = json.loads(json.dumps(definition(job.plan, row)))
    # A record of before these were written down says nothing of them.
    again = {key: value for key, value in again.items() if key in said or key not in ("canvas", "weights")}
    differences += _differences(said, again, "evaluation.")
    now_installed = versions(tuple(record.versions))
    notes = [f"{k} {v} then, {now_installed[k]} now" for k, v in record.versions.items() if now_installed[k] != v]
    return spelled, differences, notes


def _differences(then: dict[str, Any], now: dict[str, Any], prefix: str) -> list[str]:
    found = []
    for key in dict.fromkeys([*then, *now]):
        a, b = then.get(key), now.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += _differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key} was {a!r}, and would be {b!r}")
    return found


def read(path: Path) -> Record:
    """The record of a file. Raises UserError when it is none."""
    if not path.is_file():
        raise UserError(f"RECORD {path} is not a file; name one of results/records, or of a run's folder records")
    return Record.read(path)
