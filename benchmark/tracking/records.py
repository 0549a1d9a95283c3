"""Records, logged: a run each, whose summary is a row of the leaderboard, and the table of a network's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.records.record import Record, load_all
from benchmark.records.seen import seen
from benchmark.report.tables import frame, method_order
from benchmark.scoring.plan import Plan
from benchmark.tracking.content import Content, Figures, fill
from benchmark.tracking.runs import PICTURES, Guard, start
from featvis.storage import images

FACTS = ("logit", "activation")
"""What the table of pictures shows of the facts that an image carries."""


def log_scores(plan: Plan, limit: int = PICTURES, figures: Figures | None = None) -> None:
    """Log every row of a scored suite, and the table of them; nothing when W&B is disabled.

    Args:
        plan: what was scored.
        limit: of how many units, the first ones, pictures are logged.
        figures: further pictures, see `Content`.
    """
    if plan.wandb == "disabled":
        return
    found = [r for r in load_all(Path(plan.out) / "records" / plan.model) if r.suite == plan.suite]
    facts = {k: getattr(plan, k) for k in ("suite", "model", "units", "labels", "seed", "command", "failed")}
    _log_records(plan.wandb, Path(plan.out), found, facts, figures or {}, limit)


def log_study(mode: str, out: Path, suite: str, models: Sequence[str], figures: Sequence[Path] | None = None) -> None:
    """Log the records that a command has left in its folder, for each network; nothing when W&B is disabled.

    Args:
        mode: see `start`.
        out: the command's folder.
        suite: what its records call it.
        models: the aliases of its networks.
        figures: files of pictures; None: those of its folder `figures`.
    """
    if mode == "disabled":
        return
    figures = sorted((out / "figures").glob("*.png")) if figures is None else figures
    shown: dict[str, Path | np.ndarray] = {p.relative_to(out).as_posix(): p for p in figures}
    for model in models:
        found = [r for r in load_all(out / "records" / model) if r.suite == suite]
        units = {unit: label for r in found for unit, label in zip(r.units, r.labels, strict=True)}
        commands = list(dict.fromkeys(r.command for r in found if r.command))
        facts = {
            "suite": suite, "model": model, "units": list(units), "labels": list(units.values()),
            "command": commands if len(commands) > 1 else next(iter(commands), None),
        }  # fmt: skip
        _log_records(mode, out, found, facts, shown)


def _log_records(
    mode: str, out: Path, found: Sequence[Record], facts: dict[str, Any], figures: Figures,
    limit: int = PICTURES,
) -> None:  # fmt: skip
    """The table of a network's records, and a run each of them."""
    suite, model = facts["suite"], facts["model"]
    found = sorted(found, key=lambda r: method_order(r.method))
    guard = Guard(f"the table of {model}")
    run = guard(start, mode, out, out / model, f"{model}/table", suite, "table")
    guard(_log_table, run, out, found, facts, figures, limit)
    for record in found:
        guard(_log_row, mode, out, record)


def _log_row(mode: str, out: Path, record: Record) -> None:
    """A run whose summary is a row of the leaderboard: each metric by its name, null where it is absent."""
    name = f"{record.alias}/{record.method}"
    run = start(mode, out, out / record.alias, name, record.suite, "score", record.config_hash)
    facts = ("label", "higher_is_better", "absent")
    config: dict[str, Any] = {"metrics": {m.name: {k: getattr(m, k) for k in facts} for m in record.metrics}}
    config |= {k: v for k, v in record.to_dict().items() if k not in ("metrics", "units", "labels")}
    config["sees"] = seen(record)
    run.config.update(config, allow_val_change=True)
    passes = record.budget.passes_per_image if record.budget else None
    row: dict[str, Any] = {"n": record.n, "seconds_per_image": record.seconds_per_image, "passes_per_image": passes}
    done = record.status == "done"  # as in our own tables, the numbers of a row that failed do not compete
    for m in record.metrics:
        # wandb has no argument for the goal: which of the values counts, and the config, say the direction.
        run.define_metric(m.name, summary="max" if m.higher_is_better else "min")
        low, high = (m.interval if done else None) or (None, None)
        row |= {m.name: m.value if done else None, f"{m.name}/low": low, f"{m.name}/high": high}
    # Into the summary and not the history, of which W&B would make `<metric>.max` instead of the plain name.
    run.summary.update(row)
    run.finish()


def _log_table(
    run: Any, out: Path, found: Sequence[Record], facts: dict[str, Any], figures: Figures,
    limit: int,
) -> None:  # fmt: skip
    """All numbers, the pictures of the methods side by side, the figures, and the records as files."""
    units = list(zip(facts["units"], facts["labels"], strict=True))
    content = Content(
        config=facts | {"pictures": f"of the first {min(limit, len(units))} of {len(units)} units"},
        tables={"table": frame(found), "visualizations": _side_by_side(out, found, units[:limit])},
        figures=figures,
        files=[r.record_path(out) for r in found],
    )
    fill(run, content, f"{facts['suite']}-{facts['model']}-records", "records")


def _side_by_side(out: Path, found: Sequence[Record], units: Sequence[tuple[str, str]]) -> Any:
    """A W&B table: one row a unit; of each method its picture and those facts that its images carry."""
    import wandb

    columns: dict[str, list[Any]] = {"unit": [unit for unit, _ in units], "label": [label for _, label in units]}
    for record in (r for r in found if r.images is not None):
        pictures, facts = columns.setdefault(record.method, []), []
        for unit, label in units:
            path = out / str(record.images) / f"{unit}.png"
            try:
                facts.append(images.read(path)[1])
                pictures.append(wandb.Image(str(path), caption=f"{unit} {label}"))
            except images.BadImage:
                facts.append({})
                pictures.append(None)
        carried = [k for k in FACTS if any(f.get(k) is not None for f in facts)]
        columns |= {f"{record.method}/{k}": [f.get(k) for f in facts] for k in carried}
    return wandb.Table(columns=list(columns), data=[list(row) for row in zip(*columns.values(), strict=True)])
