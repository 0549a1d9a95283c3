"""The page of a run: records and images in, one static `<out>/index.html` out.

The page needs no network and no server: style and script are inside it, links are relative, so the whole folder can be
moved. Browsers cannot ignore a PNG's transparency, so opaque copies (JPEG) lie under `<out>/page/`; the PNGs stay as
they are. Nothing here imports torch.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from PIL import Image

from benchmark.records.record import Record
from benchmark.report import agreement
from benchmark.report.agreement import Agreement
from benchmark.report.tables import Sheet, frame, sheets
from featvis.errors import UserError
from featvis.storage.images import write_atomic

QUALITY = 92  # JPEG; 4:4:4, because these images live from saturated colour edges that chroma subsampling smears


@dataclass(frozen=True)
class Picture:
    """One image of the page: relative URLs of the PNG and its opaque copy, size in pixels, facts of its text chunk."""

    method: str
    transparent: str
    opaque: str
    width: int
    height: int
    caption: str


@dataclass(frozen=True)
class Unit:
    """One row of pictures: a picture a method, or the reason why there is none."""

    unit: str
    label: str
    cells: tuple[Picture | str, ...]


@dataclass(frozen=True)
class Section:
    """One model of one suite: its score table, whether its columns agree, and its pictures method by method."""

    anchor: str
    sheet: Sheet
    agreement: tuple[Sheet, ...]
    methods: tuple[str, ...]
    units: tuple[Unit, ...]


def build_page(records: Iterable[Record], out_dir: Path | str, compared: Sequence[Agreement | str] = ()) -> Path:
    """Write the page.

    Args:
        records: every cell to show; those without images (`real`) appear in the score tables alone.
        out_dir: the run's folder: `Record.images` is relative to it, figures are the PNG and SVG files in its
            `figures/`, and the opaque copies go to its `page/`. A copy that is newer than its image is kept.
        compared: whether the columns of each table agree; a sentence, or nothing, where it is not known.

    Returns:
        `<out_dir>/index.html`.

    Raises:
        UserError: there is no record.
    """
    out = Path(out_dir)
    listed = list(records)
    if not listed:
        raise UserError("There is no record to make a page of; `featvis run` makes some.")
    # The order of the tables, so that picture columns stand as table rows do.
    order = frame(listed)[["suite", "alias", "method"]].drop_duplicates().itertuples(index=False, name=None)
    by_cell = {(r.suite, r.alias, r.method): r for r in listed}
    ordered = [by_cell[key] for key in order]
    agreements: dict[tuple[str, str], list[Sheet]] = {}
    for found in compared:
        if isinstance(found, Agreement):
            agreements.setdefault(found.place[:2], []).extend(agreement.sheets(found))
    sections = []
    for number, sheet in enumerate(sheets(listed), 1):
        members = [r for r in ordered if (r.suite, r.alias, r.model) == (sheet.suite, sheet.alias, sheet.model)]
        # A cell that failed as a whole is a row of the table, not a column of empty frames.
        shown = [r for r in members if r.images and (r.status == "done" or any((out / r.images).glob("*.png")))]
        agree = tuple(agreements.get((sheet.suite, sheet.alias), ()))
        sections.append(Section(f"m{number}", sheet, agree, tuple(r.method for r in shown), tuple(_units(shown, out))))
    page = (
        environment()
        .get_template("page.html")
        .render(
            sections=sections,
            figures=[(_title(path), link(out, path)) for path in _figures(out)],
            cells=len(listed),
            failed=[r for r in ordered if r.status == "failed"],
            has_pictures=any(section.units for section in sections),
        )
    )
    write_atomic(out / "index.html", page.encode("utf-8"))
    return out / "index.html"


def environment(templates: Path = Path(__file__).parent / "templates") -> jinja2.Environment:
    """A folder's templates, which escape what they are given and know no undefined name."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


def _units(records: list[Record], out: Path) -> Iterator[Unit]:
    labels = {unit: label for r in records for unit, label in zip(r.units, r.labels, strict=True)}
    # JPEG and PNG coding release the interpreter's lock.
    with ThreadPoolExecutor() as pool:
        cells = pool.map(lambda pair: _cell(pair[1], pair[0], out), [(unit, r) for unit in labels for r in records])
        for unit, label in labels.items():
            yield Unit(unit, label, tuple(next(cells) for _ in records))


def _cell(record: Record, unit: str, out: Path) -> Picture | str:
    """The picture of a unit, with its opaque copy made; or a sentence where there is none."""
    source = out / str(record.images) / f"{unit}.png"
    for failed in record.failed_units:
        if failed.unit == unit:
            at = "" if failed.step is None else f" at step {failed.step}"
            return f"failed{at}: {failed.reason}"
    if not source.is_file():
        return "no image" if record.status == "done" else f"failed: {record.error}"
    copy = out / "page" / str(record.images) / f"{unit}.jpg"
    with Image.open(source) as image:
        width, height = image.size
        if not copy.is_file() or copy.stat().st_mtime < source.stat().st_mtime:
            write_opaque(image, copy)
        facts = _facts(getattr(image, "text", {}).get("featvis"))
    return Picture(record.method, link(out, source), link(out, copy), width, height, facts)


def write_opaque(image: Image.Image, path: Path) -> None:
    """A picture for a page: a JPEG, transparency ignored."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    write_atomic(path, buffer.getvalue())


def _facts(chunk: str | None) -> str:
    """`logit 8.12 · score 7.90` from the image's own text chunk; empty where it has none, or none that can be read."""
    try:
        facts: Any = json.loads(chunk or "{}")
    except json.JSONDecodeError:
        return ""
    if not isinstance(facts, dict):
        return ""
    if facts.get("silent") is True:
        return "silent: no gradient at any step"
    numbers = {k: facts.get(k) for k in ("logit", "score")}
    shown = {k: f"{v:.2f}" for k, v in numbers.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}
    if shown.get("logit") == shown.get("score"):  # for a logit unit they are one number
        shown.pop("score", None)
    return " · ".join(f"{k} {v}" for k, v in shown.items())


def _figures(out: Path) -> list[Path]:
    folder = out / "figures"
    return sorted(p for p in folder.glob("*") if p.suffix in (".png", ".svg")) if folder.is_dir() else []


def _title(path: Path) -> str:
    return path.stem.replace("_", " ").replace("-", " ")


def as_script(name: str, data: Any) -> bytes:
    """Data as JavaScript, which a page that was opened as a file may load, as it may not load JSON."""
    text = json.dumps(data, sort_keys=True, ensure_ascii=False).replace("</", "<\\/")
    return f"window.{name} = {text};\n".encode()


def link(out: Path, path: Path) -> str:
    """A path as a page in `out` links to it."""
    return quote(path.relative_to(out).as_posix())
