"""The writers: they spell a sheet as Markdown or as LaTeX."""

from __future__ import annotations

import dataclasses
import itertools
import re
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from benchmark.report.tables.sheet import DASH, Cell, Row, Sheet

WIDTH = 110
"""Characters of a table on a page of LaTeX."""


def markdown(sheet: Sheet) -> str:
    """A sheet as a page of GitHub Markdown."""
    lines = _md_head(sheet.title, f"Model `{sheet.model}`. {sheet.legend}", sheet.warnings) + _md_body(sheet)
    lines += ["", *_md_items(sheet.remarks)] if sheet.remarks else []
    sections: dict[str, Sequence[str | tuple[str, str]]] = {
        "Against the paper": sheet.orderings,
        "Columns": sheet.definitions,
        "What was run": sheet.runs,
    }
    for heading, items in sections.items():
        if items:
            lines += ["", f"## {heading}", "", *_md_items(items)]
    return _md_page(lines)


def markdown_blocks(title: str, blocks: Sequence[Sheet]) -> str:
    """Several sheets of the same models as one page: warnings on top, verdicts under each table, definitions below."""
    lines = _md_head(title, f"On `{blocks[0].model}`. {blocks[0].legend}", _once(b.warnings for b in blocks))
    for block in blocks:
        lines += ["", f"## {md(block.title)}", "", markdown_part(block)]
    lines += ["", "## Definitions", "", *_md_items(_once(b.definitions for b in blocks))]
    runs = _md_items(_once(b.runs for b in blocks))
    return _md_page([*lines, *(["", "## What was run", "", *runs] if runs else [])])


def markdown_part(sheet: Sheet) -> str:
    """A sheet's table and what stands right under it, without a page around."""
    return "\n".join([*_md_body(sheet), "", *_md_items([*sheet.remarks, *sheet.orderings])])


def _once(lists: Iterable[Iterable[Any]]) -> list[Any]:
    return list(dict.fromkeys(itertools.chain.from_iterable(lists)))


def _md_head(title: str, about: str, warnings: Iterable[str]) -> list[str]:
    lines = [f"# {md(title)}", "", about, ""]
    for warning in warnings:
        lines += [f"> **Warning.** {md(warning)}", ""]
    return lines


def _md_items(items: Iterable[str | tuple[str, str]]) -> list[str]:
    return [f"- {md(item)}" if isinstance(item, str) else f"- **{md(item[0])}**: {md(item[1])}" for item in items]


def _md_page(lines: list[str]) -> str:
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)) + "\n"


def _md_body(sheet: Sheet) -> list[str]:
    """A sheet's table and its footnotes."""

    def cell(c: Cell) -> str:
        value = f"**{c.text}**" if c.best else c.text
        return value + (f" {c.interval}" if c.interval else "") + (f" <sup>{c.note}</sup>" if c.note else "")

    body = []
    for row in sheet.rows:
        cells = [cell(c) for c in row.cells]
        if row.failed is not None:
            cells = [md(failed_text(row)), *[DASH] * (len(cells) - 1)]
        body.append([md(row.method), *cells])
    table = md_table([sheet.corner, *(md(c.head) for c in sheet.columns)], body)
    return [*table, "", *(f"<sup>{i}</sup> {md(note)}<br>" for i, note in enumerate(sheet.notes, 1))]


