"""The commands `featvis study serve` and `featvis study status`."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from featvis.errors import UserError


def serve(folder: str, host: str = "127.0.0.1", port: int = 8000, database: str | None = None, rate: int = 600) -> int:
    """Show a study to people in a lab, and keep their answers in SQLite, until Ctrl-C.

    The token of the export is what FEATVIS_STUDY_TOKEN says, else one that is made and printed.

    Args:
        folder: of the study, as `featvis study make` has made it.
        host: address to listen at; the default is this machine alone, 0.0.0.0 everyone who can reach it.
        port: to listen at.
        database: of the answers; default: answers.sqlite in the folder.
        rate: requests a minute that one address may make.
    """
    if not 0 < port < 65536:
        raise UserError(f"--port must be between 1 and 65535, not {port}")
    if rate < 1:
        raise UserError(f"--rate must be at least 1, not {rate}")
    from benchmark.study import trials

    found = trials.read(Path(folder))
    if not (Path(folder) / "page" / "index.html").is_file():
        raise UserError(f"{folder} holds no page; `featvis study make` makes it")
    try:
        import uvicorn

        from benchmark.study.taking import server, store
    except ImportError as error:
        raise UserError(f"the server needs the package {error.name}: pip install 'featvis[study]'") from error
    token = os.environ.get("FEATVIS_STUDY_TOKEN") or secrets.token_urlsafe(24)
    path = Path(database) if database else Path(folder) / store.FILE
    app = server.application(found, Path(folder), path, token, rate)
    print(f"study     http://{host}:{port}/ (participants: ?participant=ID, or ?PROLIFIC_PID=ID)")
    print(f"answers   {path}; export: /api/export with the header 'Authorization: Bearer {token}'", flush=True)
    uvicorn.run(app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=5)
    return 0


def status(folder: str, database: str | None = None) -> int:
    """Say how many people have started and finished a study, in each condition.

    Args:
        folder: of the study.
        database: of the answers; default: answers.sqlite in the folder.
    """
    from benchmark.study import trials
    from benchmark.study.taking import store

    found = trials.read(Path(folder))
    path = Path(database) if database else Path(folder) / store.FILE
    store.check_study(path, found.hash)
    counts = store.counts(path, list(found.conditions))
    width = max(len(name) for name in [*counts, "condition"])
    print(f"{'condition':{width}}  started  finished")
    for name, (started, done) in counts.items():
        print(f"{name:{width}}  {started:7}  {done:8}")
    print(f"{'all':{width}}  {sum(s for s, _ in counts.values()):7}  {sum(d for _, d in counts.values()):8}")
    return 0
