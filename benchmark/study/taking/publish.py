"""What people are sent: trials in, a static folder out that says nothing of the answers. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmark.report.gallery import as_script
from benchmark.study.config import Study
from benchmark.study.trials import Trial, Trials
from featvis.storage.images import write_atomic

PAGE = Path(__file__).parent / "page"
FILES = ("index.html", "study.css", "study.js")
FOLDER = "page"


def public(study: Study, trials: Trials) -> dict[str, Any]:
    """What the page must know: pictures by name, and of practice and example alone which is right."""
    shown = {name: study.conditions[name].shows for name in trials.conditions}
    return {
        "study": trials.study,
        "hash": trials.hash,
        "seed": trials.seed,
        "title": study.title,
        "consent": list(study.consent),
        "contact": study.contact,
        "minutes": study.minutes,
        "code": study.code,
        "back": study.back,
        "conditions": shown,
        "rounds": trials.exclude["practice_over"],
        # In the order of their ids: as they were made, sides alternate and catch trials come last.
        "trials": [_public(trial) for trial in sorted(trials.trials, key=lambda t: t.id)],
    }


def _public(trial: Trial) -> dict[str, Any]:
    sides = ("most", "least") if trial.left == "most" else ("least", "most")
    told = {
        "id": trial.id,
        "kind": trial.kind,
        "image": trial.pictures["image"],
        "left": trial.pictures[sides[0]],
        "right": trial.pictures[sides[1]],
        "references": {name: list(files) for name, files in trial.references.items()},
    }
    if trial.kind in ("practice", "example"):
        return told | {"answer": "left" if trial.left == "most" else "right"}
    # Whoever reads the page's source shall not find out which trials are the catch.
    return told | {"kind": "trial"}


def publish(study: Study, trials: Trials, out: Path) -> Path:
    """Write the page beside its pictures; the folder to put on any static host.

    Args:
        study: what its YAML says.
        trials: as they were made.
        out: the study's folder.
    """
    folder = out / FOLDER
    for name in FILES:
        write_atomic(folder / name, (PAGE / name).read_bytes())
    write_atomic(folder / "data.js", as_script("STUDY", public(study, trials)))
    write_atomic(folder / "server.js", as_script("STUDY_SERVER", {"answers": study.endpoint}))
    wanted = {p for t in trials.trials for p in (*t.pictures.values(), *(r for v in t.references.values() for r in v))}
    for path in (folder / "pictures").iterdir():
        if path.name not in wanted:
            path.unlink()  # of another making, or what a kill has left half-written
    return folder


def size(folder: Path) -> int:
    """Bytes of everything in a folder."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