def md_table(head: list[str], body: list[list[str]]) -> list[str]:
    """The lines of a Markdown table; the first column is text, the others are numbers."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return ["| " + " | ".join(row) + " |" for row in (head, rule, *body)]


def md(text: str) -> str:
    """Text that Markdown prints as it stands."""
    # An underscore inside a word is a letter to GitHub; escaping those would only make names hard to read and to find.
    return re.sub(r"([\\`*|<>\[\]]|(?<!\w)_|_(?!\w))", r"\\\1", text.replace("\n", " "))


def latex(sheet: Sheet) -> str:
    r"""A sheet as a LaTeX table to `\input`; it needs the packages booktabs and graphicx.

    All columns side by side would fit no page, so they come in panels; one still wider than the line is scaled down.
    """

    def cell(c: Cell) -> str:
        value = rf"\textbf{{{_tex(c.text)}}}" if c.best else _tex(c.text)
        return (
            value
            + (f" {_tex(c.interval)}" if c.interval else "")
            + (rf"\textsuperscript{{{c.note}}}" if c.note else "")
        )

    panels: list[str] = []
    for indices in _panels(sheet):
        head = [sheet.corner, *(_tex(sheet.columns[i].head) for i in indices)]
        lines = [rf"\begin{{tabular}}{{l{'r' * len(indices)}}}", r"\toprule", " & ".join(head) + r" \\", r"\midrule"]
        for row in sheet.rows:
            cells = [cell(row.cells[i]) for i in indices]
            if row.failed is not None:
                reason = _tex(failed_text(row)) if not panels else _tex(DASH)
                cells = [rf"\multicolumn{{{len(indices)}}}{{l}}{{{reason}}}"]
            lines.append(" & ".join([_tex(row.method), *cells]) + r" \\")
        lines += [r"\bottomrule", r"\end{tabular}"]
        tabular = "\n".join(lines)
        panels.append(
            rf"\sbox0{{{tabular}}}" + "\n" + r"\ifdim\wd0>\linewidth\resizebox{\linewidth}{!}{\usebox0}\else\usebox0\fi"
        )
    under = [rf"\textsuperscript{{{i}}} {_tex(note)}" for i, note in enumerate(sheet.notes, 1)]
    under += [_tex(remark) for remark in sheet.remarks]
    # Run-in paragraphs: as lists these would not fit below the panels on one page.
    meanings = [rf"\emph{{{_tex(head)}}}: {_tex(text)}" for head, text in sheet.definitions]
    paragraphs = {
        "Warning.": [_tex(line) for line in sheet.warnings],
        "Against the paper.": [_tex(line) for line in sheet.orderings],
        "Columns.": meanings,
        "What was run.": [_tex(line) for line in sheet.runs],
    }
    under += [rf"\textbf{{{_tex(name)}}} {' '.join(lines)}" for name, lines in paragraphs.items() if lines]
    caption = f"{sheet.title} ({sheet.model}). {sheet.legend}"
    return "\n".join(
        [
            r"% Needs \usepackage{booktabs} and \usepackage{graphicx}.",
            r"\begin{table}",
            r"\centering\footnotesize",
            rf"\caption{{{_tex(caption)}}}",
            *(panel + r"\par\medskip" for panel in panels),
            r"\begin{minipage}{\linewidth}\scriptsize\raggedright",
            *(line + r"\par" for line in under),
            r"\end{minipage}",
            r"\end{table}",
            "",
        ]
    )


def latex_blocks(blocks: Sequence[Sheet]) -> str:
    """Several sheets as tables that may float apart: each with its warnings, the last with the runs of all."""
    alone = [dataclasses.replace(b, caption=f"{b.title}, suite {b.suite}", runs=()) for b in blocks]
    alone[-1] = dataclasses.replace(alone[-1], runs=tuple(_once(b.runs for b in blocks)))
    return "\n".join(map(latex, alone))


def _panels(sheet: Sheet) -> list[list[int]]:
    """The columns' positions, cut into panels of at most `WIDTH` characters; a metric keeps its paper column."""
    blocks: list[list[int]] = []
    for i, column in enumerate(sheet.columns):
        together = column.metric is None and blocks and column.group == sheet.columns[blocks[-1][-1]].group
        blocks[-1].append(i) if together else blocks.append([i])

    def room(i: int) -> int:
        cells = [len(row.cells[i].text) + len(row.cells[i].interval) for row in sheet.rows]
        return max(len(sheet.columns[i].head), *cells) + 3

    panels: list[list[int]] = []
    used = WIDTH
    for block in blocks:
        need = sum(map(room, block))
        if used + need > WIDTH:
            panels, used = [*panels, []], max(len(row.method) for row in sheet.rows)
        panels[-1] += block
        used += need
    return panels


_TEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$", "|": "$|$", "—": "---", "–": "--",
    "…": r"\dots{}", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "×": r"$\times$", "·": r"$\cdot$", "±": r"$\pm$",
    "−": "$-$", "≤": r"$\leq$", "≥": r"$\geq$", "²": "$^2$", "√": r"$\surd$", "‖": r"$\|$", "α": r"$\alpha$",
    "β": r"$\beta$", "ε": r"$\epsilon$", "λ": r"$\lambda$", "μ": r"$\mu$", "π": r"$\pi$", "ρ": r"$\rho$",
    "σ": r"$\sigma$", "∞": r"$\infty$", "’": "'", "“": "``", "”": "''",
}  # fmt: skip


def _tex(text: str) -> str:
    """Text that LaTeX prints as it stands; a letter that its fonts lack loses its accent or becomes a question mark."""

    def spell(c: str) -> str:
        if c in _TEX:
            return _TEX[c]
        if c.isspace():
            return " "
        # Accented Latin-1 letters are in the default fonts.
        return (
            c
            if c.isascii() or ("À" <= c <= "ÿ" and c.isalpha())
            else unicodedata.normalize("NFKD", c).encode("ascii", "ignore").decode() or "?"
        )

    return "".join(map(spell, text))


def failed_text(row: Row) -> str:
    """A failed row's reason, short; it stands in full under "What was run"."""
    return "failed: " + textwrap.shorten(row.failed or "", 90, placeholder=" …")
