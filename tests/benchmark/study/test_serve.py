"""The server: no answer lost or doubled, conditions even, and what it refuses."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from commands import ROOT, check_sentence
from small_study import participation, small_study

from benchmark.cli import main

pytest.importorskip("starlette", reason="needs starlette (pip install 'featvis[study]')")
from starlette.testclient import TestClient

from benchmark.study.answers import Participation, check
from benchmark.study.taking import store
from benchmark.study.taking.server import MOST_BYTES, application
from benchmark.study.taking.store import FILE, Busy, Store, export
from featvis.errors import UserError

TOKEN = "secret"


@pytest.fixture
def lab(tmp_path):
    _, trials = small_study(tmp_path)
    app = application(trials, tmp_path, tmp_path / FILE, TOKEN, per_minute=10_000, wait=0.2)
    with TestClient(app) as client:
        yield client, trials, tmp_path


def test_the_page_and_where_its_answers_go(lab):
    client, trials, _ = lab
    assert "<main" in client.get("/").text
    assert trials.hash in client.get("/data.js").text
    assert "api/answers" in client.get("/server.js").text
    assert client.get("/pictures/near0-image.webp").headers["content-type"] == "image/webp"
    for hidden in ("/trials.json", "/answers.sqlite", "/../trials.json", "/%2e%2e/trials.json"):
        assert client.get(hidden).status_code == 404, "the answers are nobody's to read"


def test_conditions_are_dealt_out_evenly_and_stay(lab):
    client, trials, _ = lab
    dealt = {f"p{i}": client.post("/api/start", json={"participant": f"p{i}"}).json()["condition"] for i in range(31)}
    counts = Counter(dealt.values())
    assert set(counts) == set(trials.conditions)
    assert max(counts.values()) - min(counts.values()) <= 1
    again = {who: client.post("/api/start", json={"participant": who}).json()["condition"] for who in dealt}
    assert again == dealt


def test_who_does_not_end_is_waited_for_so_long_and_no_longer(tmp_path, monkeypatch):
    """Those who have started count for the patience's time, those who have ended for ever."""
    now = 0.0
    monkeypatch.setattr(store, "time", SimpleNamespace(time=lambda: now))
    kept = Store(tmp_path / FILE, "study", "hash", ["a", "b"], patience=100.0)
    assert kept.start("ann") == "a"
    now = 50.0
    assert kept.start("bob") == "b"
    assert kept.add(Participation("study", "hash", "bob", "b", 1.0, 1.0, 1, ()))
    now = 99.0
    assert [kept.start(who) for who in ("cyd", "dan")] == ["a", "b"]
    # Of two in either, ann is no longer waited for.
    now = 101.0
    assert [kept.start(who) for who in ("eve", "fay")] == ["a", "a"]
    # Of all those, bob alone has ended.
    now = 500.0
    assert [kept.start(who) for who in ("gus", "hal")] == ["a", "a"]
    assert kept.start("ann") == "a", "whoever comes back is where they were"


def test_the_same_answers_again_are_kept_once_and_others_are_refused(lab):
    client, trials, folder = lab
    condition = client.post("/api/start", json={"participant": "ann"}).json()["condition"]
    given = participation(trials, "ann", condition)
    assert client.post("/api/answers", json=given).json() == {"kept": True, "new": True}
    assert client.post("/api/answers", json=given).json() == {"kept": True, "new": False}
    other = client.post("/api/answers", json=participation(trials, "ann", condition, share=0.5))
    assert other.status_code == 400
    assert "has taken part already" in other.json()["error"]
    elsewhere = client.post(
        "/api/answers", json=given | {"condition": next(c for c in trials.conditions if c != condition)}
    )
    assert "was in the condition" in elsewhere.json()["error"]
    assert export(folder / FILE) == [json.loads(json.dumps(given))]


def test_what_is_too_large_or_no_participation_is_refused_in_a_sentence(lab):
    client, trials, _ = lab
    cases = {
        "not JSON": b"{",
        "longer than": b" " * (MOST_BYTES + 1),
        "must be an object": b"[1]",
        "no trial of the study": json.dumps(
            participation(trials, "ann") | {"answers": [{"trial": "x", "choice": "left", "confidence": 1, "ms": 1.0}]}
        ).encode(),
    }
    for words, body in cases.items():
        reply = client.post("/api/answers", content=body)
        assert reply.status_code == 400
        assert words in reply.json()["error"]
    assert client.post("/api/start", json={"participant": 3}).status_code == 400
    assert client.get("/api/start").status_code in (404, 405)


def test_the_export_needs_the_token(lab):
    client, trials, _ = lab
    client.post("/api/answers", json=participation(trials, "ann"))
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}):
        assert client.get("/api/export", headers=headers).status_code == 401
    assert [
        p["participant"] for p in client.get("/api/export", headers={"Authorization": f"Bearer {TOKEN}"}).json()
    ] == ["ann"]


def test_an_address_that_asks_too_often_is_told_to_wait(tmp_path):
    _, trials = small_study(tmp_path)
    with TestClient(application(trials, tmp_path, tmp_path / FILE, TOKEN, per_minute=3)) as client:
        codes = [client.post("/api/start", json={"participant": "ann"}).status_code for _ in range(5)]
    assert codes == [200, 200, 200, 429, 429]


