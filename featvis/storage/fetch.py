"""Files from the network: an address in; the whole file with the checksum expected of it out, or why there is none.

What has arrived lies beside the file, in `.<name>.part`, until it is whole: a download that was interrupted, by the
network or by a kill, goes on from there.
"""

from __future__ import annotations

import hashlib
import http.client
import math
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, TypeVar

from filelock import FileLock
from tqdm import tqdm

from featvis.errors import full_disk

SILENCE = 4.0
"""Seconds without a byte after which a server is asked once more for what is missing."""
FORGIVEN = 60.0
"""Seconds after which a silence is forgotten: a second one before that, and the server counts as gone."""
BLOCK = 1 << 18

T = TypeVar("T")


class NotFetched(OSError):
    """Why a file did not come, as the end of a sentence."""


def within(seconds: float, call: Callable[[], T]) -> T:
    """What a call returns or raises, if it does so in time; a name server that stays silent is beyond other timeouts.

    Args:
        seconds: to wait.
        call: goes on behind the scenes where it was too slow.

    Raises:
        NotFetched: when it was too slow.
    """
    found: list[T] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            found.append(call())
        except BaseException as error:  # raised again where it is waited for
            failed.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not found:
        raise NotFetched(f"no answer within {seconds:g} s")
    return found[0]


def fetch(
    url: str, path: Path, *, sha256: str | None, size: int | None = None, headers: Mapping[str, str] | None = None,
    title: str = "", silence: float | None = None,
) -> Path:  # fmt: skip
    """Download a file with a progress bar, unless it is there; of several processes one does, and the others wait.

    Args:
        url: of the file, http or https.
        path: where it goes.
        sha256: of the whole file, 64 hex digits; None: nobody knows, and a download starts from its beginning.
        size: in bytes; None: as the server says.
        headers: of the request.
        title: of the progress bar.
        silence: seconds; None: `SILENCE`.

    Returns:
        `path`, which is whole.

    Raises:
        NotFetched: when the server does not answer, does not have the file, falls silent, or sends another file.
        OSError: when it cannot be written.
    """
    silence = SILENCE if silence is None else silence
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        if path.is_file():
            return path
        part = path.with_name(f".{path.name}.part")
        if sha256 is None:
            part.unlink(missing_ok=True)
        resumed = part.is_file() and part.stat().st_size > 0
        with tqdm(total=size, desc=title, unit="B", unit_scale=True, delay=1) as bar:
            _receive(url, part, size, headers or {}, bar, silence)
            if wrong := _wrong(part, sha256, size):
                part.unlink()
                if resumed:
                    # What an earlier process left was of another file.
                    bar.reset()
                    _receive(url, part, size, headers or {}, bar, silence)
                    wrong = _wrong(part, sha256, size)
        if wrong:
            part.unlink(missing_ok=True)
            raise NotFetched(f"{url} is not the file expected ({wrong}), and was thrown away")
        part.replace(path)
    return path


def _receive(url: str, part: Path, size: int | None, headers: Mapping[str, str], bar: Any, silence: float) -> None:
    """Append to a part what it lacks; asks again as long as an answer brings something new, and is not silent again."""
    silent_at = -math.inf
    with part.open("ab") as file:
        bar.update(file.tell())
        while size is None or file.tell() < size:
            before, again = file.tell(), True
            try:
                total = _append(url, file, headers, bar, silence)
                if total is None or file.tell() >= total:
                    return
                reason = f"the connection ended after {file.tell()} of {total} bytes"
            except urllib.error.HTTPError as error:
                if error.code == 416 and before:
                    return  # there is nothing beyond what is here
                raise NotFetched(f"{url} answers {error.code} {error.reason}") from error
            except (OSError, http.client.HTTPException) as error:
                if full_disk(error):
                    raise
                cause = getattr(error, "reason", None) or error
                reason = " ".join(str(cause).split()) or type(cause).__name__
                if isinstance(cause, TimeoutError | NotFetched):
                    reason = f"no answer within {silence:g} s"
                    again, silent_at = time.monotonic() - silent_at > FORGIVEN, time.monotonic()
            if file.tell() <= before or not again:
                raise NotFetched(f"{url} cannot be read any further ({reason}, {file.tell()} bytes are here)")


def _append(url: str, file: IO[bytes], headers: Mapping[str, str], bar: Any, silence: float) -> int | None:
    """One answer of the server; how long the whole file is, or None where it does not say."""
    at = file.tell()
    wanted = {"Accept-Encoding": "identity", **headers} | ({"Range": f"bytes={at}-"} if at else {})
    request = urllib.request.Request(url, headers=wanted)
    with within(silence + 1, lambda: urllib.request.urlopen(request, timeout=silence)) as response:
        if at and response.status != 206:
            # It sends the file from its beginning, whatever it was asked for.
            file.seek(0)
            file.truncate()
            bar.reset()
            at = 0
        length = response.headers.get("Content-Length")
        total = None if length is None else at + int(length)
        bar.total = total
        while block := response.read1(BLOCK):
            file.write(block)
            bar.update(len(block))
        file.flush()
    return total


def _wrong(part: Path, sha256: str | None, size: int | None) -> str | None:
    """What is wrong with a file, or None."""
    if size is not None and part.stat().st_size != size:
        return f"{part.stat().st_size} bytes and not {size}"
    if sha256 is None:
        return None
    with part.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    return None if found == sha256.lower() else f"its SHA-256 is {found[:16]}… and not {sha256[:16].lower()}…"
