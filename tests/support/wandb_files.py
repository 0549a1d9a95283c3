"""What Weights & Biases has written offline, read back from its own files."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import struct
import time
from pathlib import Path
from typing import Any

import pytest


def settle(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """What tracking sets for a process must not outlive a test; nor may a setting of this machine change it."""
    for name in [n for n in os.environ if n.startswith("WANDB_")]:
        patch.delenv(name)
    values = {"SILENT": "true", "ERROR_REPORTING": "false", "FINISH_TIMEOUT": "60", "FINISH_TIMEOUT_RAISES": "true"}
    folders = {"DATA_DIR": str(folder / "wandb"), "CACHE_DIR": str(folder / "cache")}
    for name, value in (values | folders | {"CONSOLE": "off"}).items():
        patch.setenv(f"WANDB_{name}", value)


class Written:
    """One `.wandb` file: LevelDB's log format (blocks of 32 KiB; checksum, length, kind), a protobuf in each record."""

    def __init__(self, path: Path) -> None:
        from wandb.proto.wandb_internal_pb2 import Record as Entry

        self.path, self.entries = path, []
        data, at, whole = path.read_bytes(), 7, b""
        assert data[:4] == b":W&B"
        while at + 7 <= len(data):
            if 32768 - at % 32768 < 7:
                at += 32768 - at % 32768
                continue
            _, length, kind = struct.unpack_from("<IHB", data, at)
            if at + 7 + length > len(data):
                break  # W&B's own process is still writing it
            whole += data[at + 7 : at + 7 + length]
            at += 7 + length
            if kind in (1, 4):  # the whole, or the last part
                self.entries.append(Entry.FromString(whole))
                whole = b""

    @property
    def run(self) -> Any:
        return self.all("run")[0]

    def all(self, kind: str) -> list[Any]:
        return [getattr(e, kind) for e in self.entries if e.WhichOneof("record_type") == kind]

    def values(self, kind: str) -> dict[str, Any]:
        """Config, summary or history as W&B ends up with it: a key that is nested is a tuple."""
        found: dict[Any, Any] = {}
        updates = [i for e in self.all(kind) for i in (e.item if kind == "history" else e.update)]
        updates = [*self.run.config.update, *updates] if kind == "config" else updates
        for item in updates:
            key = item.key or (item.nested_key[0] if len(item.nested_key) == 1 else tuple(item.nested_key))
            found[key] = json.loads(item.value_json)
        return found

    def artifact(self, kind: str) -> dict[str, Path]:
        """The files of an artifact, whose digests are those that its manifest gives."""
        (entry,) = [a for a in self.all("artifact") if a.type == kind and ("vis" in a.name or kind != "run_table")]
        found = {c.path: Path(c.local_path) for c in entry.manifest.contents}
        for c in entry.manifest.contents:
            assert base64.b64encode(hashlib.md5(Path(c.local_path).read_bytes()).digest()).decode() == c.digest
        return found


def written(out: Path) -> dict[str, list[Written]]:
    """The runs of a folder by name, oldest first."""
    for path in (out / "wandb").glob("offline-run-*/run-*.wandb"):
        # W&B's own process writes the last records a moment after `finish` has returned.
        until = time.monotonic() + 300
        while not Written(path).all("exit") and time.monotonic() < until:
            time.sleep(0.05)
    runs = [Written(path) for path in (out / "wandb").glob("offline-run-*/run-*.wandb")]
    found: dict[str, list[Written]] = {}
    for one in sorted(runs, key=lambda w: w.run.start_time.ToNanoseconds()):
        found.setdefault(one.run.display_name, []).append(one)
    return found