def test_a_database_that_is_locked_or_full_loses_nothing(lab):
    client, trials, folder = lab
    given = participation(trials, "ann")
    with sqlite3.connect(folder / FILE, isolation_level=None) as db:
        db.execute("begin immediate")
        reply = client.post("/api/answers", json=given)
        assert reply.status_code == 503
        assert "cannot be written now" in reply.json()["error"]
        db.execute("rollback")
    assert client.post("/api/answers", json=given).json()["new"]
    store = Store(folder / FILE, trials.study, trials.hash, list(trials.conditions))
    pages = []
    opened = store._open

    @contextmanager
    def small():
        with opened() as db:
            pages.append(db.execute("pragma page_count").fetchone()[0])
            db.execute(f"pragma max_page_count = {pages[0]}")
            yield db

    store._open = small

    def fill() -> None:
        for i in range(200):
            store.add(check(participation(trials, f"b{i}"), trials))

    with pytest.raises(Busy, match="is full; nothing is lost"):
        fill()
    assert export(folder / FILE)[0]["participant"] == "ann"


def test_a_file_that_is_no_database_or_of_another_study_is_refused(tmp_path, capsys):
    _, trials = small_study(tmp_path / "a")
    small_study(tmp_path / "b", seed=1)
    (tmp_path / "text.sqlite").write_text("no database " * 100)
    args = ["study", "status", str(tmp_path / "a"), "--database", str(tmp_path / "text.sqlite")]
    check_sentence(main(args), capsys.readouterr().err, ["text.sqlite", "cannot be read as a database"])
    check_sentence(main(["study", "status", str(tmp_path / "a")]), capsys.readouterr().err, ["there is no database"])
    Store(tmp_path / "a.sqlite", trials.study, trials.hash, list(trials.conditions))
    before = (tmp_path / "a.sqlite").read_bytes()
    args = ["study", "status", str(tmp_path / "b"), "--database", str(tmp_path / "a.sqlite")]
    check_sentence(main(args), capsys.readouterr().err, ["another making of the study"])
    assert (tmp_path / "a.sqlite").read_bytes() == before
    with pytest.raises(UserError, match="another making"):
        Store(tmp_path / "a.sqlite", "small", "0" * 64, list(trials.conditions))
    # Whoever named the wrong one has spoiled nothing.
    assert main(["study", "status", str(tmp_path / "a"), "--database", str(tmp_path / "a.sqlite")]) == 0


# --- two hundred at once ----------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def serve(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """A server in a process of its own; it does without PyTorch, so it starts quickly."""
    command = ["-m", "benchmark", "study", "serve", str(folder), "--port", str(port), "--rate", "1000000"]
    process = subprocess.Popen(
        [sys.executable, *command], cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL
    )
    for _ in range(6000):
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return process
        except OSError:
            assert process.poll() is None, "the server ended"
            time.sleep(0.1)
    raise AssertionError("the server does not answer")


async def take_part(client: httpx.AsyncClient, trials, who: str, acknowledged: set[str], dealt: dict[str, str]) -> None:
    """As the page does it: again and again until it is taken."""
    for path in ("/api/start", "/api/answers"):
        # A server that starts, or has two hundred to answer, may take minutes on a machine with other work.
        until = time.monotonic() + 600
        while time.monotonic() < until:
            data = {"participant": who} if path == "/api/start" else participation(trials, who, dealt[who])
            try:
                reply = await client.post(path, json=data)
            except httpx.HTTPError:
                await asyncio.sleep(0.1)
                continue
            if reply.status_code == 200:
                break
            assert reply.status_code == 503, reply.text
            await asyncio.sleep(0.1)
        else:
            raise AssertionError(f"{who} was never taken")
        if path == "/api/start":
            assert dealt.setdefault(who, reply.json()["condition"]) == reply.json()["condition"]
    acknowledged.add(who)


def test_two_hundred_people_at_once_and_a_server_that_is_killed(tmp_path, capsys):
    _, trials = small_study(tmp_path)
    port = free_port()
    acknowledged: set[str] = set()
    dealt: dict[str, str] = {}
    processes = [serve(tmp_path, port)]

    async def everyone() -> set[str]:
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", timeout=60, limits=limits, trust_env=False
        ) as client:
            tasks = [asyncio.create_task(take_part(client, trials, f"p{i}", acknowledged, dealt)) for i in range(200)]
            while len(acknowledged) < 60:
                await asyncio.sleep(0.01)
                for task in tasks:
                    if task.done():
                        task.result()  # whoever gave up says why, and nobody waits for the others
            processes[0].send_signal(signal.SIGKILL)
            processes[0].wait()
            before = set(acknowledged)
            there = {p["participant"] for p in export(tmp_path / FILE)}
            assert before <= there, "an answer that was acknowledged is lost"
            assert len(before) < 200, "it was killed too late to say anything"
            processes.append(await asyncio.to_thread(serve, tmp_path, port))
            await asyncio.gather(*tasks)
        return before

    try:
        asyncio.run(everyone())
    finally:
        for process in processes:
            if process.poll() is None:
                process.terminate()
                process.wait(20)
    found = export(tmp_path / FILE)
    assert sorted(p["participant"] for p in found) == sorted(f"p{i}" for i in range(200))
    for one in found:
        assert one == json.loads(json.dumps(participation(trials, one["participant"], dealt[one["participant"]])))
    counts = Counter(dealt.values())
    assert max(counts.values()) - min(counts.values()) <= 1, counts
    assert main(["study", "status", str(tmp_path)]) == 0
    told = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert told == [[c, str(counts[c]), str(counts[c])] for c in trials.conditions] + [["all", "200", "200"]]
