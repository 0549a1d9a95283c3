"""One person's participation: the JSON that the page sends, checked against the trials. No torch."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

from benchmark.records.schema import parse
from benchmark.study.trials import Trials
from featvis.errors import UserError

MOST_ID = 128


@dataclass(frozen=True)
class Answer:
    """One trial's.

    Attributes:
        trial: its id.
        choice: the side, as it was seen.
        confidence: 1 (a guess) to 3 (sure).
        ms: from the trial's appearance to the confidence.
    """

    trial: str
    choice: Literal["left", "right"]
    confidence: int
    ms: float


@dataclass(frozen=True)
class Participation:
    """What the page sends at the end.

    Attributes:
        study: its name.
        hash: of the trials.
        participant: an id that says nothing of the person but to the platform.
        condition: what was shown.
        instructions_ms: how long the instructions were looked at.
        total_ms: from the consent to the end, while the page was open.
        practice_rounds: how many were needed; one above the most allowed where they were not enough.
        answers: in the order in which they were given.
    """

    study: str
    hash: str
    participant: str
    condition: str
    instructions_ms: float
    total_ms: float
    practice_rounds: int
    answers: tuple[Answer, ...]


def check(data: Any, trials: Trials, source: str = "the answers") -> Participation:
    """Plain data as a participation in a study.

    Raises:
        UserError: for what is not one, with the first reason: a wrong form, another study, an unknown condition or
            trial, a trial twice, missing or out of order, a time of zero.
    """
    given: Participation = parse(Participation, data, source)
    who = f"{source}: participant {given.participant:.{MOST_ID}}"
    if not given.participant or len(given.participant) > MOST_ID or not given.participant.isprintable():
        raise UserError(f"{source}: participant must be a text of 1 to {MOST_ID} characters that can be printed")
    if given.hash != trials.hash:
        raise UserError(f"{who} answered another making of the study ({given.hash:.12}, not {trials.hash:.12})")
    if given.condition not in trials.conditions:
        raise UserError(f"{who} is in the condition {given.condition!r}, which the study does not have")
    last = trials.exclude["practice_over"] + 1
    if not 0 <= given.practice_rounds <= last:
        raise UserError(f"{who} has {given.practice_rounds} rounds of practice, of which there are at most {last}")
    _check_answers(given, trials, who)
    spent = sum(answer.ms for answer in given.answers)
    # The page rounds; and clocks of browsers are coarse.
    if given.instructions_ms < 0 or given.total_ms <= 0 or given.total_ms < spent - 100 * (1 + len(given.answers)):
        raise UserError(f"{who} has times that contradict each other")
    return given


def _check_answers(given: Participation, trials: Trials, who: str) -> None:
    ids = [answer.trial for answer in given.answers]
    expected = trials.order(given.participant)
    if unknown := [i for i in ids if i not in set(expected)]:
        raise UserError(f"{who} answered {unknown[0]!r:.40}, which is no trial of the study")
    if twice := [i for i, n in Counter(ids).items() if n > 1]:
        raise UserError(f"{who} answered {twice[0]} twice")
    # Whoever did not understand the task in practice is let go without a trial.
    if ids or given.practice_rounds <= trials.exclude["practice_over"]:
        if len(ids) != len(expected):
            raise UserError(f"{who} answered {len(ids)} of {len(expected)} trials")
        if ids != expected:
            at = next(i for i, (a, b) in enumerate(zip(ids, expected, strict=True)) if a != b)
            raise UserError(f"{who} answered out of order: trial {at + 1} is {expected[at]}, not {ids[at]}")
    for answer in given.answers:
        if answer.ms <= 0:
            raise UserError(f"{who} answered {answer.trial} in no time ({answer.ms:g} ms)")
        if not 1 <= answer.confidence <= 3:
            raise UserError(f"{who} is {answer.confidence} sure of {answer.trial}, not 1, 2 or 3")
