"""Whether a random network's pictures are recognised by chance; intervals against the quadratic that they solve."""

from __future__ import annotations

import html
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_records import TOP1, metric, record

from benchmark.report import tables
from benchmark.report.agreement import agreements
from benchmark.report.gallery import build_page
from benchmark.report.tables.chance import chance_lines, differences, holm, paired
from featvis.intervals import share_interval

HOW = "(chance is 1 in 1000; 95 % intervals)"
RANDOM = "nothing; control: random network"


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_an_intervals_ends_are_where_the_score_test_says_95_percent(case):
    hits, n = case
    share, z = hits / n, 1.959963984540054
    # (share - p)^2 = z^2 p (1 - p) / n, in p.
    ends = sorted(np.roots([1 + z * z / n, -(2 * share + z * z / n), share * share]).real)
    assert share_interval(np.arange(n) < hits, np.ones(n)) == pytest.approx(ends, abs=1e-6)


def test_each_random_row_says_which_judges_are_at_chance():
    def top1(name: str, hits: int):
        return metric(name, hits / 20, label=f"Top-1, {name}", group="transferability", n=20)

    rows = [
        record("maco", top1(TOP1, 20), top1("top1_b", 10), sees="nothing"),
        record("maco_random", top1(TOP1, 0), top1("top1_b", 0), sees=RANDOM),
        record("das_random", top1(TOP1, 2), top1("top1_b", 0), sees=RANDOM),
        record("cbr_random", top1(TOP1, 1), sees=RANDOM),
        record("am_random", metric(TOP1, None), sees=RANDOM),
        record("maco_wrong", top1(TOP1, 0), sees="nothing; control: wrong images"),
    ]
    low, high = (100 * end for end in share_interval(np.arange(20) < 2, np.ones(20)))
    assert math.isclose(high, 30.1, abs_tol=0.05)
    found = [line.replace(HOW, "*") for line in chance_lines(rows)]
    assert found == [
        "maco_random, of a network with random weights: within chance for all 2 judges, whose top-1 is 16.1 % "
        "at most *.",
        "das_random, of a network with random weights: within chance for the other judges, whose top-1 is "
        f"16.1 % at most; above chance for Top-1, {TOP1} (2 of 20, {low:.1f} to {high:.1f} %) *.",
        f"cbr_random, of a network with random weights: above chance for Top-1, {TOP1} (1 of 20, 0.9 to 23.6 %) *.",
    ]
    sheet = tables.sheets(rows)[0]
    assert "- maco_random, of a network with random weights" in tables.markdown(sheet)


def test_chance_is_one_in_the_classes_of_each_judge():
    """Five of fifty are what a judge of ten classes guesses, and far above what one of a thousand does."""

    def top1(name: str, **facts):
        about = {"text": "Top-1.", **facts}
        return metric(name, 0.1, 0.08, label=name, group="transferability", n=50, definition=about)

    (line,) = chance_lines([record("maco_random", top1("top1_a"), top1("top1_own", classes=10), sees=RANDOM)])
    assert "within chance for the other judges, whose top-1 is 18.0 % at most" in line
    assert "above chance for top1_a (5 of 50, 2.0 to 18.0 %)" in line
    assert line.endswith("(chance is 1 in 1000, and for top1_own 1 in 10; 95 % intervals).")
    (line,) = chance_lines([record("maco_random", top1("top1_own", classes=10), sees=RANDOM)])
    assert line.endswith(
        "within chance for the judge, whose top-1 is 18.0 % at most (chance is 1 in 10; 95 % intervals)."
    )


def test_the_terminal_and_the_page_say_what_the_table_says_of_chance(tmp_path):
    rows = [
        record("maco", metric(TOP1, 1.0, n=20)), record("maco_random", metric(TOP1, 0.0, n=20), sees=RANDOM),
    ]  # fmt: skip
    (line,) = chance_lines(rows)
    assert line in tables.text_block(rows)
    assert line in html.unescape(build_page(rows, tmp_path, agreements(rows)).read_text())


def test_what_is_said_of_chance_is_what_the_table_has():
    """Five pictures a class are fewer than fifty independent ones: the record's own interval says how many fewer."""
    row = record("maco_random", metric(TOP1, 0.0, group="transferability", n=50, interval=(0.0, 0.093)), sees=RANDOM)
    (line,) = chance_lines([row])
    assert "whose top-1 is 9.3 % at most" in line
    above = metric(TOP1, 0.1, group="transferability", n=50, interval=(0.012, 0.31))
    assert (
        "above chance for Top-1, vgg16_tv (5 of 50, 1.2 to 31.0 %)"
        in chance_lines([record("a", above, sees=RANDOM)])[0]
    )


@given(st.lists(st.integers(-4, 4), max_size=9))
def test_a_paired_difference_is_judged_by_every_way_its_signs_could_have_fallen(changes):
    sums = [abs(sum(s * c for s, c in zip(signs, changes, strict=True))) for signs in _signs(len(changes))]
    assert paired(changes) == pytest.approx(np.mean(np.array(sums) >= abs(sum(changes))))


def _signs(n: int) -> list[tuple[int, ...]]:
    return list(itertools.product((-1, 1), repeat=n))


def test_where_there_are_too_many_ways_some_thousand_are_drawn_always_the_same():
    changes = np.random.default_rng(1).normal(0.3, 1.0, 60)
    found = paired(changes)
    # Of many differences the sum is normal: what is expected of it in closed form, to what ten thousand draws can tell.
    z = abs(changes.sum()) / math.sqrt(np.square(changes).sum())
    assert found == pytest.approx(math.erfc(z / math.sqrt(2)), abs=0.01) == pytest.approx(0.04, abs=0.03)
    assert paired(changes) == found


def test_pictures_are_paired_by_unit_and_units_have_one_difference_each():
    units = ("3", "3@1", "5", "5@1", "8")
    x = metric(TOP1, 0.6, values=(1.0, 1.0, 0.0, 1.0, None))
    y = metric(TOP1, 0.25, values=(0.0, 1.0, 0.0, 0.0))
    one, other = record("maco", x, units=units), record("fourier", y, units=("5@1", "5", "3", "8"))
    # 3: 1 - 0; 5: 0 - 1, 5@1: 1 - 0; 3@1 and 8 have a score in one of them alone.
    assert differences(one, x, other, y) == [1.0, 0.0]
    assert differences(one, x, other, metric(TOP1, 0.4)) == []


def test_holms_correction():
    """Holm 1979: the smallest p times their number, never smaller than the one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
