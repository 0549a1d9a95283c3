"""Whether columns agree: rank correlations against SciPy's, verdicts and mean ranks on records made for them."""

from __future__ import annotations

import dataclasses
import itertools
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_records import metric, record
from scipy import stats

from benchmark.cli import main
from benchmark.records.record import Measurement, Record, load_all
from benchmark.report import agreement as agreements_of
from benchmark.report.agreement import Agreement, agree, agreements, stability
from benchmark.report.agreement.agree import over_units
from benchmark.report.agreement.overview import overview_sheet, stability_sheet
from benchmark.report.agreement.ranks import centred_ranks, correlations, places, resamples, spearman
from benchmark.report.agreement.scores import scores_of
from benchmark.report.agreement.verdicts import bracketing
from benchmark.report.gallery import build_page
from benchmark.report.tables.numbers import by_model

UNITS = ("301", "323", "340", "400", "blocks.2-7")
METHODS = ("maco", "fourier", "cbr", "am")
few = st.integers(0, 4).map(float)


def column(name: str, value: float | None, higher: bool = True, **changes: object) -> Measurement:
    return metric(name, value, higher_is_better=higher, **changes)


def table(columns: dict[str, dict[str, float | None]], lower: tuple[str, ...] = (), **changes: object) -> list[Record]:
    """Records of a table written as {column: {row: value}}."""
    rows = dict.fromkeys(row for values in columns.values() for row in values)
    return [
        record(
            row, *(column(name, v[row], name not in lower, interval=None) for name, v in columns.items() if row in v),
            **changes,
        )
        for row in rows
    ]  # fmt: skip


def agreed(records: list[Record]) -> Agreement:
    found = agree(by_model(records)[0])
    assert isinstance(found, Agreement), found
    return found


# --- ranks ------------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_rank_correlations_are_scipys_with_ties_and_gaps(data: st.DataObject) -> None:
    n = data.draw(st.integers(3, 8))
    rows = st.lists(few | st.just(float("nan")), min_size=n, max_size=n)
    x, y = (np.array(data.draw(rows)) for _ in range(2))
    there = ~np.isnan(x) & ~np.isnan(y)
    if there.sum() < 3 or len(set(x[there])) == 1 or len(set(y[there])) == 1:
        assert np.isnan(spearman(x, y))
    else:
        assert spearman(x, y) == pytest.approx(stats.spearmanr(x[there], y[there])[0], abs=1e-12)
        assert spearman(x, y) == spearman(y, x)


def test_a_resample_is_ranked_as_its_copies_would_be() -> None:
    rng = np.random.default_rng(0)
    scores = np.stack([rng.integers(0, 6, 15).astype(float), rng.normal(size=15), rng.normal(size=15)])
    scores[2, 3] = np.nan
    counts = resamples(15, 20)
    assert (counts.sum(axis=1) == 15).all()
    found = correlations(scores, counts)
    for drawn, rho in zip(counts.astype(int), found, strict=True):
        for a, b in itertools.product(range(3), repeat=2):
            kept = np.repeat(np.arange(15), drawn)
            kept = kept[~np.isnan(scores[a, kept]) & ~np.isnan(scores[b, kept])]
            assert rho[a, b] == pytest.approx(stats.spearmanr(scores[a, kept], scores[b, kept])[0], abs=1e-12)
    np.testing.assert_array_equal(centred_ranks(scores[:1], np.ones((1, 15)))[0, 0], 2 * stats.rankdata(scores[0]) - 16)


@settings(max_examples=30, deadline=None)
@given(values=st.lists(few, min_size=1, max_size=7))
def test_places_are_ranks_from_the_best(values: list[float]) -> None:
    np.testing.assert_array_equal(places(np.array(values)), stats.rankdata([-v for v in values]))


# --- invariances ------------------------------------------------------------------------------------------------------


