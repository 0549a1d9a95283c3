"""Servers on the loopback, as clients meet them in the world: whole answers, cut-off ones, ranges, logins, silence."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Served:
    """What a server has, and what it does.

    Attributes:
        files: bytes by path.
        headers: further ones of a path.
        cut: how many bytes of the body each answer to a GET carries before the connection ends; None or used up: all.
        ranges: whether it answers a Range with a part.
        silent: it takes requests of these methods, and says nothing; `BODY` for a GET that falls silent after the
            first half.
        status: an error of every path, with the headers `error`.
        elsewhere: where a path is redirected to.
        tokens: the header Authorization of every request so far.
        asked: method, path and Range of every request so far.
        url: of the server.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    cut: list[int | None] = field(default_factory=list)
    ranges: bool = True
    silent: tuple[str, ...] = ()
    status: int | None = None
    error: dict[str, str] = field(default_factory=dict)
    elsewhere: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)
    url: str = ""

    def gets(self) -> list[str | None]:
        """The Range of every GET of a file so far; the hub's client asks its API for other things too."""
        return [part for method, path, part in self.asked if method == "GET" and not path.startswith("/api/")]

    def hub(self, repository: str, name: str, data: bytes, sha256: str | None = None) -> None:
        """Serve a file as the Hugging Face hub does: its SHA-256 is the ETag of the linked file."""
        path = f"/{repository}/resolve/main/{name}"
        etag = sha256 or hashlib.sha256(data).hexdigest()
        self.files[path] = data
        self.headers[path] = {"ETag": f'"{etag}"', "X-Linked-Size": str(len(data)), "X-Linked-Etag": f'"{etag}"'}


COMMIT = "0123456789abcdef0123456789abcdef01234567"


def handler(served: Served, over: threading.Event) -> type[BaseHTTPRequestHandler]:
    """A handler of requests."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            """Nothing on the terminal."""

        def do_HEAD(self) -> None:
            self.answer("HEAD")

        def do_GET(self) -> None:
            self.answer("GET")

        def answer(self, method: str) -> None:
            asked = self.headers.get("Range")
            served.asked.append((method, self.path, asked))
            served.tokens.append(self.headers.get("Authorization"))
            if method in served.silent:
                over.wait(60)
                return
            data = served.files.get(self.path)
            if served.status is not None or data is None:
                self.send_response(served.status or 404)
                error = served.error or {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}
                for key, value in error.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if self.path in served.elsewhere:
                self.send_response(302)
                for key, value in served.headers[self.path].items():
                    self.send_header(key, value)
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("Location", served.elsewhere[self.path])
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and served.ranges else 0
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(data) - start))
            self.send_header("X-Repo-Commit", COMMIT)
            for key, value in served.headers.get(self.path, {}).items():
                self.send_header(key, value)
            self.end_headers()
            if method == "HEAD":
                return
            end = served.cut.pop(0) if served.cut else None
            body = data[start:] if end is None else data[start : start + end]
            if "BODY" in served.silent:
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                over.wait(60)
                return
            self.wfile.write(body)

    return Handler


@contextmanager
def serving() -> Iterator[Served]:
    """A server on the loopback for the block."""
    served, over = Served(), threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(served, over))
    server.daemon_threads = True
    served.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        over.set()
        server.shutdown()
        server.server_close()
