"""One writer a folder: a lock that dies with its process, and says who holds it."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from featvis.errors import UserError
from featvis.storage import images


@contextmanager
def held(folder: Path, wait: float = 0.0) -> Iterator[None]:
    """Hold a folder for the block.

    Args:
        folder: is created.
        wait: seconds to wait for another holder.

    Raises:
        UserError: when another process holds it (who, since when), or it cannot be written.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from featvis.storage.locks import held
        >>> folder = Path(tempfile.mkdtemp())
        >>> with held(folder):
        ...     (folder / ".lock.json").exists()
        True
        >>> (folder / ".lock.json").exists()
        False
    """
    holder = folder / ".lock.json"
    # The system gives the lock back however the process ends; a file that says "locked" would outlive a kill.
    lock = FileLock(folder / ".lock", timeout=wait)
    facts = {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        images.write_atomic(holder, json.dumps(facts).encode())
    except Timeout as error:
        raise UserError(
            f"--out {folder} is in use{_who(holder)}; wait for it to end, or name another folder"
        ) from error
    except OSError as error:
        lock.release()
        raise UserError(f"--out {folder} cannot be written ({error.strerror}); name a folder that can") from error
    try:
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _who(holder: Path) -> str:
    try:
        facts = json.loads(holder.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return f" by process {facts['process']} on {facts['host']} since {facts['since']} ({facts['command']})"
