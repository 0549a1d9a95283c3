from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from sample_records import TOP1, metric, record

from benchmark.records.record import FailedUnit, Record
from benchmark.report import tables
from featvis.errors import UserError


def cells() -> list[Record]:
    """On flexivit; the paper orders plausibility maco, fourier, cbr and FID maco, cbr, fourier."""

    def row(method: str, flat: float, fid: float, top1: float) -> Record:
        return record(
            method, metric("fid", fid, 6.0), metric(TOP1, top1, 0.125), metric("plausibility_flat", flat, 55.0)
        )

    return [
        row("noise", 2700.0, 415.5, 0.25),
        row("zeta", 1900.0, 300.5, 0.5),
        row("cbr", 1850.0, 262.5, 0.5),
        row("maco", 1500.0, 231.25, 0.75),
        row("real", 1050.0, 161.5, 1.0),
        row("fourier", 1720.0, 250.0, 0.5),
    ]


def body(text: str) -> dict[str, list[str]]:
    """The first Markdown table of a page: its rows by their first cell."""
    lines = [line for line in text.split("\n\n")[2].splitlines() if line.startswith("|")]
    return {line.split("|")[1].strip(): [c.strip() for c in line.strip("|").split("|")][1:] for line in lines}


def test_rows_and_columns_stand_in_a_fixed_order_with_the_papers_numbers_beside() -> None:
    text = tables.markdown(tables.sheets(cells())[0])
    rows = body(text)
    assert list(rows) == ["method", "---", "real", "maco", "fourier", "cbr", "zeta", "noise"]
    expected = ["Plausibility, flat ↓", "paper", "fid ↓", "paper", "Top-1, vgg16_tv ↑", "paper"]
    assert rows["method"] == [*expected, "n", "s / image", "passes / image", "steps × views"]
    maco = ["**1500** [1445, 1555]", "1473", "**231.2** [225.2, 237.2]", "230.68", "**75 %** [62, 88]", "64 %"]
    assert rows["maco"] == [*maco, "4", "10.1", "384", "96 × 4"]
    assert rows["cbr"][:6] == ["1850 [1795, 1905]", "1866", "262.5 [256.5, 268.5]", "247.12", "50 % [38, 62]", ""]
    assert rows["real"][:2] == ["1050 [995, 1105]", ""]
    assert rows["real"][-3:] == ["—", "—", "—"]


def test_the_best_is_bold_by_direction_and_never_a_reference() -> None:
    data = tables.frame(cells())
    best = data[data["best"]].groupby("metric")["method"].agg(list).to_dict()
    assert best == {"plausibility_flat": ["maco"], "fid": ["maco"], TOP1: ["maco"]}
    tied = tables.frame(
        [record("maco", metric("logit", 8.0)), record("cbr", metric("logit", 8.0)), record("am", metric("logit", 7.0))]
    )
    assert list(tied[tied["best"]]["method"]) == ["maco", "cbr"]


def test_a_distance_on_its_floor_is_never_bold() -> None:
    """Of fewer images than dimensions a Fréchet distance is mostly its floor; of as many it is not."""

    def bold(n: int, **definition: object) -> bool:
        values = {"maco": 200.0, "cbr": 300.0}
        facts = {"group": "frechet", "n": n, "definition": {"text": "Fréchet.", **definition}}
        rows = [record(name, metric("frechet_lite1", value, **facts)) for name, value in values.items()]
        return bool(tables.frame(rows)["best"].any())

    assert not bold(1279, dimension=1280)
    assert bold(1280, dimension=1280)
    assert bold(10), "an older record does not say its dimension"


def test_reference_rows_stand_around_the_methods_by_the_names_people_read() -> None:
    rows = [record(m, metric("logit", 1.0)) for m in ("noise", "maco", "real_other", "natural", "real", "zeta")]
    changed = metric("logit", 2.0, definition={"text": "Another."})
    rows[2] = record("real_other", changed)
    sheet = tables.sheets(rows)[0]
    assert [r.method for r in sheet.rows] == ["real", "natural", "maco", "zeta", "real, other classes", "noise"]
    assert [r.reference for r in sheet.rows] == [True, True, False, False, True, True]
    text = dict(sheet.definitions)["logit ↑"]
    assert "for real, natural, maco, zeta, noise: What logit means; for “real, other classes”: Another" in text
    assert list(tables.frame(rows)["method"])[4] == "real_other", "files and CSV have the record's name"
    assert not tables.frame(rows)["best"][4]


def test_the_ordering_line_says_when_the_papers_order_holds_and_when_not() -> None:
    lines = tables.sheets(cells())[0].orderings
    assert lines[0].startswith("Plausibility, flat: the paper's ordering, maco, fourier, cbr (best first), holds.")
    assert lines[1] == (
        "fid: the paper's ordering, maco, cbr, fourier (best first), does not hold: here maco, fourier, cbr."
    )
    assert lines[2].startswith("Top-1, vgg16_tv: the paper's ordering, maco, fourier (best first), holds")
    assert lines[2].endswith("the intervals of maco and fourier overlap.")
    one = tables.sheets([record("maco", metric("fid", 1.0)), record("real", metric("fid", 0.5))])[0]
    assert "cannot be judged" in one.orderings[0]
    tie = tables.sheets([record("maco", metric("fid", 1.0)), record("fourier", metric("fid", 1.0))])[0]
    assert "does not hold" in tie.orderings[0]


