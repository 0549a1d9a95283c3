"""What became of submitted rows: beside each record, what its sender reported and what followed from the pictures."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmark.records.record import Record
from benchmark.records.schema import parse
from featvis.errors import UserError
from featvis.storage.hashing import canonical
from featvis.storage.images import write_atomic

SCHEMA: Literal[1] = 1
FOLDER = "submissions"
"""Beside the folder of records."""


@dataclass(frozen=True)
class Report:
    """A submitted row.

    Attributes:
        suite: of its record.
        alias: likewise.
        method: likewise.
        sender: who submitted it.
        pack: SHA-256 of the pack.
        reported: by metric, the value that the sender's record has.
        verified: by metric, the value that followed from the pictures here.
        unchecked: why some could not be scored anew.
    """

    suite: str
    alias: str
    method: str
    sender: str
    pack: str
    reported: dict[str, float]
    verified: dict[str, float]
    unchecked: tuple[str, ...]
    schema: Literal[1] = SCHEMA

    @property
    def cell(self) -> tuple[str, str, str]:
        """What names its record."""
        return self.suite, self.alias, self.method


def path_of(folder: Path, record: Record | Report) -> Path:
    """Where a row lies below a folder of records, or of reports: `<suite>/<alias>/<method>.json`."""
    return folder / record.suite / record.alias / f"{record.method}.json"


def write(folder: Path, report: Report) -> Path:
    """Write a report to its place below a folder."""
    path = path_of(folder, report)
    write_atomic(path, (canonical(dataclasses.asdict(report), "the report") + "\n").encode())
    return path


def load_all(folder: Path) -> dict[tuple[str, str, str], Report]:
    """Every report below a folder, which need not be there, by the cell of its record.

    Raises:
        UserError: a file holds something else.
    """
    found = {}
    for path in sorted(folder.rglob("*.json")) if folder.is_dir() else []:
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{path} is not a JSON file ({error})") from None
        report: Report = parse(Report, data, str(path))
        found[report.cell] = report
    return found
