"""The writers: they spell a sheet as Markdown or as LaTeX."""

from __future__ import annotations

import re
import textwrap
import unicodedata

from benchmark.tables.sheet import DASH, Cell, Row, Sheet


def markdown(sheet: Sheet) -> str:
    """A sheet as a page of GitHub Markdown."""

    def cell(c: Cell) -> str:
        value = f"**{c.text}**" if c.best else c.text
        return value + (f" {c.interval}" if c.interval else "") + (f" <sup>{c.note}</sup>" if c.note else "")

    lines = [
        f"# {md(sheet.title)}",
        "",
        f"Model `{sheet.model}`. Best method in bold; in brackets the 95 % interval.",
        "",
    ]
    for warning in sheet.warnings:
        lines += [f"> **Warning.** {md(warning)}", ""]
    body = []
    for row in sheet.rows:
        cells = [cell(c) for c in row.cells]
        if row.failed is not None:
            cells = [md(failed_text(row)), *[DASH] * (len(cells) - 1)]
        body.append([md(row.method), *cells])
    lines += md_table(["method", *(md(c.head) for c in sheet.columns)], body)
    lines += ["", *(f"<sup>{i}</sup> {md(note)}<br>" for i, note in enumerate(sheet.notes, 1))]
    sections = {
        "Against the paper": sheet.orderings,
        "Columns": [f"**{head}**: {text}" for head, text in ((md(h), md(t)) for h, t in sheet.definitions)],
        "What was run": sheet.runs,
    }
    for heading, items in sections.items():
        if items:
            escaped = items if heading == "Columns" else [md(item) for item in items]
            lines += ["", f"## {heading}", "", *(f"- {item}" for item in escaped)]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)) + "\n"


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
        head = ["method", *(_tex(sheet.columns[i].head) for i in indices)]
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
    # Run-in paragraphs: as lists these would not fit below the panels on one page.
    meanings = [rf"\emph{{{_tex(head)}}}: {_tex(text)}" for head, text in sheet.definitions]
    paragraphs = {
        "Warning.": [_tex(line) for line in sheet.warnings],
        "Against the paper.": [_tex(line) for line in sheet.orderings],
        "Columns.": meanings,
        "What was run.": [_tex(line) for line in sheet.runs],
    }
    under += [rf"\textbf{{{_tex(name)}}} {' '.join(lines)}" for name, lines in paragraphs.items() if lines]
    caption = f"{sheet.title} ({sheet.model}). Best method in bold; in brackets the 95 % interval."
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


def _panels(sheet: Sheet, width: int = 110) -> list[list[int]]:
    """The columns' positions, cut into panels of at most so many characters; a metric keeps its paper column."""
    blocks: list[list[int]] = []
    for i, column in enumerate(sheet.columns):
        together = column.metric is None and blocks and column.group == sheet.columns[blocks[-1][-1]].group
        blocks[-1].append(i) if together else blocks.append([i])

    def room(i: int) -> int:
        cells = [len(row.cells[i].text) + len(row.cells[i].interval) for row in sheet.rows]
        return max(len(sheet.columns[i].head), *cells) + 3

    panels: list[list[int]] = []
    used = width
    for block in blocks:
        need = sum(map(room, block))
        if used + need > width:
            panels, used = [*panels, []], max(len(row.method) for row in sheet.rows)
        panels[-1] += block
        used += need
    return panels


_TEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$", "|": "$|$", "—": "---", "–": "--",
    "…": r"\dots{}", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "×": r"$\times$", "·": r"$\cdot$", "±": r"$\pm$",
    "−": "$-$", "≤": r"$\leq$", "≥": r"$\geq$", "²": "$^2$", "√": r"$\surd$", "‖": r"$\|$", "α": r"$\alpha$",
    "β": r"$\beta$", "ε": r"$\epsilon$", "λ": r"$\lambda$", "μ": r"$\mu$", "π": r"$\pi$", "σ": r"$\sigma$",
    "’": "'", "“": "``", "”": "''",
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