def test_another_model_or_a_stand_in_network_has_no_paper_column() -> None:
    other = tables.sheets([record("maco", metric("fid", 231.0), alias="efficientnet_lite0")])[0]
    stand_in = tables.sheets([record("maco", metric("frechet_mobilenet", 231.0, group="frechet"))])[0]
    assert [c.head for sheet in (other, stand_in) for c in sheet.columns if c.head == "paper"] == []
    assert other.orderings == ()


def test_the_papers_numbers_are_those_of_its_tables() -> None:
    assert tables.paper_values("vit", "plausibility_flat") == {"maco": 1097, "fourier": 1817, "cbr": 1920}
    assert tables.paper_values("resnetv2", "fid") == {"maco": 312.66, "fourier": 318.15, "cbr": 346.41}
    transfer = {e["metric"]: tables.paper_values("flexivit", e["metric"]) for e in tables.paper()["comparison"][2:]}
    published = {
        "mobilenetv1_100.ra4_e3600_r224_in1k": (0.68, 0.38),
        "vgg16.tv_in1k": (0.64, 0.30),
        "legacy_xception.tf_in1k": (0.85, 0.61),
        "tf_efficientnet_b0.in1k": (0.88, 0.25),
        "convnext_tiny.fb_in1k": (0.96, 0.52),
        "densenet121.tv_in1k": (0.84, 0.32),
    }
    assert transfer == {f"top1_{tag}": {"maco": maco, "fourier": fourier} for tag, (maco, fourier) in published.items()}
    third = tables.paper()["ablation"]["rows"]
    assert (third[0]["plausibility"], third[-1]["logit"]) == (571.68, 12.4)


def test_an_absent_value_is_a_dash_with_its_reason_once() -> None:
    records = [record("maco", metric("fid", None)), record("cbr", metric("fid", None)), record("fourier")]
    text = tables.markdown(tables.sheets(records)[0])
    rows = body(text)
    assert rows["maco"][0] == rows["cbr"][0] == "— <sup>1</sup>"
    assert rows["fourier"][0] == "— <sup>2</sup>"
    assert "<sup>1</sup> no weights<br>" in text
    assert "<sup>2</sup> this metric was not evaluated for this row<br>" in text


def test_a_failed_cell_is_a_row_that_says_so() -> None:
    failed = record("maco", status="failed", error="out of memory | at 50 % of a_b")
    text = tables.markdown(tables.sheets([failed, record("cbr", metric("fid", 3.0))])[0])
    assert body(text.replace(r"\|", "!"))["maco"][0] == "failed: out of memory ! at 50 % of a_b"
    alone = tables.sheets([failed])
    assert "failed: out of memory" in tables.markdown(alone[0])
    assert "failed: out of memory" in tables.latex(alone[0])
    assert tables.frame([failed])["absent"].tolist() == ["failed: out of memory | at 50 % of a_b"]


def test_csv_gives_the_numbers_back(tmp_path: Path) -> None:
    records = [*cells(), record("am", status="failed", error="no"), record("xi", metric("fid", None))]
    written = tables.build(records, tmp_path)
    assert [p.relative_to(tmp_path).as_posix() for p in written] == [
        f"quick/{stem}.{s}" for stem in ("flexivit", "comparison") for s in ("md", "csv", "tex")
    ]
    data = pd.read_csv(written[1])
    rows = {(row["method"], row["metric"]): row for row in data.to_dict("records")}
    maco = rows["maco", "fid"]
    assert [maco[k] for k in ("value", "low", "high", "n", "paper")] == [231.25, 225.25, 237.25, 4, 230.68]
    assert [rows["fourier", TOP1][k] for k in ("value", "paper")] == [0.5, 0.3]
    assert rows["xi", "fid"]["absent"] == "no weights"
    assert data["value"].dtype == float
    assert data["value"].isna().sum() == data["absent"].notna().sum() == 3 + 3
    assert len(data) == 8 * 3


def test_latex_escapes_what_latex_reads() -> None:
    failed = record("x_y", status="failed", error="50 % of {a}_b & c # $d ~ ^ \\")
    text = tables.latex(tables.sheets([*cells(), failed])[0])
    content = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    assert not re.search(r"(?<!\\)[_#]", content)
    assert not re.search(r"(?<!\\)%", content)
    assert r"50 \% of \{a\}\_b \& c \# \$d \textasciitilde{} \textasciicircum{} \textbackslash{}" in content
    assert r"\textbf{75 \%} [62, 88]" in content
    assert content.isascii()
    for row in re.findall(r"\\midrule\n(.*?)\n\\bottomrule", text, re.DOTALL):
        width = {line.count(" & ") for line in row.splitlines() if "multicolumn" not in line}
        assert len(width) == 1


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles(tmp_path: Path) -> None:
    failed = record("x_y", status="failed", error="50 % of {a}_b & c # $d ~ ^ \\ → ü 漢")
    table = next(p for p in tables.build([*cells(), failed], tmp_path) if p.suffix == ".tex")
    page = (
        r"\documentclass{article}\usepackage{booktabs}\usepackage{graphicx}\begin{document}\input{TABLE}\end{document}"
    )
    (tmp_path / "page.tex").write_text(page.replace("TABLE", table.relative_to(tmp_path).as_posix()), encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"],
        cwd=tmp_path,
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-2000:]


