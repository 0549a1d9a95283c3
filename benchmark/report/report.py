"""What people look at: records in; tables, figures, the page and the plan's text out. Imports no torch."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.records import record as records
from benchmark.report import agreement, costs, transfer
from benchmark.report import figures as plots
from benchmark.report import tables as table_files
from benchmark.report.agreement import Agreement
from benchmark.report.drawing import named, remove_others
from benchmark.report.gallery import build_page
from benchmark.report.spectra import spectra
from featvis.errors import UserError, nearest
from featvis.storage import images

BLOCK = re.compile(r"<!-- table: (?P<name>\S+) begin -->.*?<!-- table: (?P=name) end -->", re.DOTALL)
"""A generated part of a README: the short table of a suite (`quick`), or a file of the tables (`quick/comparison`)."""

OF_NUMBERS, OF_IMAGES = ("scores", "costs", "transfer", "agreement"), ("visualizations", "spectra")
"""What the figures of a run are called, up to the name of a table."""


def everything(out: Path) -> None:
    """Tables, figures and the page of a run's folder; prints the table, and where the rest is."""
    found = records.load_all(out / "records")
    compared = agreement.agreements(found)
    tables = table_files.build(found, out / "tables") + agreement.write(found, compared, out / "tables")
    figures = draw(found, compared, out, out / "figures")
    page = build_page(found, out, compared)
    print(table_files.text_block(found))
    if lines := agreement.lines(compared):
        print("\n".join([*lines, ""]))
    print(f"tables   {', '.join(str(p) for p in tables)}")
    print(f"figures  {', '.join(str(p) for p in figures)}")
    print(f"page     {page}")


def draw(
    found: Sequence[records.Record], compared: Sequence[Agreement | str], images_root: Path, out: Path
) -> list[Path]:
    """The figures of a set of records; the grid and the spectra where their images are there.

    Those that a drawing of other records has left in the folder under other names are removed, the page shows all; but
    those of images stay where no image is there to draw them anew.
    """
    made = _numbers(found, compared, out)
    groups = {name: (group, _files(group, images_root)) for name, group in plots.named_groups(found)}
    if any(files for _, files in groups.values()):
        made += plots.grid(found, images_root, out / "visualizations.png")
    for name, (group, files) in groups.items():
        if files:
            # Scores and methods may have had the spectrum of a set, which is not here.
            sets = any((r.config.get("evaluation") or {}).get("data") for r in group)
            called = "natural (embedded)" if sets else "natural"
            made += spectra(files, _natural(group), named(out / "spectra.png", name, len(groups)), called)
    remove_others(out, (*OF_NUMBERS, *(OF_IMAGES if any(files for _, files in groups.values()) else ())), made)
    return made


def _files(group: Sequence[records.Record], root: Path) -> dict[str, list[Any]]:
    """The pictures of a network's finished rows, where they are there; of rows over grey as they were scored."""
    found: dict[str, list[Any]] = {}
    for record in group:
        if record.images is not None and record.status == "done":
            paths = [p for unit in record.units if (p := root / record.images / f"{unit}.png").is_file()]
            pictures = [np.asarray(images.over_grey(p)) / 255.0 for p in paths] if record.blended else paths
            found |= {record.method: pictures} if paths else {}
    return found


def _numbers(found: Sequence[records.Record], compared: Sequence[Agreement | str], out: Path) -> list[Path]:
    """The figures that need no images."""
    made = plots.scores(found, out / "scores.png") + costs.budgets(found, out / "costs.png")
    made += transfer.transfers(found, out / "transfer.png")
    return made + agreement.draw(compared, out / "agreement.png")


def _natural(found: Sequence[records.Record]) -> Any:
    """The embedded natural spectrum, at the methods' canvas where that is a smaller square; or None."""
    from safetensors.numpy import load_file

    from featvis.paths import ASSETS

    path = ASSETS / "reference" / "spectrum.safetensors"
    if not path.is_file():
        return None
    whole = load_file(path)["magnitude"]
    canvases = {r.budget.canvas for r in found if r.budget is not None}
    h, w = next(iter(canvases)) if len(canvases) == 1 else (0, 1)
    if h != w or h > whole.shape[1] or h % 2:
        return whole
    # The low-frequency block, as `featvis.canvas.spectrum.resize_spectrum` takes it, without torch.
    block = np.concatenate([whole[:, : h // 2], whole[:, -(h // 2) :]], axis=1)[:, :, : h // 2 + 1]
    return block * (h / whole.shape[1]) ** 2


def published(folder: Path, out: Path) -> None:
    """Rebuild everything under `out` from the records in `folder`, and the tables in the READMEs beside them.

    Raises:
        UserError: when there is no record.
    """
    found = records.load_all(folder)
    if not found:
        raise UserError(f"--records {folder} holds no record")
    compared = agreement.agreements(found)
    paths = table_files.build(found, out / "tables") + agreement.write(found, compared, out / "tables")
    paths += _numbers(found, compared, out / "figures")
    for readme in (out.resolve().parent / "README.md", out / "README.md"):
        if readme.is_file() and BLOCK.search(readme.read_text(encoding="utf-8")):
            images.write_atomic(readme, with_blocks(readme.read_text(encoding="utf-8"), found, out / "tables").encode())
            paths.append(readme)
    print("\n".join(str(p) for p in paths))


def agreement_of(folder: Path, suite: str | None, out: Path) -> None:
    """Print which columns to believe, as Markdown, and write it with the correlations to `<out>`.

    Args:
        folder: of records.
        suite: the one to look at; None: all.
        out: where `tables/` and `figures/` go.

    Raises:
        UserError: when there is no record (of the suite), or no table has enough to compare.
    """
    found = records.load_all(folder)
    suites = sorted({r.suite for r in found})
    if not found:
        raise UserError(f"--records {folder} holds no record")
    if suite is not None and suite not in suites:
        raise UserError(f"--suite {suite} has no record in {folder}: {nearest(suite, suites)}")
    found = [r for r in found if suite in (None, r.suite)]
    compared = agreement.agreements(found)
    if all(isinstance(a, str) for a in compared):
        raise UserError(f"--records {folder}: {'; '.join(str(a) for a in compared)}")
    paths = agreement.write(found, compared, out / "tables") + agreement.draw(compared, out / "figures/agreement.png")
    print(agreement.text(compared))
    print("\n".join(str(p) for p in paths))


def with_blocks(text: str, found: Sequence[records.Record], tables: Path) -> str:
    """A README with its generated tables replaced.

    Raises:
        UserError: for a block whose suite has no record, or whose file is not there.
    """

    def block(match: re.Match[str]) -> str:
        name = match["name"]
        if "/" in name:
            path = tables / f"{name}.md"
            if not path.is_file():
                raise UserError(f"a README has a block for {name}, and there is no {path}")
            lines = path.read_text(encoding="utf-8").splitlines()
            start = next(i for i, line in enumerate(lines) if line.startswith("|"))
            body = "\n".join(itertools.takewhile(lambda line: line.startswith("|"), lines[start:]))
        else:
            mine = [r for r in found if r.suite == name]
            if not mine:
                raise UserError(f"a README has a block for the suite {name}, which has no record")
            body = table_files.readme_block(mine).strip()
        return f"<!-- table: {name} begin -->\n{body}\n<!-- table: {name} end -->"

    return BLOCK.sub(block, text)
