"""A submission: the folder of a run in; one file, its records and pictures with their hashes, out; and back.

A pack is a ZIP archive: `pack.json` says who sent it and the SHA-256 of every other file, `records/` and the folders of
images lie as in the run.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Literal

from benchmark.records.record import REFERENCES, Record, load_all
from benchmark.records.schema import parse
from featvis.errors import UserError
from featvis.storage.hashing import canonical
from featvis.storage.images import write_atomic

SCHEMA: Literal[1] = 1
MANIFEST = "pack.json"
LARGEST = 2 * 10**9
"""Bytes of all files of a pack: it may come from anyone, and is unpacked in memory. Ten thousand canvases have room."""
_WHEN = (1980, 1, 1, 0, 0, 0)  # the same files give the same pack


@dataclass(frozen=True)
class Manifest:
    """What a pack says of itself.

    Attributes:
        sender: who sends it, for the leaderboard.
        files: by name in the pack, the SHA-256 of every other file.
    """

    sender: str
    files: dict[str, str]
    schema: Literal[1] = SCHEMA


def files_of(run: Path) -> Iterator[Path]:
    """The files of a run that a pack holds: records that are done, their pictures, and how those were made.

    Raises:
        UserError: there is no record of a method that is done.
    """
    found = [r for r in load_all(run / "records") if r.status == "done"]
    if not any(r.method not in REFERENCES for r in found):
        raise UserError(f"RUN {run} holds no record of a method that is done; there is nothing to submit")
    for record in found:
        yield record.record_path(run)
        if record.images is not None:
            folder = run / record.images
            yield from sorted(p for p in folder.glob("*.png") if p.stem in record.units)
            yield from sorted(p for p in (folder / "config.yaml", *folder.glob("*.failed.json")) if p.is_file())


def write(run: Path, out: Path, sender: str) -> Manifest:
    """Pack a run.

    Args:
        run: its folder.
        out: the file.
        sender: who sends it.
    """
    contents = {p.relative_to(run).as_posix(): p.read_bytes() for p in files_of(run)}
    manifest = Manifest(sender, {name: hashlib.sha256(data).hexdigest() for name, data in sorted(contents.items())})
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in [(MANIFEST, canonical(dataclasses.asdict(manifest)).encode()), *sorted(contents.items())]:
            # A PNG is as small as it will get.
            how = zipfile.ZIP_STORED if name.endswith(".png") else zipfile.ZIP_DEFLATED
            archive.writestr(zipfile.ZipInfo(name, _WHEN), data, how)
    write_atomic(out, buffer.getvalue())
    return manifest


def unpack(path: Path, folder: Path) -> Manifest:
    """Lay the files of a pack out in an empty folder, after looking at each.

    Args:
        path: the pack.
        folder: where to.

    Raises:
        UserError: it is no pack, of a later version, or a file of it is missing, unlisted, changed or misplaced.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if (size := sum(one.file_size for one in archive.infolist())) > LARGEST:
                raise OSError(f"it unpacks to {size / 1e9:.1f} GB, and {LARGEST / 1e9:.0f} are the most")
            contents = {name: archive.read(name) for name in archive.namelist()}
        data = json.loads(contents.pop(MANIFEST))
    except (OSError, EOFError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} is no pack ({error}); `featvis submit RUN` makes one") from None
    _check_version(data, f"{path}: {MANIFEST}")
    manifest: Manifest = parse(Manifest, data, f"{path}: {MANIFEST}")
    if wrong := sorted(contents.keys() ^ manifest.files.keys()):
        raise UserError(
            f"{path}: {wrong[0]} is {'not listed' if wrong[0] in contents else 'missing'}; pack the run again"
        )
    for name, content in contents.items():
        if hashlib.sha256(content).hexdigest() != manifest.files[name]:
            raise UserError(f"{path}: {name} was changed after it was packed; pack the run again")
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name:
            raise UserError(f"{path}: {name} lies outside of the pack; pack the run again")
        if name.startswith("records/"):
            _check_version(_json(content), f"{path}: {name}")
        write_atomic(folder / name, content, flush=False)
    return manifest


def _json(content: bytes) -> object:
    try:
        return json.loads(content)
    except ValueError:
        return None  # whoever reads it says what it is


def _check_version(data: object, where: str) -> None:
    version = data.get("schema") if isinstance(data, dict) else None
    if isinstance(version, int) and version > SCHEMA:
        raise UserError(f"{where} was made by a later version of featvis (schema {version}); install that one")


def cell_of(record: Record) -> tuple[str, str, str]:
    """What names a row."""
    return record.suite, record.alias, record.method
