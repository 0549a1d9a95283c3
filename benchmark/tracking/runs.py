"""A run of Weights & Biases: its id, its start, and what becomes of a failure."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import sys
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from featvis.errors import UserError
from featvis.storage import images

PICTURES = 50
"""Of how many units a run logs the pictures: those of 500 units and five methods would be gigabytes."""


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
        own = json.loads(path.read_text(encoding="utf-8"))["identity"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        own = uuid.uuid4().hex
        images.write_atomic(path, json.dumps({"identity": own}).encode())
    return hashlib.sha256(json.dumps([own, *parts]).encode()).hexdigest()[:16]


def start(mode: Any, logs: Path, folder: Path, name: str, group: str, kind: str, config_hash: str | None = None) -> Any:
    """Start a W&B run, or go on with it; offline it needs no account.

    Args:
        mode: `offline` or `online`.
        logs: the folder that gets the folder `wandb`, unless WANDB_DIR names one.
        folder: whose run it is, see `run_id`.
        name: `<network>/<row>`.
        group: the suite.
        kind: `generate`, `score`, `table` or a command; W&B's job type.
        config_hash: of the generator.

    Raises:
        UserError: when Weights & Biases cannot start.
    """
    # What is printed stays out of W&B's hands: it would go on reading it when its own process is gone.
    settings = {"SILENT": "true", "ERROR_REPORTING": "false", "CONSOLE": "off"}
    # Without a limit the end of an online run waits for a lost network for ever.
    settings |= {"FINISH_TIMEOUT": "120", "FINISH_TIMEOUT_RAISES": "true"}
    # Files that wait to be sent lie with the run, not in the home folder.
    logs = Path(os.environ.get("WANDB_DIR") or logs)
    settings |= {"DATA_DIR": str((logs / "wandb").resolve())}
    for key, value in settings.items():
        os.environ.setdefault(f"WANDB_{key}", value)
    try:
        import wandb

        logs.mkdir(parents=True, exist_ok=True)
        return wandb.init(
            project=os.environ.get("WANDB_PROJECT") or "featvis", entity=os.environ.get("WANDB_ENTITY") or None,
            dir=str(logs), mode=mode, resume="allow",
            name=name, group=group, job_type=kind,
            id=run_id(folder, group, name, kind, config_hash or ""),
            tags=[tag[:64] for tag in dict.fromkeys((group, *name.split("/", 1)))],  # W&B refuses longer ones
        )  # fmt: skip
    except Exception as error:
        raise UserError(f"--wandb {mode}: Weights & Biases cannot start ({error}); use offline or disabled") from error


class Guard:
    """Calls what logs, its start too. The first failure is said in one sentence and ends the logging, nothing else."""

    def __init__(self, what: str) -> None:
        self.what, self.failed = what, False

    def __call__(self, action: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Do it, unless something has failed before; what it gives, or None."""
        if self.failed:
            return None
        try:
            return action(*args, **kwargs)
        except Exception as error:
            self.failed = True
            reason = " ".join(str(error).split()) or type(error).__name__
            print(f"featvis: {self.what} is not logged to Weights & Biases any further: {reason}", file=sys.stderr)
            # Now, for what W&B would do at the end of the process could be an exit code or a traceback.
            for end in ("finish", "teardown"):
                with suppress(Exception, SystemExit):
                    getattr(importlib.import_module("wandb"), end)(exit_code=1)
            return None
