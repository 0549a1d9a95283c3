"""The paper's own layouts: the ablation (Table 3) and the comparison (Tables 1 and 2)."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sample_records import TOP1, metric, record

from benchmark.records.record import Budget, Measurement, Record
from benchmark.report import tables

SIX = ("maco", "maco_no_transparency", "maco_no_crop", "maco_no_noise", "fourier", "fourier_no_augmentation")
HEADINGS = ["MACO", "− transparency", "− crop", "− noise", "Fourier", "− augmentations"]
# Ordered as the paper's, best first: plausibility 1 2 4 5 3 6, FID 2 1 4 6 3 5, logit 4 5 3 2 6 1 (Table 3 by hand).
FLAT = (100.0, 200.0, 400.0, 500.0, 300.0, 600.0)
FID = (20.0, 10.0, 40.0, 60.0, 30.0, 50.0)
LOGIT = (3.0, 2.0, 4.0, 5.0, 1.0, 6.0)


def stand_in(value: float | None, half: float | None = None, kind: str = "frechet", net: str = "lite1") -> Measurement:
    label = {"frechet": "Fréchet", "kernel": "Kernel"}[kind]
    return metric(f"{kind}_{net}", value, half, group="frechet", label=f"{label}, {net}")


def six(**changes: Any) -> list[Record]:
    rows = zip(SIX, FLAT, FID, LOGIT, strict=True)
    return [
        record(m, metric("plausibility_flat", a, 10.0), metric("fid", b, 1.0), metric("logit", c, 0.25), **changes)
        for m, a, b, c in rows
    ]


def made(records: list[Record], folder: Path) -> dict[str, str]:
    return {p.name: p.read_text(encoding="utf-8") for p in tables.build(records, folder)}


def markdown_tables(text: str) -> list[list[list[str]]]:
    """Every table of a page, cell by cell; the second row is the rule."""
    found = re.findall(r"(?:^\|.*\|$\n?)+", text, re.MULTILINE)
    return [[[c.strip() for c in line[1:-1].split("|")] for line in table.splitlines()] for table in found]


def block(text: str, heading: str) -> tuple[dict[str, list[str]], str]:
    """A block of the comparison: its rows by their first cell, and all that stands in it."""
    part = next(p for p in text.split("\n## ") if p.startswith(heading))
    return {row[0]: row[1:] for row in markdown_tables(part)[0]}, part


def test_the_ablation_has_the_papers_rows_headings_and_values(tmp_path: Path) -> None:
    files = made(six()[::-1], tmp_path)
    (table,) = markdown_tables(files["flexivit_ablation.md"])
    assert table[0] == [
        "row",
        "Plausibility, flat ↓",
        "paper, plausibility",
        "fid ↓",
        "paper, FID",
        "logit ↑",
        "paper, logit",
    ]
    assert [row[0] for row in table[2:]] == HEADINGS
    assert table[2][1:] == ["100 [90, 110]", "571.68", "20.0 [19.0, 21.0]", "211", "3.00 [2.75, 3.25]", "5.12"]
    assert table[5][1:] == ["500 [490, 510]", "707.3", "60.0 [59.0, 61.0]", "324.5", "5.00 [4.75, 5.25]", "11.7"]
    assert table[7][1:] == ["600 [590, 610]", "735.9", "50.0 [49.0, 51.0]", "312.5", "6.00 [5.75, 6.25]", "12.4"]
    assert "target network differs" not in files["flexivit_ablation.md"]
    assert "**100" not in files["flexivit_ablation.md"]
    assert (
        "- − crop (maco_no_crop): 96 steps × 4 views, 384 passes an image, canvas 24 × 32, n 4."
        in files["flexivit_ablation.md"]
    )
    other = six(alias="efficientnet_lite0", model="tf_efficientnet_lite0.in1k")
    page = made(other, tmp_path)["efficientnet_lite0_ablation.md"]
    assert "the paper's is flexivit_base.1200ep_in1k, here it is tf_efficientnet_lite0.in1k." in page
    assert "only orderings and relative gaps compare" in page


def test_the_ablations_orderings_that_hold(tmp_path: Path) -> None:
    page = made(six(), tmp_path)["flexivit_ablation.md"]
    flat = "MACO, − transparency, Fourier, − crop, − noise, − augmentations"
    fid = "− transparency, MACO, Fourier, − crop, − augmentations, − noise"
    logit = "− augmentations, − noise, − crop, MACO, − transparency, Fourier"
    for label, order in (("Plausibility, flat", flat), ("fid", fid), ("logit", logit)):
        assert f"- {label}: the paper's ordering, {order} (best first), holds.\n" in page


def test_the_ablations_orderings_name_swapped_tied_and_close_neighbours(tmp_path: Path) -> None:
    # MACO and − transparency change places, and their intervals overlap; Fourier and − crop are equal; − crop's and
    # − noise's intervals touch nowhere.
    flat = (205.0, 200.0, 300.0, 500.0, 300.0, 600.0)
    records = [
        record(m, metric("plausibility_flat", v, 3.0), metric("logit", v)) for m, v in zip(SIX, flat, strict=True)
    ]
    page = made(records, tmp_path)["flexivit_ablation.md"]
    assert (
        "does not hold: here − transparency, MACO, − crop, Fourier, − noise, − augmentations; "
        "swapped: MACO and − transparency; tied: Fourier and − crop; "
        "the intervals of MACO and − transparency, of Fourier and − crop overlap.\n"
    ) in page
    # Without intervals nothing is said of them. By logit Fourier is the paper's last.
    assert re.search(r"- logit: .*; swapped: − transparency and Fourier\.\n", page)
    assert "FID: the paper's ordering cannot be judged" in page


def test_the_six_rows_are_there_without_records_and_say_why(tmp_path: Path) -> None:
    records = [
        record("maco", metric("plausibility_flat", 100.0, 10.0), metric("fid", 7.0)),
        record("maco_no_crop", metric("plausibility_flat", None), metric("fid", 9.0)),
        record("fourier", status="failed", error="out of memory"),
    ]
    files = made(records, tmp_path)
    page = files["flexivit_ablation.md"]
    rows = {row[0]: row[1:] for row in markdown_tables(page)[0][2:]}
    notes = dict(re.findall(r"<sup>(\d)</sup> (.*)<br>", page))
    assert list(rows) == HEADINGS

    def why(heading: str, column: int) -> str:
        found = re.fullmatch(r"— <sup>(\d)</sup>", rows[heading][column])
        assert found is not None
        return notes[found[1]]

    assert why("− crop", 0) == "no weights"
    assert why("− transparency", 0) == "there is no record of maco_no_transparency on flexivit"
    assert why("Fourier", 2) == "failed: out of memory"
    assert why("MACO", 4) == "this metric was not evaluated for this row"
    assert [rows[h][5] for h in HEADINGS] == ["5.12", "5.05", "8.18", "11.7", "3.22", "12.4"]
    assert "MACO, − crop (best first; 2 of its 6 rows are here), holds." in page
    assert "- − noise (maco_no_noise): no record." in page
    data = pd.read_csv(tmp_path / "quick" / "flexivit_ablation.csv")
    assert list(data["row"][::3]) == HEADINGS
    assert data["absent"].notna().sum() == data["value"].isna().sum() == 18 - 3


@pytest.mark.parametrize(
    ("methods", "there"),
    [
        (("maco", "maco_no_crop"), True),
        (("fourier_no_augmentation", "maco_no_noise"), True),
        (("maco", "fourier", "cbr"), False),
        (("maco_no_crop", "cbr"), False),
    ],
)
def test_an_ablation_is_written_where_there_is_one(methods: tuple[str, ...], there: bool, tmp_path: Path) -> None:
    files = made([record(m, metric("fid", 1.0)) for m in methods], tmp_path)
    assert ("flexivit_ablation.md" in files) is there


def test_a_stand_in_is_never_called_fid(tmp_path: Path) -> None:
    pooled = metric("plausibility_pooled", 5.0, group="plausibility", label="Plausibility, pooled")
    missing = metric("plausibility_flat", None)
    rows = [("maco", 10.0), ("maco_no_crop", 12.0), ("fourier", 11.0)]
    files = made([record(m, missing, pooled, stand_in(v), stand_in(v, kind="kernel")) for m, v in rows], tmp_path)
    page = files["flexivit_ablation.md"]
    assert markdown_tables(page)[0][0][1:5] == [
        "Plausibility, pooled ↓",
        "paper, plausibility",
        "Fréchet, lite1 ↓",
        "paper, FID",
    ]
    assert "No row has a flat plausibility, so the pooled one stands in its place." in page
    assert "Fréchet, lite1 stands in for FID" in page
    assert "MACO, Fourier, − crop (best first; 3 of its 6 rows are here), holds." in page
    data = pd.read_csv(tmp_path / "quick" / "flexivit_ablation.csv")
    assert set(data["metric"]) == {"plausibility_pooled", "frechet_lite1", "logit"}
    compared = files["comparison.md"]
    rows_of, text = block(compared, "Fréchet, lite1 ↓")
    assert rows_of["method"] == ["flexivit"]  # no value of the paper's beside another network's
    assert "stands in for FID" in text
    assert "stands in for KID" in block(compared, "Kernel, lite1 ↓")[1]
    assert "## FID" not in compared
    assert "## KID" not in compared
    both = made([record(m, metric("fid", v), stand_in(1.0)) for m, v in rows], tmp_path / "both")
    assert markdown_tables(both["flexivit_ablation.md"])[0][0][3:5] == ["fid ↓", "paper, FID"]
    assert "stands in" not in both["flexivit_ablation.md"] + both["comparison.md"]


def two_models() -> list[Record]:
    """On the paper's vit and a model of ours; vit has FID, ours its stand-in, and cbr on vit has no record."""

    def row(method: str, alias: str, flat: float, top1: float, *more: Measurement) -> Record:
        tag = {"vit": "vit_base_patch16_224.augreg_in21k_ft_in1k", "ours": "ours.in1k"}[alias]
        label = "Top-1, ours" + ", the target" * (alias == "ours")
        own = metric("top1_ours.in1k", 1.0, group="transferability", label=label, higher_is_better=True)
        facts = (metric("plausibility_flat", flat, 10.0), metric(TOP1, top1, 0.125), own, *more)
        return record(method, *facts, alias=alias, model=tag)

    return [
        row("maco", "vit", 1200.0, 0.75, metric("fid", 240.0, 5.0)),
        row("fourier", "vit", 1100.0, 0.25, metric("fid", 260.0, 5.0)),
        row("real", "vit", 900.0, 1.0),
        row("maco", "ours", 300.0, 0.5, stand_in(10.0, 2.0)),
        row("fourier", "ours", 310.0, 0.75, stand_in(11.0, 2.0)),
        row("cbr", "ours", 400.0, 0.25, stand_in(30.0, 2.0)),
        row("zeta", "ours", 100.0, 0.25, stand_in(40.0, 2.0)),
    ]