def same(one: Agreement, other: Agreement) -> None:
    assert one.scores.methods == other.scores.methods
    for name in ("over_methods", "over_rows", "over_units", "low", "high"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for a, b in zip(one.verdicts, other.verdicts, strict=True):
        assert (a.column.name, a.brackets, a.why) == (b.column.name, b.brackets, b.why)
        assert a.target == b.target or (np.isnan(a.target) and np.isnan(b.target))
    assert (one.mean_rank is None) == (other.mean_rank is None)
    if one.mean_rank is not None and other.mean_rank is not None:
        assert one.mean_rank.means == other.mean_rank.means
        assert one.mean_rank.intervals == other.mean_rank.intervals


@st.composite
def tables(draw: st.DrawFn) -> list[Record]:
    """Four methods between real images and noise, three columns, each unit with a score or without one."""
    made = []
    for row in (*METHODS, "real", "noise"):
        measured = []
        for name in ("logit", "fid", "kid"):
            inside = {"real": 9.0, "noise": -9.0}.get(row) if name != "logit" else None
            values = tuple(draw(st.lists(st.none() | few, min_size=len(UNITS), max_size=len(UNITS))))
            measured.append(column(name, draw(few) if inside is None else inside, values=values, interval=None))
        made.append(record(row, *measured, units=UNITS))
    return made


def changed(records: list[Record], name: str, **functions: object) -> list[Record]:
    """The records with a column's values (and its direction) put through a function."""

    def of(m: Measurement) -> Measurement:
        if m.name != name:
            return m
        f = functions["value"]
        values = tuple(None if v is None else f(v) for v in m.values or ())
        return dataclasses.replace(
            m, value=f(m.value), values=values, higher_is_better=functions.get("higher", m.higher_is_better)
        )

    return [dataclasses.replace(r, metrics=tuple(of(m) for m in r.metrics)) for r in records]


@settings(max_examples=10, deadline=None)
@given(records=tables(), name=st.sampled_from(["logit", "fid"]))
def test_a_growing_function_of_a_column_changes_no_correlation(records: list[Record], name: str) -> None:
    one, other = agreed(records), agreed(changed(records, name, value=lambda v: v**3 + 100))
    for matrix in ("over_methods", "over_rows", "over_units", "low", "high"):
        np.testing.assert_array_equal(getattr(one, matrix), getattr(other, matrix))
    assert [(v.brackets, v.why, str(v.target)) for v in one.verdicts] == [
        (v.brackets, v.why, str(v.target)) for v in other.verdicts
    ]
    assert (one.mean_rank is None) == (other.mean_rank is None)
    if one.mean_rank is not None and other.mean_rank is not None:
        assert one.mean_rank.means == other.mean_rank.means


@settings(max_examples=10, deadline=None)
@given(records=tables(), name=st.sampled_from(["logit", "fid"]))
def test_a_column_read_the_other_way_round_says_the_same(records: list[Record], name: str) -> None:
    same(agreed(records), agreed(changed(records, name, value=lambda v: -v, higher=False)))


@settings(max_examples=10, deadline=None)
@given(records=tables(), data=st.data())
def test_the_order_of_rows_and_of_units_does_not_matter(records: list[Record], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(UNITS))))

    def shuffled(m: Measurement) -> Measurement:
        assert m.values is not None
        return dataclasses.replace(m, values=tuple(m.values[i] for i in order))

    other = [
        dataclasses.replace(r, units=tuple(UNITS[i] for i in order), metrics=tuple(shuffled(m) for m in r.metrics))
        for r in data.draw(st.permutations(records))
    ]
    same(agreed(records), agreed(other))


# --- over the units ---------------------------------------------------------------------------------------------------


def with_units(row: str, units: tuple[str, ...], **columns: list[float | None]) -> Record:
    measured = [column(name, 1.0, values=tuple(values), interval=None) for name, values in columns.items()]
    return record(row, *measured, units=units)


def test_over_units_is_the_mean_of_the_methods_own_correlations() -> None:
    units = ("301", "323", "340", "400")
    rows = {
        "maco": ([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0]),  # 1
        "fourier": ([1.0, 2.0, 3.0, None], [1.0, 3.0, 2.0, 9.0]),  # 0.5
        "cbr": ([1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0]),  # -1
        "noise": ([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0]),  # plays no part
    }
    records = [with_units(row, units, logit=a, fid=b) for row, (a, b) in rows.items()]
    found = agreed(records)
    assert found.has_units
    assert found.over_units[0, 1] == found.over_units[1, 0] == pytest.approx((1 + 0.5 - 1) / 3)
    assert found.low[0, 1] <= found.over_units[0, 1] <= found.high[0, 1]
    assert not agreed(table({n: dict.fromkeys(METHODS, 1.0) for n in ("logit", "fid")})).has_units


