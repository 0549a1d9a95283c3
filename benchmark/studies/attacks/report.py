"""What people look at of adversarial examples: records, predictions and image files in; tables, figures, a page out.

Everything is drawn from what lies in the folder, whichever commands put it there. Imports no torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from benchmark.records import record as records
from benchmark.records.record import Record
from benchmark.report import tables as table_files
from benchmark.report.gallery import environment, link, write_opaque
from benchmark.report.tables import Sheet, method_order
from benchmark.studies.attacks import matrix, plots
from benchmark.studies.attacks.plots import GAIN, GRID, Case
from featvis.storage.images import write_atomic


def everything(out: Path) -> None:
    """Tables, figures and the page of a folder; prints the tables, and where the rest is."""
    found = sorted(records.load_all(out / "records"), key=lambda r: (r.alias, method_order(r.method)))
    # What other networks make of the examples has tables of its own.
    own = [dataclasses.replace(r, metrics=tuple(m for m in r.metrics if m.group != "transfer")) for r in found]
    written = table_files.build(own, out / "tables")
    crossed: list[Sheet] = []
    if any(m.group == "transfer" for r in found for m in r.metrics):
        crossed = [matrix.matrix(found, kind) for kind in matrix.KINDS]
        texts = {
            "md": table_files.markdown_blocks("Who fools whom", crossed),
            "csv": matrix.numbers(found).to_csv(index=False, lineterminator="\n"),
            "tex": table_files.latex_blocks(crossed),
        }
        for suffix, text in texts.items():
            written.append(out / "tables" / found[0].suite / f"transfer.{suffix}")
            write_atomic(written[-1], text.encode())
    cases = [(record, list(cases_of(record, out))) for record in found]
    drawn = [(r, c) for r, c in cases if c]
    curves = plots.curves(found, out / "figures" / "epsilon.png")
    curves += plots.patches(drawn, GRID, out / "figures" / "grid.png")
    sheets = []
    for record, shown in drawn:
        sheets.append(out / "figures" / f"{record.alias}-{record.method}.png")
        if not _newer(sheets[-1], record.record_path(out)):
            plots.sheet(record, said(record), shown, sheets[-1])
    page = write_page(out, table_files.sheets(own), crossed, drawn, curves)
    print(table_files.text_block(own))
    for sheet in crossed:
        print(matrix.text(sheet))
    for what, paths in (("tables", written), ("figures", [*curves, *sheets]), ("page", [page])):
        print(f"{what:8} {', '.join(map(str, paths))}")


def _newer(path: Path, record: Path) -> bool:
    """Whether a picture was drawn after its record was written; whatever changes it changes the record."""
    return path.is_file() and path.stat().st_mtime >= record.stat().st_mtime


def said(record: Record) -> str:
    """What a setting was, in words."""
    arguments = record.config["generator"]["init_args"]
    step = "ε/8" if arguments["lr"] is None else f"{arguments['lr']:g}"
    how = "sign of the gradient" if arguments["sign"] else "gradient"
    epsilon = plots.epsilon_text(arguments["epsilon"])
    return f"{record.method} (ε = {epsilon}, {arguments['steps']} steps, {step} × {how}, λ = {arguments['tv']:g})"


def cases_of(record: Record, out: Path) -> Iterator[Case]:
    """The pairs of a record, from its table of predictions and the files."""
    path = out / "predictions" / record.alias / f"{record.method}.csv"
    table = pd.read_csv(path, keep_default_na=False)
    height, width = record.config["generator"]["canvas"]
    labels = dict(zip(record.units, record.labels, strict=True))
    for row in table[table["judge"] == record.alias].to_dict("records"):
        original = _rgb(out / "originals" / f"{height}x{width}" / f"{row['image']}.png")
        example = _rgb(out / str(record.images) / f"{row['unit']}.png")
        change = np.asarray(example, np.int16) - np.asarray(original, np.int16)
        enlarged = Image.fromarray((128 + GAIN * change).clip(0, 255).astype(np.uint8))
        captions = (
            f"{row['clean_label']}\n{_percent(row['clean_probability'])}",
            f"at most {abs(change).max()}/255\n",
            f"{row['label']}\n{_percent(row['probability'])}",
        )
        reached = row["class"] == row["target"]
        yield Case(row["unit"], labels[row["unit"]], reached, (original, enlarged, example), captions)


def _rgb(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return Image.merge("RGB", image.split()[:3])


def _percent(p: float) -> str:
    return "over 99.9 %" if p > 0.999 else f"{100 * p:.1f} %"


def write_page(
    out: Path,
    sheets: Sequence[Sheet],
    crossed: Sequence[Sheet],
    drawn: Sequence[tuple[Record, Sequence[Case]]],
    curves: Sequence[Path],
) -> Path:
    """Write `<out>/index.html`: the tables, the curves, and every pair. Its pictures lie beside it, under `page/`."""
    blocks = []
    for record, cases in drawn:
        shown = []
        for case in cases:
            folder = out / "page" / record.alias / record.method
            links = []
            for kind, picture, caption in zip(KINDS, case.pictures, case.captions, strict=True):
                path = folder / f"{case.unit}.{kind}.jpg"
                if not _newer(path, record.record_path(out)):
                    write_opaque(picture, path)
                links.append((kind, link(out, path), *caption.split("\n")))
            shown.append((case, links, link(out, out / str(record.images) / f"{case.unit}.png")))
        blocks.append((record, said(record), shown, sum(case.reached for case in cases)))
    text = environment().get_template("attack.html").render(
        sheets=sheets, crossed=crossed, blocks=blocks, curves=[link(out, p) for p in curves], gain=GAIN
    )  # fmt: skip
    write_atomic(out / "index.html", text.encode())
    return out / "index.html"


KINDS = ("original", "perturbation", "result")
