"""Weights & Biases: what a run also logs there. No result depends on it, and nothing imports it until it is used.

A suite is a group; its runs carry the suite, the network and the row as tags. There is one run a generation
(`generate`: score curves and pictures), one a row of the table (`score`: its summary is a row of the leaderboard, so
W&B's list of runs sorts by any metric) and one a network (`table`: pictures side by side, all numbers, the records).

A run that is resumed has the id it had, see `run_id`. Online, W&B goes on with it. Offline, each start makes a folder
`offline-run-<time>-<id>` of its own. With wandb 0.31 these files say that they are to be resumed, and `wandb sync`
sends those of one id in the order of their start (its help says so; that one run comes of it could not be tried without
a server). Earlier versions let the second part replace the first (wandb's issue 3841). W&B's `_step` starts at 0 in
every part; the curves are drawn over `trainer/global_step`, the optimisation step.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger

from benchmark.records.record import Record, load_all
from benchmark.report.tables import frame, method_order
from benchmark.scoring.plan import Plan
from featvis.errors import UserError
from featvis.generators.callbacks import RunLogger
from featvis.storage import images

PICTURES = 50
"""Of how many units a run logs the pictures: those of 500 units and five methods would be gigabytes."""
FACTS = ("logit", "activation")
"""What the table of pictures shows of the facts that an image carries."""


def run_id(folder: Path, *parts: str) -> str:
    """The id of a W&B run, 16 hex digits: the same whenever it is resumed, another one for every other folder.

    The folder gets a random number of its own in `wandb.json`, so two people who run the same suite do not write into
    the same run. A folder that is copied takes its runs along.

    Args:
        folder: of the run; made where it is missing.
        parts: what the run is.
    """
    path = folder / "wandb.json"
    try:
        own = json.loads(path.read_text())["identity"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        own = uuid.uuid4().hex
        images.write_atomic(path, json.dumps({"identity": own}).encode())
    return hashlib.sha256(json.dumps([own, *parts]).encode()).hexdigest()[:16]


def start(mode: Any, logs: Path, folder: Path, name: str, group: str, kind: str, config_hash: str | None = None) -> Any:
    """Start a W&B run, or go on with it; offline it needs no account.

    Args:
        mode: `offline` or `online`.
        logs: the folder that gets the folder `wandb`.
        folder: whose run it is, see `run_id`.
        name: `<network>/<row>`.
        group: the suite.
        kind: `generate`, `score` or `table`; W&B's job type.
        config_hash: of the generator.

    Raises:
        UserError: when Weights & Biases cannot start.
    """
    # What is printed stays out of W&B's hands: it would go on reading it when its own process is gone.
    settings = {"SILENT": "true", "ERROR_REPORTING": "false", "CONSOLE": "off"}
    # Without a limit the end of an online run waits for a lost network for ever.
    settings |= {"FINISH_TIMEOUT": "120", "FINISH_TIMEOUT_RAISES": "true"}
    # Files that wait to be sent lie with the run, not in the home folder.
    settings |= {"DATA_DIR": str((logs / "wandb").resolve())}
    for key, value in settings.items():
        os.environ.setdefault(f"WANDB_{key}", value)
    try:
        import wandb

        logs.mkdir(parents=True, exist_ok=True)
        return wandb.init(
            project="featvis", dir=str(logs), mode=mode, resume="allow", name=name, group=group, job_type=kind,
            id=run_id(folder, group, name, kind, config_hash or ""),
            tags=[tag[:64] for tag in dict.fromkeys((group, *name.split("/", 1)))],  # W&B refuses longer ones
        )  # fmt: skip
    except Exception as error:
        raise UserError(f"--wandb {mode}: Weights & Biases cannot start ({error}); use offline or disabled") from error


class Guard:
    """Calls what logs. The first failure is said in one sentence and ends the logging, but nothing else."""

    def __init__(self, what: str) -> None:
        self.what, self.failed = what, False

    def __call__(self, action: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Do it, unless something has failed before."""
        if self.failed:
            return
        try:
            action(*args, **kwargs)
        except Exception as error:
            self.failed = True
            reason = " ".join(str(error).split()) or type(error).__name__
            print(f"featvis: {self.what} is not logged to Weights & Biases any further: {reason}", file=sys.stderr)
            import wandb

            # Now, for what W&B would do at the end of the process could be an exit code or a traceback.
            for end in (wandb.finish, wandb.teardown):
                with suppress(Exception, SystemExit):
                    end(exit_code=1)


class LenientLogger(WandbLogger):
    """Lightning's logger on a run that has started; its failures stay its own, and its pictures are limited."""

    def __init__(self, run: Any, guard: Guard, limit: int = PICTURES) -> None:
        super().__init__(experiment=run)
        self.guard, self.left = guard, limit

    def log_hyperparams(self, params: Any) -> None:
        """As Lightning does."""
        self.guard(super().log_hyperparams, params)

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """As Lightning does."""
        self.guard(super().log_metrics, metrics, step)

    def log_image(self, key: str, images: list[Any], step: int | None = None, **kwargs: Any) -> None:
        """As Lightning does, until the limit is reached."""
        n = min(self.left, len(images))
        self.left -= n
        if n:
            self.guard(super().log_image, key, images[:n], step, **{k: v[:n] for k, v in kwargs.items()})