def test_the_comparison_has_methods_by_models_with_the_papers_values(tmp_path: Path) -> None:
    page = made(two_models(), tmp_path)["comparison.md"]
    rows, text = block(page, "Plausibility, flat ↓")
    assert list(rows) == ["method", "---", "real", "maco", "fourier", "cbr", "zeta"]
    assert rows["method"] == ["ours", "vit", "paper"]
    assert rows["maco"] == ["300 [290, 310]", "1200 [1190, 1210]", "1097"]
    assert rows["fourier"] == ["310 [300, 320]", "**1100** [1090, 1110]", "1817"]
    assert rows["cbr"] == ["400 [390, 410]", "— <sup>2</sup>", "1920"]
    assert rows["zeta"][0] == "**100** [90, 110]"
    assert rows["real"] == ["— <sup>1</sup>", "900 [890, 910]", ""]
    assert (
        "<sup>1</sup> there is no record of real on ours<br>\n<sup>2</sup> there is no record of cbr on vit<br>" in text
    )
    assert (
        "- ours, which the paper does not have: the paper's usual order, maco, fourier, cbr (best first), holds; "
        "the intervals of maco and fourier overlap.\n"
    ) in text
    assert (
        "- vit: the paper's ordering, maco, fourier (best first; 2 of its 3 rows are here), does not hold: "
        "here fourier, maco; swapped: maco and fourier.\n"
    ) in text


