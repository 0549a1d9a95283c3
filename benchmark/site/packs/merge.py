"""Submissions verified and merged: packs in; their records beside ours, with what followed from the pictures, out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from benchmark.audit import verify
from benchmark.records.record import REFERENCES, Record, load_all
from benchmark.site.board import reports
from benchmark.site.packs.pack import cell_of, unpack
from featvis.errors import UserError
from featvis.storage.images import write_atomic

DIGITS = 6
"""Significant ones of a number that was computed anew: further ones depend on the processor."""


@dataclass(frozen=True)
class Submission:
    """A pack as it was laid out: its file and SHA-256, its folder, who sent it, and its records of methods."""

    path: Path
    digest: str
    folder: Path
    sender: str
    records: tuple[Record, ...]


@dataclass(frozen=True)
class Outcome:
    """What became of the packs: a sentence each, in the order of the packs' names; `refused` are those not merged."""

    merged: tuple[str, ...]
    refused: tuple[str, ...]


def merge(
    packs: Sequence[Path], records: Path, pictures: Path, data: dict[str, str | None], check_only: bool = False
) -> Outcome:
    """Verify packs, and add the rows of those that hold.

    Each is taken as a whole or not at all, and which are does not depend on their order.

    Args:
        packs: the files.
        records: folder of records; reports go to the folder `submissions` beside it.
        pictures: folder of the submitted pictures, laid out as in a run.
        data: where the real images lie here, by the names of the flags of `featvis run`.
        check_only: write nothing.
    """
    with TemporaryDirectory() as scratch:
        found, refused = [], []
        for number, path in enumerate(sorted(set(packs))):
            try:
                found.append(_open(path, Path(scratch) / str(number) / "run"))
            except UserError as error:
                refused.append(str(error))
        there = {cell_of(r): r for r in (load_all(records) if records.is_dir() else [])}
        merged = []
        for submission in found:
            problems = _conflicts(submission, found, there) + _replaced(submission, found, pictures)
            report = verify.Report() if problems else verify.verify(submission.folder, data)
            problems += report.problems
            if not problems:
                problems += [_unverified(r, report) for r in submission.records if _lacks(r, report)]
            if problems:
                refused += [f"{submission.path}: {text}" for text in problems]
                continue
            if not check_only:
                _add(submission, report, records, pictures)
            cells = ", ".join(" / ".join(cell_of(r)) for r in submission.records)
            merged.append(f"{submission.path}: {cells}; {report.numbers} numbers verified")
        return Outcome(tuple(merged), tuple(refused))


def _open(path: Path, folder: Path) -> Submission:
    manifest = unpack(path, folder)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    try:
        found = [r for r in load_all(folder / "records") if r.method not in REFERENCES]
    except UserError as error:
        raise UserError(f"{path}: {str(error).replace(f'{folder}/', '')}") from error
    for record in found:
        # Its pictures are copied to a folder of that name, beside those of others.
        parts = PurePosixPath(record.images or "").parts
        if record.images is not None and (len(parts) != 3 or parts[::2] != (record.alias, record.config_hash)):
            raise UserError(
                f"{path}: {' / '.join(cell_of(record))} has its images in {record.images}, not in "
                f"{record.alias}/<method>/{record.config_hash}; pack a run as `featvis run` left it"
            )
    return Submission(path, digest, folder, manifest.sender, tuple(found))


def _conflicts(
    submission: Submission, all_packs: Sequence[Submission], there: dict[tuple[str, str, str], Record]
) -> list[str]:
    """Rows of a pack that another one, or our own records, have too; the same record once more is none."""
    rows = Counter(cell_of(r) for one in all_packs for r in one.records)
    found = []
    for record in submission.records:
        cell = cell_of(record)
        others = [o.path.name for o in all_packs if o is not submission and cell in map(cell_of, o.records)]
        if rows[cell] > 1:
            found.append(f"the row {' / '.join(cell)} is in {', '.join(others)} too; merge one of them")
        elif cell in there and there[cell].to_json() != record.to_json():
            found.append(f"there is a record of {' / '.join(cell)} already; give the method another name")
    return found


def _replaced(submission: Submission, all_packs: Sequence[Submission], pictures: Path) -> list[str]:
    """A sentence where files of a pack would replace those of other rows: suites share the folders of pictures."""
    mine = _files(submission)
    for other in all_packs:
        theirs = _files(other) if other is not submission else {}
        for name in sorted(mine.keys() & theirs.keys()):
            if mine[name].read_bytes() != theirs[name].read_bytes():
                return [f"{other.path.name} has another {name}; merge one of them"]
    for name, path in mine.items():
        if (pictures / name).is_file() and (pictures / name).read_bytes() != path.read_bytes():
            return [f"{pictures / name} is there already, and is another one; name another folder with --pictures"]
    return []


def _files(submission: Submission) -> dict[str, Path]:
    """The files beside the pictures of a pack, and the pictures, by their place below the folder of all pictures."""
    folders = sorted({r.images for r in submission.records if r.images is not None})
    found = (p for name in folders for p in sorted((submission.folder / name).glob("*")) if p.is_file())
    return {p.relative_to(submission.folder).as_posix(): p for p in found}


def _lacks(record: Record, report: verify.Report) -> bool:
    """Whether a row has numbers, and none of them was computed anew."""
    said = any(m.value is not None for m in record.metrics)
    return said and not any(key[:3] == cell_of(record) for key in report.follows)


def _unverified(record: Record, report: verify.Report) -> str:
    why = f": {'; '.join(report.unchecked)}" if report.unchecked else ""
    return f"no number of {' / '.join(cell_of(record))} could be scored anew{why}"


def _add(submission: Submission, report: verify.Report, records: Path, pictures: Path) -> None:
    """Write the rows of a pack: pictures first, then what was verified, the record last."""
    for name, path in _files(submission).items():
        # Whole or not at all: a picture that was cut off would be another one for good.
        write_atomic(pictures / name, path.read_bytes())
    for record in submission.records:
        cell = cell_of(record)
        known = {m.name: m.value for m in record.metrics if m.value is not None}
        verified = {k[3]: float(f"{v:.{DIGITS}g}") for k, v in report.follows.items() if k[:3] == cell}
        reports.write(
            records.parent / reports.FOLDER,
            reports.Report(
                *cell, submission.sender, submission.digest, known, verified,
                tuple(t for t in report.unchecked if f"{record.alias} / {record.method}:" in t),
            ),
        )  # fmt: skip
        write_atomic(reports.path_of(records, record), record.to_json().encode())