class Logged(RunLogger):
    """Logs a generation, from the first process; starts when its folder is claimed: bad input leaves nothing behind."""

    def __init__(self, config: Any) -> None:
        self.config, self.guard, self.run = config, Guard(config["name"]), None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the Trainer its logger."""
        if not trainer.is_global_zero:
            return
        c, key = self.config, pl_module.config_hash()  # type: ignore[operator]
        run = start(c["wandb"], Path(c["logs"]), Path(c["out"]), c["name"], c["group"], "generate", key)
        self.run, trainer.loggers = run, [LenientLogger(run, self.guard)]
        self.guard(run.define_metric, "*", step_metric="trainer/global_step", step_sync=True)
        self.guard(run.config.update, {"pictures": f"at most {PICTURES}"}, allow_val_change=True)

    def teardown(self, trainer: Any, pl_module: Any, stage: str, code: int = 0) -> None:
        """End the run."""
        run, self.run = self.run, None
        if run is not None:
            self.guard(run.finish, exit_code=code)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """End the run as a failed one."""
        self.teardown(trainer, pl_module, "predict", code=1)


def log_scores(plan: Plan, limit: int = PICTURES) -> None:
    """Log every row of a scored suite, and the table of them; nothing when W&B is disabled.

    Args:
        plan: what was scored.
        limit: of how many units, the first ones, pictures are logged.

    Raises:
        UserError: when Weights & Biases cannot start. What fails later is said on standard error.
    """
    if plan.wandb == "disabled":
        return
    out, folder = Path(plan.out), Path(plan.out) / "records" / plan.model
    found = sorted((r for r in load_all(folder) if r.suite == plan.suite), key=lambda r: method_order(r.method))
    guard = Guard(f"the table of {plan.model}")
    run = start(plan.wandb, out, out / plan.model, f"{plan.model}/table", plan.suite, "table")
    guard(_log_table, run, plan, found, folder, limit)
    for record in found:
        guard(_log_row, plan, record)


def _log_row(plan: Plan, record: Record) -> None:
    """A run whose summary is a row of the leaderboard: each metric by its name, null where it is absent."""
    out, name = Path(plan.out), f"{plan.model}/{record.method}"
    run = start(plan.wandb, out, out / plan.model, name, plan.suite, "score", record.config_hash)
    facts = ("label", "higher_is_better", "absent")
    config: dict[str, Any] = {"metrics": {m.name: {k: getattr(m, k) for k in facts} for m in record.metrics}}
    config |= {k: v for k, v in record.to_dict().items() if k not in ("metrics", "units", "labels")}
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


def _log_table(run: Any, plan: Plan, found: Sequence[Record], folder: Path, limit: int) -> None:
    """All numbers, the pictures of the methods side by side, and the records as files."""
    import wandb

    config = {k: getattr(plan, k) for k in ("suite", "model", "units", "labels", "seed", "command", "failed")}
    pictures = f"of the first {min(limit, len(plan.units))} of {len(plan.units)} units"
    run.config.update(config | {"pictures": pictures}, allow_val_change=True)
    numbers = frame(found).astype(object)
    table = wandb.Table(dataframe=numbers.where(numbers.notna(), None))
    run.log({"table": table, "visualizations": _side_by_side(plan, found, limit)})
    artifact = wandb.Artifact(re.sub(r"[^\w.-]", "_", f"{plan.suite}-{plan.model}-records"), type="records")
    for path in sorted(folder.glob("*.json")):
        artifact.add_file(str(path), name=path.name)
    run.log_artifact(artifact)
    run.finish()


def _side_by_side(plan: Plan, found: Sequence[Record], limit: int) -> Any:
    """A W&B table: one row a unit; of each method its picture and those facts that its images carry."""
    import wandb

    shown = list(zip(plan.units, plan.labels, strict=True))[:limit]
    columns: dict[str, list[Any]] = {"unit": [unit for unit, _ in shown], "label": [label for _, label in shown]}
    for record in (r for r in found if r.images is not None):
        pictures, facts = columns.setdefault(record.method, []), []
        for unit, label in shown:
            path = Path(plan.out) / str(record.images) / f"{unit}.png"
            try:
                facts.append(images.read(path)[1])
                pictures.append(wandb.Image(str(path), caption=f"{unit} {label}"))
            except images.BadImage:
                facts.append({})
                pictures.append(None)
        carried = [k for k in FACTS if any(f.get(k) is not None for f in facts)]
        columns |= {f"{record.method}/{k}": [f.get(k) for f in facts] for k in carried}
    return wandb.Table(columns=list(columns), data=[list(row) for row in zip(*columns.values(), strict=True)])
