"""Whose answers are left out: rules and two tables in; the answers that stay, and how many each rule leaves out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from benchmark.study.analysing.reading import Answers
from benchmark.study.config import Exclusions
from featvis.errors import UserError


@dataclass(frozen=True)
class Excluded:
    """Who is left out.

    Attributes:
        by_rule: participants by the rule in words; somebody may break several.
        everyone: who breaks any.
        of: how many there were.
    """

    by_rule: dict[str, list[str]]
    everyone: list[str]
    of: int


def exclude(answers: Answers, rules: Exclusions) -> tuple[Answers, Excluded]:
    """Apply the rules; a number that is not known breaks none.

    Args:
        answers: as they were read.
        rules: see there.

    Raises:
        UserError: when nobody is left.

    Example:
        >>> import pandas as pd
        >>> from benchmark.study.analysing.exclusions import exclude
        >>> from benchmark.study.analysing.reading import Answers
        >>> from benchmark.study.config import Exclusions
        >>> rows = pd.DataFrame({"participant": ["a", "b"], "kind": "trial", "correct": [1, 0], "side": ""})
        >>> people = pd.DataFrame({"participant": ["a", "b"], "condition": "none", "instructions_s": [30.0, 5.0],
        ...                        "total_s": 300.0, "practice_rounds": 1})
        >>> exclude(Answers(rows, people), Exclusions())[1].everyone
        ['b']
    """
    people, rows = answers.people.set_index("participant"), answers.rows
    catch = rows[rows["kind"] == "catch"].groupby("participant")["correct"].mean()
    sides = rows[rows["side"].isin(["left", "right"])].groupby("participant")["side"].agg(["nunique", "size"])
    without = people.index.difference(rows.loc[rows["kind"] == "trial", "participant"].tolist())
    by_rule: dict[str, Iterable[object]] = {
        f"instructions under {rules.instructions_under:g} s": people.index[
            people["instructions_s"] < rules.instructions_under
        ],
        f"total under {rules.total_under:g} s": people.index[people["total_s"] < rules.total_under],
        f"total over {rules.total_over:g} s": people.index[people["total_s"] > rules.total_over],
        f"catch trials under {rules.catch_under:.0%}": catch.index[catch < rules.catch_under],
        f"more than {rules.practice_over} practice rounds": people.index[
            people["practice_rounds"] > rules.practice_over
        ],
        "one side only": sides.index[(sides["nunique"] == 1) & (sides["size"] > 1)] if rules.one_side else [],
        "no trial answered": without,
    }
    named = {rule: sorted(map(str, found)) for rule, found in by_rule.items()}
    everyone = sorted({who for found in named.values() for who in found})
    kept = Answers(
        rows[~rows["participant"].isin(everyone)].reset_index(drop=True),
        answers.people[~answers.people["participant"].isin(everyone)].reset_index(drop=True),
        answers.refused,
    )
    if kept.people.empty:
        worst = max(named, key=lambda rule: len(named[rule]))
        raise UserError(
            f"all {len(people)} participants are excluded, {len(named[worst])} of them by: {worst}; the rules can be "
            "changed with --rules, or exclude in the study's YAML"
        )
    return kept, Excluded(named, everyone, len(people))


def table(excluded: Excluded) -> pd.DataFrame:
    """The rules and how many participants each leaves out."""
    counts = [(rule, len(found)) for rule, found in excluded.by_rule.items()]
    return pd.DataFrame([*counts, ("any of these", len(excluded.everyone))], columns=["rule", "participants"])
