"""Weights & Biases: what a command also logs there. No result depends on it, and nothing imports it until it is used.

A suite is a group, and so are the commands beside it, by their names; their runs carry the group, the network and the
row as tags. There is one run a generation (`generate`: score curves and pictures), one a record, which is a row of a
table (`score`: its summary is a row of the leaderboard, so W&B's list of runs sorts by any metric) and one a network
(`table`: pictures side by side, figures, all numbers, the records). A command without records is a run by itself, of
the command's name.

What fails, the start of a run or what is sent, is said in one sentence on standard error and changes no exit code: by
then there is work that is worth more. That there is no account is found out before anything is made
(`benchmark.arguments.wandb_mode`).

W&B's own variables hold where no flag says otherwise: WANDB_MODE (`benchmark.arguments.wandb_mode`), WANDB_PROJECT,
WANDB_ENTITY and WANDB_DIR.

A run that is resumed has the id it had, see `run_id`. Online, W&B goes on with it. Offline, each start makes a folder
`offline-run-<time>-<id>` of its own. With wandb 0.31 these files say that they are to be resumed, and `wandb sync`
sends those of one id in the order of their start (its help says so; that one run comes of it could not be tried without
a server). Earlier versions let the second part replace the first (wandb's issue 3841). W&B's `_step` starts at 0 in
every part; the curves are drawn over `trainer/global_step`, the optimisation step.
"""

from __future__ import annotations

from benchmark.tracking.content import Content, log_command
from benchmark.tracking.generation import Logged
from benchmark.tracking.records import log_scores, log_study
from benchmark.tracking.reference import log_reference

__all__ = ["Content", "Logged", "log_command", "log_reference", "log_scores", "log_study"]