def test_units_of_several_layers_are_compared_within_their_layer() -> None:
    """Else any two columns agree that have one layer's units above another's."""
    units = ("301", "323", "340", "blocks.2-1", "blocks.2-2-r3c4", "blocks.2-7")
    own = {"logit": [1.0, 2.0, 3.0, 11.0, 12.0, 13.0], "fid": [3.0, 2.0, 1.0, 13.0, 12.0, 11.0]}
    records = [with_units(m, units, **own) for m in METHODS]
    assert agreed(records).over_units[0, 1] == -1
    assert stats.spearmanr(own["logit"], own["fid"])[0] > 0


def test_a_layer_has_an_agreement_of_its_own(tmp_path: Path) -> None:
    """Of classes the column has the methods in the opposite order of what it says of channels."""
    units = ("301", "323", "340", "blocks.2-1", "blocks.2-2", "blocks.2-7")
    levels = {"real": 9.0, "maco": 3.0, "fourier": 2.0, "cbr": 1.0, "noise": -9.0}
    records = []
    for row, level in levels.items():
        turned = 4 - level if abs(level) < 9 else level
        afc = [level] * 3 + [turned] * 3
        excess = [level] * 6
        measured = [
            column(name, float(np.mean(v)), values=tuple(v), interval=None)
            for name, v in (("afc_easy_net", afc), ("excess_activation", excess))
        ]
        records.append(record(row, *measured, units=units))
    found = agreements(records)
    assert [a.layer for a in found if isinstance(a, Agreement)] == ["", "classes", "blocks.2"]
    rho = [next(v.target for v in a.verdicts if v.column.name == "afc_easy_net") for a in found]
    assert np.isnan(rho[0])
    assert rho[1:] == [1, -1]
    names = [p.name for p in agreements_of.write(records, found, tmp_path)]
    assert names[::3] == [
        "flexivit_agreement.md", "flexivit_classes_agreement.md", "flexivit_blocks.2_agreement.md", "agreement.md",
    ]  # fmt: skip
    page = (tmp_path / "agreement.md").read_text()
    assert "| column | brackets in | quick | quick, classes | quick, blocks.2 |" in page
    text = (tmp_path / "quick" / "flexivit_classes_agreement.md").read_text()
    assert "# Do the columns agree? flexivit, suite quick, classes\n" in text
    assert "ρ with the excess_activation" in text
    assert len(agreements_of.draw(found, tmp_path / "agreement.png")) == 1
    page = build_page(records, tmp_path, found).read_text(encoding="utf-8")
    assert page.count("Which columns to believe") >= 3
    ids = re.findall(r'id="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_seeds_are_averaged_within_a_unit() -> None:
    units = ("301@0", "301@1", "323@0", "323@1", "340")
    records = [with_units(m, units, logit=[1.0, 5.0, 2.0, None, 9.0], fid=[0.0, 0.0, 1.0, 3.0, 4.0]) for m in METHODS]
    scores = scores_of(records)
    assert scores.units == ("301", "323", "340")
    logit, fid = (scores.values[[c.name for c in scores.columns].index(name), 0] for name in ("logit", "fid"))
    np.testing.assert_array_equal(logit, [3, 2, 9])
    np.testing.assert_array_equal(fid, [0, 2, 4])


def test_the_interval_over_units_tightens_around_the_correlation() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for n in (20, 180):
        units = tuple(str(i) for i in range(n))
        records = []
        for method in METHODS:
            x = rng.normal(size=n)
            y = x + rng.normal(size=n)
            records.append(with_units(method, units, logit=x.tolist(), fid=y.tolist()))
        value, low, high = (m[0, 1] for m in over_units(scores_of(records)))
        expected = 6 / np.pi * np.arcsin(np.sqrt(0.5) / 2)  # of a Gaussian's correlation (Kruskal 1958)
        assert low < expected < high
        assert low < value < high
        widths.append(high - low)
    assert widths[1] == pytest.approx(widths[0] / 3, rel=0.5)


# --- verdicts ---------------------------------------------------------------------------------------------------------

BETWEEN = {"real": 10.0, "maco": 8.0, "fourier": 5.0, "cbr": 2.0, "noise": 1.0}
BRACKETS = {
    "yes": ({}, True, ""),
    "better than real": ({"maco": 11.0}, False, "maco: better than real"),
    "as good": ({"maco": 10.0, "fourier": 10.0}, False, "maco, fourier: as good as real"),
    "worse than noise": ({"cbr": 0.5}, False, "cbr: worse than noise"),
    "as bad": ({"cbr": 1.0}, False, "cbr: as bad as noise"),
    "both": ({"maco": 11.0, "cbr": 0.0}, False, "maco: better than real; cbr: worse than noise"),
    "natural goes first": ({"maco": 11.0, "natural": 12.0}, True, ""),
    "real_other is no competitor": ({"real_other": 99.0}, True, ""),
    "natural below a method": ({"natural": 7.0}, False, "maco: better than natural"),
    "no ceiling": ({"real": None}, None, "no value for real or natural"),
    "no floor": ({"noise": None}, None, "no value for noise"),
    "no ceiling and outside": (
        {"real": None, "cbr": 0.5},
        False,
        "cbr: worse than noise; no value for real or natural",
    ),
    "neither": ({"real": None, "noise": None}, None, "no value for real or natural; no value for noise"),
    "a method without a value": ({"am": None}, True, ""),
}


@pytest.mark.parametrize("higher", [True, False])
@pytest.mark.parametrize("case", BRACKETS)
def test_what_brackets_and_what_lies_outside(case: str, higher: bool) -> None:
    changes, brackets, why = BRACKETS[case]
    values = {row: v if v is None or higher else -v for row, v in (BETWEEN | changes).items()}
    records = table({"fid": values, "logit": dict.fromkeys(values, 1.0)}, lower=() if higher else ("fid",))
    scores = scores_of(records)
    (fid,) = [c for c in scores.columns if c.name == "fid"]
    assert bracketing(scores, fid) == (brackets, why)


def test_a_row_of_which_few_have_a_score_is_no_ceiling() -> None:
    """The most exciting photographs, where there is one a class: those of wrong classes alone are near to another."""

    def row(name: str, value: float, n: int, units: int) -> Record:
        return record(name, metric("fid", -value, n=n), metric("kid", -value, n=units), metric("logit", value, n=50))

    rows = [row(name, value, 50, 10) for name, value in BETWEEN.items()]
    for n, units, fid, kid in ((44, 9, True, False), (45, 9, False, False), (50, 8, False, True)):
        scores = scores_of([*rows, row("natural", 7.0, n, units)])
        found = {c.name: bracketing(scores, c)[0] for c in scores.columns}
        assert (found["fid"], found["kid"]) == (fid, kid), (n, units)


def test_over_several_tables_no_network_is_called_the_target() -> None:
    def rows(alias: str, mark: str) -> list[Record]:
        return [
            record(name, metric("kernel_a", -v, label=f"Kernel, a{mark}"), metric("logit", v), suite=alias, alias=alias)
            for name, v in BETWEEN.items()
        ]

    found = [agreed(rows("a", ", the target")), agreed(rows("b", ", same family"))]
    sheet = overview_sheet(found)
    assert [row.method for row in sheet.rows if "Kernel" in row.method] == ["Kernel, a ↓"]
    assert "Kernel, a (2 of 2)" in sheet.remarks[-1]
    assert "the target;" not in " ".join(sheet.remarks)
    assert "same family" not in " ".join(sheet.remarks)
    both = stability(by_model([*rows("a", ", the target"), *rows("b", ", same family")]))
    assert {row.method for row in stability_sheet(both).rows} == {"Kernel, a ↓", "logit ↑"}


def test_what_brackets_only_just_says_so() -> None:
    halves = {"real": 2.5, "maco": 0.5, "fourier": 0.5, "cbr": 0.2, "noise": 0.7}
    records = [
        record(r, metric("fid", v, halves[r], higher_is_better=True), metric("logit", v)) for r, v in BETWEEN.items()
    ]
    scores = scores_of(records)
    said = [bracketing(scores, c)[1] for c in scores.columns if c.name == "fid"]
    assert said == ["only just: the intervals of real and maco overlap"]


def test_a_column_in_the_order_of_the_logit_is_monotone_whichever_way_it_is_read() -> None:
    values = dict(zip(METHODS, (1.0, 2.0, 3.0, 4.0), strict=True))
    columns = {
        "logit": values | {"real": 2.5},
        "fid": {m: v**2 for m, v in values.items()} | {"real": 99.0},
        "kid": {m: -v for m, v in values.items()} | {"real": 0.0},
        "tv": values | {"am": 2.0},
        "ssim": {m: min(v, 3.0) for m, v in values.items()},
        "error": dict.fromkeys(METHODS, 1.0),
    }
    found = {v.column.name: v for v in agreed(table(columns, lower=("fid",))).verdicts}
    assert {name: v.monotone for name, v in found.items()} == {
        "logit": False, "fid": True, "kid": True, "tv": False, "ssim": False, "error": False,
    }  # fmt: skip
    assert (found["fid"].target, found["kid"].target) == (-1, -1)
    assert np.isnan(found["error"].target)
    # Channels have no logit, but an activation.
    channels = {("excess_activation" if name == "logit" else name): v for name, v in columns.items()}
    again = {v.column.name: v for v in agreed(table(channels, lower=("fid",))).verdicts}
    assert [name for name, v in again.items() if v.monotone] == [name for name, v in found.items() if v.monotone]
    without = agreed(table({name: columns[name] for name in ("fid", "kid")})).verdicts
    assert [v.monotone for v in without] == [False, False]


# --- mean rank --------------------------------------------------------------------------------------------------------


def between(**methods: float) -> dict[str, float | None]:
    return {"real": 100.0, "noise": -100.0, **methods}


def test_the_mean_rank_is_over_the_columns_that_bracket_alone() -> None:
    columns = {
        "logit": {"maco": 1.0, "fourier": 3.0, "cbr": 2.0, "real": 0.0, "noise": -1.0},  # above real
        "fid": between(maco=3.0, fourier=2.0, cbr=1.0),  # 1 2 3
        "kid": between(maco=2.0, fourier=3.0, cbr=2.0),  # 2.5 1 2.5
        "tv": {"maco": 1.0, "fourier": 3.0, "cbr": 2.0},  # not known
    }
    rank = agreed(table(columns)).mean_rank
    assert rank is not None
    assert [c.name for c in rank.columns] == ["fid", "kid"]
    assert dict(zip(rank.methods, rank.means, strict=True)) == {"maco": 1.75, "fourier": 1.5, "cbr": 2.75}
    np.testing.assert_array_equal(rank.each, [[1, 2, 3], [2.5, 1, 2.5]])
    # Of two columns one in four resamples has the first twice, and one the second.
    assert rank.intervals == ((1, 2.5), (1, 2), (2.5, 3))
    one = agreed(table({name: columns[name] for name in ("logit", "fid")})).mean_rank
    assert one is not None
    assert one.means == [1, 2, 3]
    assert one.intervals == (None, None, None)
    assert agreed(table({name: columns[name] for name in ("logit", "tv")})).mean_rank is None


def ranked(**values: list[float]) -> dict[str, tuple[float, float] | None]:
    """The intervals of the mean rank over one column, whose values are the means of the units'."""
    units = tuple(str(i) for i in range(len(next(iter(values.values())))))
    rows = {"real": [100.0] * len(units), "noise": [-100.0] * len(units)} | values
    records = [
        record(
            row, column("fid", float(np.mean(v)), values=tuple(v), interval=None),
            column("logit", 0.0, interval=None), units=units,
        )
        for row, v in rows.items()
    ]  # fmt: skip
    rank = agreed(records).mean_rank
    assert rank is not None
    assert [c.name for c in rank.columns] == ["fid"]
    return dict(zip(rank.methods, rank.intervals, strict=True))


def test_units_are_resampled_together_for_all_methods() -> None:
    rng = np.random.default_rng(0)
    hard = rng.normal(size=30) * 10
    # However the units are drawn, each method keeps its distance from the others.
    fixed = ranked(maco=(hard + 0.2).tolist(), fourier=(hard + 0.1).tolist(), cbr=hard.tolist())
    assert fixed == {"maco": (1, 1), "fourier": (2, 2), "cbr": (3, 3)}
    # Here chance decides which units, and so who leads.
    loose = ranked(maco=(hard + 0.2).tolist(), fourier=rng.permutation(hard).tolist(), cbr=[-99.0] * 30)
    assert loose == {"maco": (1, 2), "fourier": (1, 2), "cbr": (3, 3)}


def test_what_is_absent_is_left_out_of_the_mean_rank_and_named() -> None:
    most = {"maco": 5.0, "fourier": 4.0, "cbr": 3.0, "am": 2.0}
    columns = {
        "logit": {"real": 0.0, **most, "zeta": 1.0, "eta": 7.0, "theta": 8.0, "noise": -1.0},
        "fid": between(**most, zeta=1.0, eta=0.5, theta=0.1),
        "kid": between(**most, zeta=1.0, eta=0.5),
        "tv": between(maco=1.0, fourier=2.0, cbr=3.0),
    }
    rank = agreed(table(columns)).mean_rank
    assert rank is not None
    assert [c.name for c in rank.columns] == ["fid", "kid"]
    assert rank.methods == ("maco", "fourier", "cbr", "am", "eta", "zeta")
    assert rank.left_out == (
        ("tv", "fewer than half of the methods have a value"),
        ("theta", "it lacks a value in a column that counts"),
    )


# --- over suites, and what is too little ------------------------------------------------------------------------------


def test_a_columns_order_is_compared_between_tables_over_the_methods_that_both_have() -> None:
    fid = {"maco": 1.0, "fourier": 2.0, "cbr": 3.0, "am": 4.0}
    one = table({"fid": fid | {"real": 0.0}, "kid": {"maco": 1.0, "fourier": 2.0}}, suite="one")
    other = table({"fid": {"cbr": 5.0, "maco": 2.0, "fourier": 4.0, "real": 9.0}, "kid": {"maco": 1.0}}, suite="two")
    third = table({"fid": {"maco": 9.0, "fourier": 8.0, "xi": 7.0}}, suite="three")
    (found,) = stability(by_model([*one, *other, *third]))
    assert (found.column.name, found.first[:2], found.second[:2]) == ("fid", ("one", "flexivit"), ("two", "flexivit"))
    assert (found.methods, found.correlation) == (("maco", "fourier", "cbr"), 1)


def test_too_few_rows_are_one_sentence_and_a_column_that_few_have_is_named() -> None:
    two = table({"fid": {"maco": 1.0, "cbr": 2.0, "real": 0.0}, "kid": {"maco": 1.0, "cbr": 2.0}})
    said = agree(two)
    assert isinstance(said, str)
    assert "flexivit, suite quick: 2 methods" in said
    assert "from 3 methods" in said
    columns = {
        "fid": dict.fromkeys(METHODS, 1.0) | {"cbr": 2.0},
        "logit": dict.fromkeys(METHODS, 1.0) | {"maco": 2.0},
        "kid": {"maco": 1.0, "cbr": 2.0, "am": None, "real": 3.0},
    }
    failed = record("zeta", status="failed", error="out of memory")
    found = agreed([*table(columns), failed])
    assert {c.name for c in found.scores.columns} == {"fid", "logit"}
    assert found.scores.left_out == (("kid", "2 of the 4 methods have a value (no weights)"),)
    assert "zeta" not in found.scores.methods


# --- what is written --------------------------------------------------------------------------------------------------


def whole() -> list[Record]:
    units = tuple(str(i) for i in range(8))
    rng = np.random.default_rng(1)
    made = []
    for row, level in (("real", 9.0), ("maco", 6.0), ("fourier", 5.0), ("cbr", 3.0), ("noise", 0.0)):
        values = (level + rng.random(8)).tolist()
        made.append(
            record(
                row,
                column("plausibility_flat", -float(np.mean(values)), False, values=tuple(-v for v in values)),
                column("logit", {"cbr": 40.0}.get(row, level), values=tuple(values)),
                column("fid", {"noise": 2.0}.get(row, 9 - level), False),
                units=units,
                n=8,
            )
        )
    return made


def test_the_files_say_what_was_found(tmp_path: Path) -> None:
    records = [*whole(), *(dataclasses.replace(r, suite="again") for r in whole())]
    found = agreements(records)
    paths = agreements_of.write(records, found, tmp_path)
    assert [p.relative_to(tmp_path).as_posix() for p in paths] == [
        f"{stem}.{suffix}"
        for stem in ("again/flexivit_agreement", "quick/flexivit_agreement", "agreement")
        for suffix in ("md", "csv", "tex")
    ]
    page = paths[3].read_text()
    assert "# Do the columns agree? flexivit, suite quick\n" in page
    assert "| Plausibility, flat ↓ | **yes** | -0.50 | 0.40 |  |" in page
    assert re.search(r"\| fid ↓ \| no <sup>\d</sup> \| -0.50 \|", page)
    assert "maco, fourier, cbr: worse than noise<br>" in page
    assert "- 1 of 3 columns (Plausibility, flat) brackets the methods.\n" in page
    assert "| maco | **1.0** [1.0, 1.0] | 1 |" in page
    assert "within a method" in page
    data = pd.read_csv(paths[4])
    (rho,) = data[(data.what == "rows") & (data.column == "plausibility_flat") & (data.other == "logit")]["value"]
    assert rho == -0.5
    assert set(data[data.what == "brackets"].set_index("column")["value"].to_dict().items()) == {
        ("plausibility_flat", 1.0), ("logit", 0.0), ("fid", 0.0),
    }  # fmt: skip
    units = data[(data.what == "units")]
    assert len(units) == 1
    tex = paths[5].read_text()
    assert tex.count(r"\begin{table}") == tex.count(r"\end{table}") == 4
    assert r"$\rho$ with the logit" in tex
    assert "Against the paper" not in tex
    page = paths[6].read_text()
    assert "| Plausibility, flat ↓ | 2 of 2 | **yes** | **yes** |" in page
    assert "- In every table that can say, these bracket: Plausibility, flat.\n" in page
    assert "- In none: fid; logit.\n" in page
    assert "| logit ↑ | 1 | 1.00 | 1.00 | again and quick (3 methods) |" in page
    data = pd.read_csv(paths[7])
    assert data.groupby("what")["value"].sum().to_dict() == {"brackets": 2, "order": 3}


def test_the_figure_has_the_columns_headings_and_its_verdicts(tmp_path: Path) -> None:
    short = table({"fid": {"maco": 1.0}, "logit": {"maco": 1.0}}, suite="other")
    found = agreements([*whole(), *short])
    (path,) = agreements_of.draw(found, tmp_path / "agreement.svg")
    assert path.name == "agreement-quick-flexivit.svg"
    text = path.read_text(encoding="utf-8")
    for expected in ("Plausibility, flat ↓", "logit ↑", "fid ↓", "over 3 methods", "within a method, over 8 units"):
        assert f"<!-- {expected} -->" in text
    assert text.count("<!-- ● -->") == 1
    assert text.count("<!-- ○ -->") == 2
    assert agreements_of.draw(agreements(short), tmp_path / "none.png") == []


def test_the_page_tells_it(tmp_path: Path) -> None:
    found = agreements(whole())
    page = build_page(whole(), tmp_path, found).read_text(encoding="utf-8")
    assert "Do the columns agree?" in page
    assert "Mean rank over the columns that bracket" in page
    ids = re.findall(r'id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)
    assert "Do the columns agree?" not in build_page(whole(), tmp_path).read_text(encoding="utf-8")


def test_the_command_reads_a_folder_of_records_or_a_run(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    for r in whole():
        r.write(r.record_path("run"))
    (tmp_path / "run" / "plan.json").write_text("{}")
    assert main(["agree", "--records", "run", "--out", "out"]) == 0
    said = capsys.readouterr().out
    assert "| Plausibility, flat ↓ | **yes** | -0.50 | 0.40 |  |" in said
    assert "out/figures/agreement.png" in said
    assert (tmp_path / "out/tables/quick/flexivit_agreement.md").is_file()
    assert main(["agree", "--records", "run/records", "--suite", "quick", "--out", "out"]) == 0
    assert len(load_all("run/records")) == 5
    for args, words in (
        (["--records", "run", "--suite", "quik"], "did you mean quick"),
        (["--records", "out"], "holds no record"),
    ):
        assert main(["agree", *args, "--out", "no"]) == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "no").exists()
    for method in ("cbr", "fourier"):
        (tmp_path / "run/records/flexivit" / f"{method}.json").unlink()
    assert main(["agree", "--records", "run", "--out", "no"]) == 2
    assert "1 method and 0 columns to compare" in capsys.readouterr().err