def test_definitions_runs_and_warnings_stand_under_the_table() -> None:
    maco = record(
        "maco",
        metric("fid", 231.0, definition={"text": "Distance.", "extractor": "InceptionV3", "k": None}),
        failed_units=(FailedUnit("301", 7, "not finite"),),
    )
    cbr = record("cbr", metric("fid", 250.0, definition={"text": "Another."}), units=("9",), device="cuda")
    sheet = tables.sheets([maco, cbr])[0]
    definition = dict(sheet.definitions)["fid ↓"]
    assert definition.startswith("for maco: Distance (extractor: InceptionV3); for cbr: Another.")
    assert "lower is better" in definition
    assert maco.units_hash in sheet.warnings[0]
    assert "do not compare" in tables.markdown(sheet)
    runs = "\n".join(sheet.runs)
    assert "commit a1b2c3d; versions torch 2.14.1" in sheet.runs[0]
    assert "1 of 2 units failed: 301 (step 7: not finite)" in runs
    assert "device cuda" in sheet.runs[2]
    assert tables.sheets(cells())[0].warnings == ()


def test_rows_of_other_photographs_or_weights_are_warned_of():
    """A copy of a data set has another fingerprint, a network of the same name may have other weights."""

    def row(method: str, bank: str, weights: dict[str, str], status: str = "done") -> Record:
        evaluation = {"data": {"bank": {"fingerprint": bank, "images": 9, "name": "val"}}, "weights": weights}
        return record(method, metric("fid", 3.0), config={"evaluation": evaluation}, status=status)

    ours = row("maco", "aa11", {"judge": "c0", "inception": None})
    older = record("cbr", metric("fid", 3.0), config={})
    (sheet,) = tables.sheets([ours, row("fourier", "aa11", {"judge": "c0"}), older])
    assert sheet.warnings == ()
    (sheet,) = tables.sheets([ours, older, row("mine", "bb22", {"judge": "d1"}), row("broken", "ff", {}, "failed")])
    assert sheet.warnings == (
        "Rows were compared with other photographs and do not compare: maco aa11; mine bb22.",
        "Rows were scored by other weights of judge and do not compare: maco c0; mine d1.",
    )


@pytest.mark.parametrize(
    ("values", "half", "expected"),
    [
        ((12.3, 15.61), 1.25, "12.3 [11.1, 13.6]"),
        ((1473.2, 1600.0), 55.0, "1473 [1418, 1528]"),
        ((0.0123, 0.5), 0.0012, "0.0123 [0.0111, 0.0135]"),
        ((5.123, 8.18), None, "5.12"),
        ((0.0, 0.0), None, "0.00"),
    ],
)
def test_a_column_has_the_digits_its_intervals_bear(
    values: tuple[float, float], half: float | None, expected: str
) -> None:
    first, second = values
    sheet = tables.sheets([record("maco", metric("x", first, half)), record("cbr", metric("x", second, half))])[0]
    cell = sheet.rows[0].cells[0]
    assert f"{cell.text} {cell.interval}".strip() == expected


def test_the_short_forms_hold_every_metric_and_method() -> None:
    block = tables.readme_block([*cells(), record("am_x", status="failed", error="out of memory")])
    lines = block.splitlines()
    assert lines[2] == "|  | real | maco | fourier | cbr | am_x | zeta | noise |"
    assert lines[4] == "| Plausibility, flat ↓ | 1050 | **1500** | 1720 | 1850 | failed | 1900 | 2700 |"
    terminal = tables.text_block([*cells(), record("am_x", metric("fid", None))])
    assert "1500*" in terminal
    assert "(1) " in terminal
    assert "does not hold: here maco, fourier, cbr" in terminal
    assert len({line.index("real") for line in terminal.splitlines() if "real  " in line}) == 1


def test_records_that_contradict_each_other_or_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="direction of fid"):
        tables.frame([record("maco", metric("fid", 1.0)), record("cbr", metric("fid", 1.0, higher_is_better=True))])
    with pytest.raises(UserError, match="no record"):
        tables.build([], tmp_path)


def test_tables_do_not_depend_on_the_order_of_the_records(tmp_path: Path) -> None:
    one, other = tables.build(cells(), tmp_path / "a"), tables.build(reversed(cells()), tmp_path / "b")
    assert [p.read_bytes() for p in one] == [p.read_bytes() for p in other]