def test_a_metric_that_only_some_model_or_none_has_keeps_its_block(tmp_path: Path) -> None:
    page = made(two_models(), tmp_path)["comparison.md"]
    headings = re.findall(r"^## (.*)$", page, re.MULTILINE)
    plausibility = ["Plausibility, flat ↓", "Plausibility, raw pooled ↓", "Plausibility, Deep-KNN ↓"]
    distances = ["fid ↓", "Fréchet, lite1 ↓", "KID ↓"]
    assert headings == [*plausibility, *distances, "Transferability", "Definitions", "What was run"]
    fid, _ = block(page, "fid ↓")
    assert fid["maco"] == ["— <sup>2</sup>", "**240.0** [235.0, 245.0]", "241.68"]
    for nowhere in ("Plausibility, raw pooled ↓", "KID ↓"):
        rows, text = block(page, nowhere)
        assert all(cell.startswith("— <sup>") for method in ("maco", "fourier", "cbr") for cell in rows[method])
        assert "this metric was not evaluated for this row<br>" in text
        assert "- vit, of which the paper has no such number: the paper's usual order cannot be judged" in text


def test_the_block_of_classifiers_is_that_of_table_2(tmp_path: Path) -> None:
    page = made(two_models(), tmp_path)["comparison.md"]
    rows, text = block(page, "Transferability")
    head = [f"ours: {m}" for m in ("real", "maco", "fourier", "cbr", "zeta")]
    head += ["vit: real", "vit: maco", "paper", "vit: fourier", "paper", "vit: cbr", "vit: zeta"]
    assert rows["classifier"] == head
    assert rows["Top-1, vgg16_tv ↑"][1:3] == ["50 % [38, 62]", "**75 %** [62, 88]"]
    assert rows["Top-1, vgg16_tv ↑"][6:10] == ["**75 %** [62, 88]", "50 %", "25 % [12, 38]", "30 %"]
    # A classifier of the paper's that was not asked keeps its row, with the paper's numbers.
    xception = rows["Top-1, legacy_xception.tf_in1k ↑"]
    assert xception[7] == "73 %"
    assert xception[9] == "62 %"
    assert all(cell.startswith("—") for i, cell in enumerate(xception) if i not in (7, 9))
    assert len(rows) == 2 + 1 + 6  # head, rule, our own network, and the paper's six, of which vgg16 is one
    assert "the target itself, so this is no transfer" in text
    assert "- vit (Top-1, vgg16_tv): the paper's ordering, maco, fourier (best first), holds.\n" in text
    assert (
        "- ours, which the paper does not have (Top-1, vgg16_tv): the paper's usual order, maco, fourier (best first), "
        "does not hold: here fourier, maco; swapped: maco and fourier; the intervals of maco and fourier overlap.\n"
    ) in text


