"""Downloads, from a server on the loopback: whole, resumed, checked, refused; and silence, which costs seconds."""

from __future__ import annotations

import hashlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from servers import Served, serving

from featvis.storage import fetch as fetching
from featvis.storage.fetch import NotFetched, fetch, within

DATA = bytes(range(256)) * 4096
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def server():
    with serving() as served:
        served.files["/file.bin"] = DATA
        yield served


def part(folder: Path) -> Path:
    return folder / ".file.bin.part"


def get(server: Served, folder: Path, sha256: str | None = SHA256, **options) -> Path:
    return fetch(f"{server.url}/file.bin", folder / "file.bin", sha256=sha256, **{"silence": 120.0} | options)


def test_a_file_is_fetched_once(server, tmp_path):
    assert get(server, tmp_path / "new" / "folder").read_bytes() == DATA
    assert get(server, tmp_path / "new" / "folder").read_bytes() == DATA
    assert server.gets() == [None]
    assert not part(tmp_path / "new" / "folder").exists()


def test_what_is_interrupted_goes_on_where_it_was(server, tmp_path):
    server.cut = [1000, 5000]
    assert get(server, tmp_path).read_bytes() == DATA
    assert server.gets() == [None, "bytes=1000-", "bytes=6000-"]


def test_a_server_without_ranges_sends_the_whole_again(server, tmp_path):
    server.cut, server.ranges = [1000], False
    assert get(server, tmp_path).read_bytes() == DATA
    assert server.gets() == [None, "bytes=1000-"]


@pytest.mark.parametrize("sha256", [SHA256, None])
def test_what_a_killed_process_left_is_gone_on_with_where_it_can_be_checked(server, tmp_path, sha256):
    part(tmp_path).write_bytes(DATA[:70000])
    assert get(server, tmp_path, sha256).read_bytes() == DATA
    assert server.gets() == ["bytes=70000-" if sha256 else None]


@pytest.mark.parametrize("left", [b"of another file", DATA + b"and more"])
def test_what_is_left_of_another_file_costs_a_second_download(server, tmp_path, left):
    part(tmp_path).write_bytes(left)
    assert get(server, tmp_path).read_bytes() == DATA


def test_a_file_that_was_whole_when_its_process_died_is_only_checked(server, tmp_path):
    part(tmp_path).write_bytes(DATA)
    assert get(server, tmp_path, size=len(DATA)).read_bytes() == DATA
    assert server.asked == []


def test_another_file_is_thrown_away(server, tmp_path):
    server.files["/file.bin"] = DATA[:-1] + b"!"
    with pytest.raises(NotFetched, match="not the file expected.*SHA-256"):
        get(server, tmp_path)
    with pytest.raises(NotFetched, match=f"{len(DATA)} bytes and not 7"):
        get(server, tmp_path, None, size=7)
    assert not list(tmp_path.glob("*file.bin*t"))
    assert not (tmp_path / "file.bin").exists()


def test_a_server_that_breaks_off_again_and_again_without_a_byte_is_given_up(server, tmp_path):
    server.cut = [3000, 0]
    with pytest.raises(NotFetched, match="cannot be read any further.*3000 bytes are here"):
        get(server, tmp_path)
    assert part(tmp_path).read_bytes() == DATA[:3000], "what has arrived stays"


@pytest.mark.parametrize(("status", "text"), [(404, "404"), (401, "401"), (503, "503")])
def test_an_error_of_the_server_is_told(server, tmp_path, status, text):
    server.status = status
    with pytest.raises(NotFetched, match=f"file.bin answers {text}"):
        get(server, tmp_path)


@pytest.mark.parametrize("silent", ["GET", "BODY"])
def test_silence_costs_seconds(server, tmp_path, silent):
    server.silent = (silent,)
    start = time.monotonic()
    with pytest.raises(NotFetched, match="no answer within 0.5 s"):
        get(server, tmp_path, silence=0.5)
    # Two patiences or three, however slow the machine: a server that is waited for keeps silent for longer.
    assert time.monotonic() - start < 300


def test_nobody_there(tmp_path):
    with serving() as server:
        pass
    with pytest.raises(NotFetched, match="cannot be read any further.*refused"):
        get(server, tmp_path)


def test_of_several_processes_one_fetches(server, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: get(server, tmp_path), range(4)))
    assert {p.read_bytes() for p in found} == {DATA}
    assert server.gets() == [None]


def test_a_full_disk_is_not_taken_for_the_network(server, tmp_path, monkeypatch):
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetching, "_append", full)
    with pytest.raises(OSError, match="No space left") as caught:
        get(server, tmp_path)
    assert not isinstance(caught.value, NotFetched)


def test_within_waits_no_longer():
    over = threading.Event()
    with pytest.raises(NotFetched, match="no answer within 0.1 s"):
        within(0.1, lambda: over.wait(60))
    over.set()
    assert within(30.0, lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        within(30.0, lambda: 1 // 0)
