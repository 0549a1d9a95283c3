"""Answers in, from a database, JSON files or anyone's CSV; two tables out: answers and participants. No torch."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmark.study.answers import Participation, check
from benchmark.study.taking.store import export
from benchmark.study.trials import Trials
from featvis.errors import UserError

NEEDED = ("participant", "condition", "network", "unit", "correct")
OPTIONAL = {
    "trial": "", "kind": "trial", "choice": "", "side": "", "confidence": float("nan"), "ms": float("nan"),
    "instructions_s": float("nan"), "total_s": float("nan"), "practice_rounds": float("nan"),
}  # fmt: skip
NUMBERS = tuple(name for name, default in OPTIONAL.items() if not isinstance(default, str))
PERSON = ("participant", "condition", "instructions_s", "total_s", "practice_rounds")


@dataclass(frozen=True)
class Answers:
    """What was read.

    Attributes:
        rows: an answer each: participant, condition, network, unit, trial, kind (`trial` or `catch`), correct (0 or 1),
            choice (which query, whatever the side), side (as it was seen), confidence, ms.
        people: a participant each: condition, instructions_s, total_s, practice_rounds; NaN for what is not known.
        refused: what could not be taken, a sentence each.
    """

    rows: pd.DataFrame
    people: pd.DataFrame
    refused: tuple[str, ...] = ()


def read(path: Path, trials: Trials | None) -> Answers:
    """The answers of a file or folder.

    Args:
        path: a database of `featvis study serve`, a JSON file of one or several participations, a folder of such, or a
            CSV with the columns `NEEDED`.
        trials: of the study; needed for all but a CSV.

    Raises:
        UserError: when there is none, or a CSV lacks columns.
    """
    if path.suffix.lower() == ".csv":
        return of_table(path, trials)
    if trials is None:
        raise UserError(f"{path} can be read with the study's trials alone; name its folder with --study")
    if path.is_dir():
        files = sorted(path.glob("*.json"))
        given = [(f"{file.name}", item) for file in files for item in _json(file)]
    elif path.suffix.lower() == ".json":
        given = [(path.name, item) for item in _json(path)]
    else:
        given = [(path.name, item) for item in export(path)]
    if not given:
        raise UserError(f"{path} holds no answers; name a database, a JSON file or a folder of them, or a CSV")
    return of_participations(given, trials)


def _json(path: Path) -> list[Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not a JSON file ({error})") from error
    return data if isinstance(data, list) else [data]


def of_participations(given: Iterable[tuple[str, Any]], trials: Trials) -> Answers:
    """The tables of participations as the page sends them; what is no valid one is left out, with a sentence.

    Args:
        given: where each comes from, and its data.
        trials: of the study.
    """
    found: dict[str, Participation] = {}
    refused: list[str] = []
    spoiled: set[str] = set()
    for source, data in given:
        try:
            one = check(data, trials, source)
        except UserError as error:
            refused.append(str(error))
            continue
        before = found.setdefault(one.participant, one)
        if before != one:
            spoiled.add(one.participant)
            what = "in two conditions" if before.condition != one.condition else "twice, with different answers"
            refused.append(f"{source}: participant {one.participant} took part {what}, and is left out")
    kept = [one for name, one in found.items() if name not in spoiled]
    if not kept:
        why = f" ({refused[0]})" if refused else ""
        raise UserError(f"no participation can be used{why}")
    known = {t.id: t for t in trials.shown()}
    rows, people = [], []
    for one in kept:
        facts = (one.instructions_ms / 1000, one.total_ms / 1000, one.practice_rounds)
        people.append((one.participant, one.condition, *facts))
        for answer in one.answers:
            trial = known[answer.trial]
            correct = answer.choice == trials.right(trial, one.participant)
            choice = "most" if correct else "least"
            # As the trial has it, not as the participant saw it.
            stands = "left" if (choice == "most") == (trial.left == "most") else "right"
            rows.append(
                (one.participant, one.condition, trial.model, trial.unit, trial.id, trial.kind, int(correct), stands,
                 answer.choice, answer.confidence, answer.ms)
            )  # fmt: skip
    places = {name: i for i, name in enumerate([*trials.conditions, *trials.models])}
    rows.sort(key=lambda row: (places[row[1]], places[row[2]]))
    columns = [
        "participant", "condition", "network", "unit", "trial", "kind", "correct", "choice", "side", "confidence", "ms",
    ]  # fmt: skip
    return Answers(pd.DataFrame(rows, columns=columns), pd.DataFrame(people, columns=list(PERSON)), tuple(refused))


def of_table(path: Path, trials: Trials | None = None) -> Answers:
    """The same of a CSV, an answer a line; lines that cannot be are left out, with a sentence.

    Args:
        path: of the file.
        trials: of the study, where it is known: the column `trial`, if it is there, must name its trials.

    Raises:
        UserError: for columns that are missing, or where no line can be used.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}; name a CSV with the columns {', '.join(NEEDED)}")
    try:
        table = pd.read_csv(path, dtype={"participant": str, "unit": str, "condition": str, "network": str})
    except (ValueError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path} cannot be read as CSV ({' '.join(str(error).split())})") from error
    if missing := [name for name in NEEDED if name not in table]:
        raise UserError(f"{path} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}")
    table["correct"] = table["correct"].replace({"true": 1, "false": 0, "True": 1, "False": 0})
    table["correct"] = pd.to_numeric(table["correct"], errors="coerce")
    reasons = _reasons(table, trials)
    refused = [f"{path.name}, line {i}: {why}" for i, why in enumerate(reasons, 2) if why]
    table = table[reasons == ""].copy()
    for name, default in OPTIONAL.items():
        if name not in table:
            table[name] = pd.Series(default, index=table.index)
    for name in NUMBERS:
        known = pd.to_numeric(table[name], errors="coerce")
        lost = table.index[known.isna() & table[name].notna()]
        if len(lost):
            more = f", nor in {len(lost) - 1} other lines" * (len(lost) > 1)
            refused.append(
                f"{path.name}, line {lost[0] + 2}: {name} is no number ({str(table[name][lost[0]])!r:.40}){more}; "
                "taken for unknown"
            )
        table[name] = known.astype(float)
    if "catch" in table:
        table["kind"] = np.where(table["catch"].isin([1, True]), "catch", "trial")
    both = table.groupby("participant")["condition"].nunique()
    if spoiled := sorted(both.index[both > 1]):
        refused += [f"{path.name}: participant {who} is in two conditions, and is left out" for who in spoiled]
        table = table[~table["participant"].isin(spoiled)]
    if table.empty:
        raise UserError(f"{path} holds no answer that can be used" + (f" ({refused[0]})" if refused else ""))
    table["correct"] = table["correct"].astype(int)
    people = table.groupby("participant", sort=False)[list(PERSON[1:])].first().reset_index()
    return Answers(table, people, tuple(refused))


def _reasons(table: pd.DataFrame, trials: Trials | None) -> pd.Series:
    """Why each line of a table cannot be used; empty where it can."""
    missing = table[list(NEEDED)].isna().any(axis=1) | ~table["correct"].isin([0, 1])
    found = [(missing, "a value is missing, or correct is neither 0 nor 1")]
    if "trial" in table:
        named = table["trial"].notna()
        found.append((named & table.duplicated(["participant", "trial"]), "the participant has answered it before"))
        if trials is not None:
            known = [t.id for t in trials.shown()]
            found.append((named & ~table["trial"].isin(known), "the study has no such trial"))
    if "ms" in table:
        found.append((pd.to_numeric(table["ms"], errors="coerce") <= 0, "it was answered in no time"))
    return pd.Series(np.select([where for where, _ in found], [why for _, why in found], ""), index=table.index)


def tell(answers: Answers) -> None:
    """Say on standard error what could not be taken."""
    for text in answers.refused:
        print(f"featvis: {text}", file=sys.stderr)