def test_the_usual_order_is_that_of_the_papers_tables() -> None:
    orders = {
        (entry["metric"], alias): sorted(values, key=values.__getitem__, reverse=entry["unit"] == "percent")
        for entry in tables.paper()["comparison"]
        for alias, values in entry["values"].items()
    }
    exception = orders.pop(("fid", "flexivit"))
    assert exception == ["maco", "cbr", "fourier"]
    for (name, _), order in orders.items():
        assert order == (["maco", "fourier"] if name.startswith("top1") else ["maco", "fourier", "cbr"])


def test_unequal_budgets_are_warned_of_in_every_layout(tmp_path: Path) -> None:
    records = six()
    records[4] = record("fourier", metric("fid", 30.0), budget=Budget(256, 1, 256, (24, 32)))
    files = made(records, tmp_path)
    start = "> **Warning.** Methods had different numbers of forward-backward passes an image"
    for name in ("flexivit.md", "flexivit_ablation.md", "comparison.md"):
        top = files[name].split("\n| ")[0]
        assert start in top
        assert re.search(r"[Ff]ourier 256", top)
    assert "MACO, − transparency, − crop, − noise, − augmentations 384; Fourier 256." in files["flexivit_ablation.md"]
    for name in ("flexivit.tex", "flexivit_ablation.tex", "comparison.tex"):
        assert "Methods had different numbers of forward-backward passes" in files[name]
    equal = made(six(), tmp_path / "equal")
    assert not any("Warning" in text for text in equal.values())


def test_the_comparison_is_among_those_that_see_the_same_and_says_who_sees_what(tmp_path: Path) -> None:
    rows = [
        record(name, metric("plausibility", value, 0.01), metric("logit", 1.0), sees=sees)
        for name, value, sees in (
            ("maco", 0.6, "natural spectrum"), ("fourier", 0.7, "nothing"), ("cbr", 0.65, "nothing"),
            ("vital", 0.5, "50 images of the class"), ("vital_b", 0.55, "50 images of the class"),
        )
    ]  # fmt: skip
    page = made(rows, tmp_path)["comparison.md"]
    best = [name for name, cells in block(page, "plausibility ↓")[0].items() if "**" in cells[0]]
    assert best == ["cbr", "vital"]
    assert "In bold the best of the methods that see the same" in page
    assert "Best method in bold" not in page
    said = "fourier, cbr: nothing; maco: natural spectrum; vital, vital_b: 50 images of the class."
    assert page.count(f"what a method may see besides the network: {said}") == page.count("In bold the best")
    assert "* best of the methods that see the same" in tables.text_block(rows)
    alike = [record(r.method, *r.metrics, sees="nothing") for r in rows]
    assert "Best method in bold" in made(alike, tmp_path / "alike")["comparison.md"]
    assert "* best method" in tables.text_block(alike)


