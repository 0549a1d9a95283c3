"""What people read of a study: tables in three formats, figure 5, a page, and a record a condition and network."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import yaml
from tabulate import tabulate

from benchmark.records.record import Measurement, Record, units_hash
from benchmark.records.schema import FILE_NAME, as_file_name
from benchmark.report.drawing import figure_of, save, tidy
from benchmark.scoring.recording import git_commit
from benchmark.study.trials import Trials
from featvis.storage.images import write_atomic
from featvis.storage.versions import versions

HERE = Path(__file__).parent
COLOURS = ("#0b62a8", "#c2571a", "#3f7d4e", "#8a4a9e", "#a08a1c", "#4c5a67")


@dataclass(frozen=True)
class Table:
    """A table of the report.

    Attributes:
        name: of its files.
        heading: of its section.
        about: what it says, in a sentence or two.
        data: its numbers.
        percent: columns that are shares.
        text: whether it is of words rather than of numbers.
    """

    name: str
    heading: str
    about: str
    data: pd.DataFrame
    percent: tuple[str, ...] = ()
    text: bool = False

    def shown(self) -> pd.DataFrame:
        """The table as people read it."""
        told = self.data.copy().astype(object)
        for column in told:
            told[column] = [self._cell(str(column), value) for value in self.data[column]]
        return told.rename(columns={"odds_ratio": "odds ratio"})

    def _cell(self, column: str, value: Any) -> str:
        if isinstance(value, str):
            return value
        if value is None or math.isnan(value):
            return "–"
        if column in self.percent:
            return f"{100 * value:.1f} %"
        if column in ("p", "holm"):
            return "< .001" if value < 0.001 else f"{value:.3f}"
        return str(int(value)) if float(value).is_integer() and column != "chi2" else f"{value:.2f}"


def write_tables(tables: Sequence[Table], folder: Path) -> None:
    """Each table as CSV (all digits), Markdown and LaTeX (as it is read)."""
    for table in tables:
        write_atomic(folder / f"{table.name}.csv", table.data.to_csv(index=False).encode())
        shown = table.shown()
        rows, heads = shown.to_numpy().tolist(), [str(name) for name in shown]
        for ending, kind in (("md", "github"), ("tex", "latex_booktabs")):
            text = tabulate(rows, heads, tablefmt=kind, disable_numparse=True)
            write_atomic(folder / f"{table.name}.{ending}", f"{text}\n".encode())


def literature() -> pd.DataFrame:
    """What others measured: who, shown, task, correct, margin."""
    found = yaml.safe_load((HERE / "literature.yaml").read_text(encoding="utf-8"))
    return pd.DataFrame(found)[["who", "shown", "task", "correct", "margin"]]


def figure5(
    table: pd.DataFrame, labels: Mapping[str, str], rules: Mapping[str, Mapping[str, float]], path: Path
) -> Path:
    """Figure 5 of Fel et al. 2023: the proportion correct by condition, a panel a network, then all.

    Args:
        table: of `numbers.proportions`.
        labels: of the conditions.
        rules: what observers without a visualization reach, by name and network; drawn as lines.
        path: of the figure.
    """
    networks = list(dict.fromkeys(table["network"]))
    if len(networks) == 2:
        networks = networks[:1]  # one network: all of them is the same
    conditions = list(dict.fromkeys(table["condition"]))
    figure = figure_of(1.1 + 2.3 * len(networks), 3.7)
    axes = figure.subplots(1, len(networks), sharey=True, squeeze=False)[0]
    for axis, network in zip(axes, networks, strict=True):
        tidy(axis)
        axis.axhline(0.5, color="#8A8A8A", linewidth=0.8, linestyle=(0, (4, 3)))
        for condition, colour in zip(conditions, COLOURS * len(conditions), strict=False):
            part = table[(table["condition"] == condition) & (table["network"] == network)]
            if part.empty:
                continue
            x, row = conditions.index(condition), part.iloc[0]
            if math.isfinite(row["low"]):
                axis.plot([x, x], [row["low"], row["high"]], color=colour, linewidth=2, solid_capstyle="round")
            axis.plot([x], [row["correct"]], "o", color=colour, markersize=7)
            top = row["high"] if math.isfinite(row["high"]) else row["correct"]
            axis.annotate(
                f"{100 * row['correct']:.0f} %",
                (x, top),
                (0, 4),
                textcoords="offset points",
                ha="center",
                fontsize=7.5,
                color=colour,
            )
        best = {name: by[network] for name, by in rules.items() if network in by}
        if best:
            name = max(best, key=lambda key: best[key])
            axis.axhline(best[name], color="#3A3A3A", linewidth=0.8, linestyle=":")
            axis.set_xlabel(f"dotted: the rule “{name}”, {best[name]:.0%}", fontsize=6.5, color="#3A3A3A")
        axis.set_title(network, fontsize=8.5, loc="left")
        axis.set_xticks(range(len(conditions)), [labels.get(c, c.replace("_", " ")) for c in conditions], fontsize=7)
        for label in axis.get_xticklabels():
            label.set(rotation=30, ha="right", rotation_mode="anchor")
        axis.set_xlim(-0.6, len(conditions) - 0.4)
        axis.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    lowest = min(0.45, float(table["low"].fillna(table["correct"]).min()) - 0.03)
    highest = max(
        0.8, float(table["high"].fillna(table["correct"]).max()), *(v for by in rules.values() for v in by.values())
    )
    axes[0].set_ylim(lowest, min(1.08, highest + 0.07))
    axes[0].set_ylabel("correct", fontsize=8)
    figure.tight_layout()
    return save(figure, path)


def page(
    title: str, lead: Sequence[str], warnings: Sequence[str], tables: Sequence[Table], figure: str, path: Path
) -> Path:
    """The report as one page, which loads nothing but the figure beside it."""
    css = (HERE.parents[1] / "report" / "gallery" / "templates" / "page.css").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    sections = []
    for table in tables:
        shown = table.shown()
        sections.append(
            {"heading": table.heading, "about": table.about, "columns": list(shown), "rows": shown.to_numpy().tolist(),
             "text": table.text}
        )  # fmt: skip
    text = environment.get_template("report.html").render(
        title=title,
        lead=lead,
        warnings=warnings,
        sections=sections,
        figure=figure,
        css=jinja2.utils.markupsafe.Markup(css),
    )
    write_atomic(path, text.encode())
    return path


def write_records(
    table: pd.DataFrame,
    trials: Trials,
    rules: Mapping[str, Mapping[str, float]],
    command: str,
    excluded: int,
    out: Path,
) -> list[Path]:
    """A record for each condition on each network: what people got right, and the rules beside them.

    Args:
        table: of `numbers.proportions`.
        trials: of the study.
        rules: the observers' means, by name and network.
        command: that made them.
        excluded: participants that were left out.
        out: the folder.
    """
    methods = _file_names(table["condition"].unique())
    paths = []
    for _, row in table[table["network"].isin(trials.models)].iterrows():
        alias, condition = str(row["network"]), str(row["condition"])
        shown = {t.unit: t.label for t in trials.trials if t.kind == "trial" and t.model == alias}
        interval = (float(row["low"]), float(row["high"])) if math.isfinite(row["low"]) else None
        text = (
            "Share of people's answers that were right: which of two places of a square occluder leaves the unit more "
            "excited (Fel et al. 2023, section 4.1); interval by resampling participants."
        )
        facts = {"text": text, "answers": int(row["answers"]), "excluded": excluded, "trials": trials.hash[:12]}
        metrics = [
            Measurement(
                "people_correct",
                "people right",
                "study",
                float(row["correct"]),
                interval,
                int(row["participants"]),
                True,
                facts,
            )
        ]
        for name, by in rules.items():
            if alias in by and ("," not in name or name.endswith(f", {condition}")):
                safe = f"observer_{name.partition(',')[0]}"
                definition = {"text": f"The same of the observer {name}, which is no person."}
                metrics.append(Measurement(safe, name, "study", by[alias], None, len(shown), True, definition))
        record = Record(
            suite=f"study-{trials.study}", model=trials.models[alias]["name"], alias=alias, method=methods[condition],
            preset=None, config={"study": trials.made["study"], "condition": condition, "trials": trials.hash},
            config_hash=None, units=tuple(shown), labels=tuple(shown.values()), units_hash=units_hash(shown),
            n=int(row["participants"]), budget=None, failed_units=(), images=None, metrics=tuple(metrics),
            seconds_per_image=None, git_commit=git_commit(), versions=versions(), device="people", status="done",
            error=None, created=datetime.now(UTC).isoformat(timespec="seconds"), command=command,
        )  # fmt: skip
        paths.append(record.write(record.record_path(out)))
    return paths


def _file_names(conditions: Iterable[str]) -> dict[str, str]:
    """What the records of conditions are called: a study's by their names; a table of somebody else's has any."""
    conditions = list(conditions)
    names = {c: c for c in conditions if FILE_NAME.fullmatch(c)}
    for condition in conditions:
        if condition not in names:
            name = as_file_name(condition, "condition")
            while name in names.values():
                name += "_"
            names[condition] = name
    return names


def named(table: pd.DataFrame, labels: Mapping[str, str]) -> pd.DataFrame:
    """A table with the conditions' labels in place of their names."""
    if "contrast" in table:
        pairs = [str(text).split(" - ") for text in table["contrast"]]
        return table.assign(contrast=[" - ".join(labels.get(name, name) for name in pair) for pair in pairs])
    return table.assign(condition=[labels.get(c, c) for c in table["condition"]])
