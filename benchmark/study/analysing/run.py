"""A study's answers, end to end: a file and rules in; tables, figure, page and records out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from benchmark.study.analysing import exclusions, numbers, reading, report
from benchmark.study.analysing.report import Table
from benchmark.study.config import Exclusions
from benchmark.study.trials import Trials
from featvis.errors import UserError

PAPER = (
    "Fel et al. 2023, figure 5: both MACOs above Olah, Olah not above no visualization; ViT harder than ResNet50 and "
    "VGG16"
)


@dataclass(frozen=True)
class Found:
    """What an analysis found.

    Attributes:
        proportions: see `numbers.proportions`.
        model: None where there are too few answers.
        why: there is no model; empty where there is one.
        agreement: see `numbers.agreement`.
        excluded: who was left out.
        refused: what could not be read.
    """

    proportions: pd.DataFrame
    model: numbers.Model | None
    why: str
    agreement: pd.DataFrame
    excluded: exclusions.Excluded
    refused: tuple[str, ...]


def analyse(answers: reading.Answers, rules: Exclusions) -> Found:
    """The numbers of a study.

    Args:
        answers: as they were read.
        rules: whose answers are left out.

    Raises:
        UserError: when nobody is left.
    """
    kept, excluded = exclusions.exclude(answers, rules)
    rows = kept.rows[kept.rows["kind"] == "trial"]
    model, why = None, ""
    try:
        model = numbers.model(rows)
    except UserError as error:
        why = str(error)
    return Found(numbers.proportions(rows), model, why, numbers.agreement(rows), excluded, answers.refused)


def write(
    found: Found, title: str, out: Path, command: str, trials: Trials | None = None,
    rules: Mapping[str, Mapping[str, float]] | None = None,
) -> Path:  # fmt: skip
    """Everything that people look at; the page.

    Args:
        found: see `analyse`.
        title: of the page.
        out: folder of `tables`, `figure5.png`, `report.html` and, where the trials are known, `records`.
        command: that makes it again.
        trials: of the study.
        rules: what observers reach that are no people, by name and network.
    """
    observers = rules or {}
    labels = trials.conditions if trials is not None else {}
    tables = _tables(found, labels, observers)
    report.write_tables(tables, out / "tables")
    simple = {name: by for name, by in observers.items() if "," not in name}
    report.figure5(found.proportions, labels, simple, out / "figure5.png")
    if trials is not None:
        report.write_records(found.proportions, trials, observers, command, len(found.excluded.everyone), out)
    stay = found.excluded.of - len(found.excluded.everyone)
    lead = [f"{stay} of {found.excluded.of} participants count; chance is 50 %."]
    return report.page(title, lead, _warnings(found, observers), tables, "figure5.png", out / "report.html")


def _warnings(found: Found, rules: Mapping[str, Mapping[str, float]]) -> list[str]:
    said = []
    if found.refused:
        said.append(f"{len(found.refused)} participations or answers could not be taken: {found.refused[0]} …")
    if found.why:
        said.append(f"There is no mixed model: {found.why}.")
    if found.model is not None and not found.model.fit.converged:
        said.append("The mixed model's fit did not converge; its numbers are not to be relied on.")
    if found.model is not None and found.model.saturated:
        cells = "; ".join(", ".join(cell) for cell in found.model.saturated)
        said.append(f"All answers are right, or all wrong, in: {cells}; contrasts with these are not to be relied on.")
    best = {name: max(by.values()) for name, by in rules.items() if "," not in name and by}
    if best and max(best.values()) >= 0.6:
        name = max(best, key=lambda key: best[key])
        said.append(
            f"The occluder gives answers away: the rule “{name}”, which sees no visualization, reaches "
            f"{best[name]:.0%} on a network. Compare conditions with each other, and not with chance."
        )
    return said


def _tables(found: Found, labels: Mapping[str, str], rules: Mapping[str, Mapping[str, float]]) -> list[Table]:
    tables = [
        Table("proportions", "Proportion correct", "With 95 % intervals from resampling participants.",
              report.named(found.proportions, labels), ("correct", "low", "high")),
    ]  # fmt: skip
    if found.model is not None:
        fit = found.model.fit
        deviations = ", ".join(f"{d:.2f}" for d in fit.deviations)
        about = (
            f"Logistic; random intercepts for participants and units (deviations {deviations} logits); Wald's tests."
        )
        tables.append(Table("tests", "Mixed model: tests", about, found.model.tests))
        about = (
            "Differences of logits, conditions averaged over networks and networks over conditions; p-values corrected "
            "by Holm's method within each family."
        )
        tables.append(Table("contrasts", "Mixed model: contrasts", about, report.named(found.model.contrasts, labels)))
    tables.append(
        Table("agreement", "Agreement between participants", "Cohen's kappa, mean over pairs of participants of a "
              "condition: 0 is chance, 1 the same choices.", report.named(found.agreement, labels))
    )  # fmt: skip
    tables.append(
        Table("exclusions", "Who is left out", "Participants that break each rule; somebody may break several.",
              exclusions.table(found.excluded))
    )  # fmt: skip
    if rules:
        data = pd.DataFrame([{"observer": name, **by} for name, by in rules.items()])
        about = "Rules that see where the occluder is and what it hides; networks that compare queries with references."
        tables.append(Table("observers", "Observers that are no people", about, data, tuple(data.columns[1:])))
    about = f"As the papers report it; other images, units and people. And: {PAPER}."
    tables.append(
        Table("literature", "What others found", about, report.literature(), ("correct", "margin"), text=True)
    )
    return tables