def test_a_row_that_was_scored_over_grey_says_so(tmp_path: Path) -> None:
    opaque = metric(TOP1, 0.5, definition={"text": "Top-1 on the whole canvas, without transparency."})
    through = record("maco", opaque, config={"evaluation": {"transparency": True}})
    page = made([through, record("cbr", opaque)], tmp_path)["flexivit.md"]
    assert "for maco: Top-1 on the whole canvas, over a middle grey by its transparency" in page
    assert "for cbr: Top-1 on the whole canvas, without transparency" in page
    (line,) = re.findall("^- maco: .*$", page, re.MULTILINE)
    assert "scored over a middle grey by its transparency" in line


def test_a_suite_with_one_of_the_methods_has_no_comparison(tmp_path: Path) -> None:
    assert "comparison.md" not in made(
        [record("maco", metric("fid", 1.0)), record("zeta", metric("fid", 2.0))], tmp_path
    )


def test_the_files_hold_the_same_numbers_and_as_many_cells_in_every_row(tmp_path: Path) -> None:
    pairs = [(six(), "flexivit_ablation", 18), (two_models(), "comparison", 2 * 5 * (6 + 7))]
    for records, stem, count in pairs:
        files = made(records, tmp_path / stem)
        data = pd.read_csv(tmp_path / stem / "quick" / f"{stem}.csv")
        assert len(data) == count
        by_cell = {(r.alias, r.method): r for r in records}
        for row in data.to_dict("records"):
            found = by_cell.get((row["alias"], row["method"]))
            m = found.metric(row["metric"]) if found else None
            if m is None:
                assert pd.isna(row["value"])
                assert isinstance(row["absent"], str)
            else:
                assert row["value"] == m.value
                assert (None if pd.isna(row["low"]) else (row["low"], row["high"])) == m.interval
                assert row["n"] == m.n
        for table in markdown_tables(files[f"{stem}.md"]):
            assert {len(row) for row in table} == {len(table[0])}
        check_latex(files[f"{stem}.tex"])
    assert set(data.loc[data["metric"] == "top1_ours.in1k", "label"]) == {"Top-1, ours"}  # the target on ours alone
    theirs = data.set_index(["alias", "method", "metric"])["paper"]
    assert theirs["vit", "cbr", "fid"] == 268.59
    assert theirs["vit", "maco", TOP1] == 0.5
    assert theirs.loc["ours"].isna().all()


def check_latex(text: str) -> None:
    """Braces close, environments nest, and every row of a tabular has as many cells as its columns."""
    content = re.sub(r"\\[{}\\&%]", "", re.sub(r"(?m)^%.*$", "", text.replace(r"\\" + "\n", "\n")))
    depth = 0
    for c in content:
        depth += {"{": 1, "}": -1}.get(c, 0)
        assert depth >= 0
    assert depth == 0
    open_: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", content):
        assert kind == "begin" or open_.pop() == name
        if kind == "begin":
            open_.append(name)
    assert open_ == []
    tabulars = re.findall(r"\\begin\{tabular\}\{(l+r*)\}(.*?)\\end\{tabular\}", text, re.DOTALL)
    assert tabulars
    for columns, body in tabulars:
        rows = [line for line in body.splitlines() if line.endswith(r" \\")]
        assert len(rows) > 1
        assert {len(re.split(r"(?<!\\)&", row)) for row in rows} == {len(columns)}
    assert content.isascii() or not re.search(r"[^\x00-\x7fÀ-ÿ]", content)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles(tmp_path: Path) -> None:
    written = tables.build([*two_models(), *six(suite="other")], tmp_path)
    inputs = "".join(
        rf"\input{{{p.relative_to(tmp_path).as_posix()}}}\clearpage" for p in written if p.suffix == ".tex"
    )
    packages = r"\usepackage{booktabs}\usepackage{graphicx}"
    page = rf"\documentclass{{article}}{packages}\begin{{document}}{inputs}\end{{document}}"
    (tmp_path / "page.tex").write_text(page, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]


def test_layouts_do_not_depend_on_the_order_of_the_records(tmp_path: Path) -> None:
    records = [*two_models(), *six(suite="other")]
    one, other = made(records, tmp_path / "a"), made(records[::-1], tmp_path / "b")
    assert one == other
    assert list(one) == list(other)
