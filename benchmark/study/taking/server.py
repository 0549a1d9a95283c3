"""A small server for a lab: the page, conditions dealt out evenly, answers into SQLite. A Starlette application.

POST /api/start     {"participant": ID}     -> {"condition": NAME}
POST /api/answers   a participation         -> {"kept": true}, the same one again included
GET  /api/export    Authorization: Bearer TOKEN -> all participations
"""

from __future__ import annotations

import hmac
import json
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from benchmark.report.gallery import as_script
from benchmark.study import answers
from benchmark.study.taking import store
from benchmark.study.taking.publish import FOLDER
from benchmark.study.taking.store import Busy, Store
from benchmark.study.trials import Trials
from featvis.errors import UserError

MOST_BYTES = 512 * 1024
MOST_ADDRESSES = 10_000


class TooMany(Exception):
    """An address asks more often than it may."""


class Rate:
    """Requests that an address may still make: a bucket each that refills.

    Args:
        per_minute: requests.
    """

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self.left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, address: str, now: float) -> None:
        """Count one request.

        Raises:
            TooMany: when none is left.

        Example:
            >>> from benchmark.study.taking.server import Rate, TooMany
            >>> rate = Rate(1)
            >>> rate.take("here", 0.0)
            >>> try:
            ...     rate.take("here", 1.0)
            ... except TooMany:
            ...     print("too many")
            too many
            >>> rate.take("here", 61.0)
        """
        left, before = self.left.pop(address, (float(self.per_minute), now))
        left = min(float(self.per_minute), left + (now - before) * self.per_minute / 60)
        self.left[address] = (left - 1 if left >= 1 else left, now)
        if len(self.left) > MOST_ADDRESSES:
            self.left.popitem(last=False)
        if left < 1:
            raise TooMany


def application(
    trials: Trials, folder: Path, database: Path, token: str, per_minute: int = 600, wait: float = 10.0
) -> Starlette:
    """The server of a study.

    Args:
        trials: as they were made.
        folder: of the study, whose page is served.
        database: where the answers go.
        token: of the export.
        per_minute: requests of one address; a lab's machines may share one.
        wait: seconds to wait for the database.

    Raises:
        UserError: for a database that cannot be used.
    """
    kept = Store(database, trials.study, trials.hash, list(trials.conditions), wait)
    rate = Rate(per_minute)

    async def body(request: Request) -> Any:
        rate.take(request.client.host if request.client else "", time.monotonic())
        data = bytearray()
        async for chunk in request.stream():
            data += chunk
            if len(data) > MOST_BYTES:
                raise UserError(f"the answers are longer than {MOST_BYTES} bytes")
        try:
            return json.loads(bytes(data))
        except (ValueError, RecursionError) as error:
            raise UserError("what was sent is not JSON") from error

    async def start(request: Request) -> Response:
        data = await body(request)
        who = data.get("participant") if isinstance(data, dict) else None
        if not isinstance(who, str) or not 0 < len(who) <= answers.MOST_ID or not who.isprintable():
            raise UserError(f"participant must be a text of 1 to {answers.MOST_ID} characters that can be printed")
        return JSONResponse({"condition": await run_in_threadpool(kept.start, who)})

    async def take(request: Request) -> Response:
        given = answers.check(await body(request), trials)
        return JSONResponse({"kept": True, "new": await run_in_threadpool(kept.add, given)})

    async def export(request: Request) -> Response:
        rate.take(request.client.host if request.client else "", time.monotonic())
        said = request.headers.get("authorization", "")
        if not hmac.compare_digest(said.encode(), f"Bearer {token}".encode()):
            return JSONResponse({"error": "the token is missing or wrong"}, 401)
        return JSONResponse(await run_in_threadpool(store.export, database))

    async def where(request: Request) -> Response:
        told = {"start": "api/start", "answers": "api/answers"}
        return Response(as_script("STUDY_SERVER", told), media_type="text/javascript")

    async def refused(request: Request, error: Exception) -> Response:
        return JSONResponse({"error": str(error)}, 400)

    async def busy(request: Request, error: Exception) -> Response:
        return JSONResponse({"error": str(error)}, 503, {"Retry-After": "2"})

    async def too_many(request: Request, error: Exception) -> Response:
        return JSONResponse({"error": "too many requests; please wait a little"}, 429, {"Retry-After": "5"})

    app = Starlette(
        routes=[
            Route("/api/start", start, methods=["POST"]),
            Route("/api/answers", take, methods=["POST"]),
            Route("/api/export", export),
            Route("/server.js", where),
            Mount("/", StaticFiles(directory=folder / FOLDER, html=True)),
        ],
        exception_handlers={UserError: refused, Busy: busy, TooMany: too_many},
    )
    return app
