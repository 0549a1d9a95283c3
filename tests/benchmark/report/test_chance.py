"""Whether a random network's pictures are recognised by chance; intervals against the quadratic that they solve."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_records import TOP1, metric, record

from benchmark.report import tables
from benchmark.report.tables.chance import chance_lines, wilson

HOW = "(chance is 1 in 1000; Wilson's 95 % intervals)"
RANDOM = "nothing; control: random network"


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_an_intervals_ends_are_where_the_score_test_says_95_percent(case):
    hits, n = case
    share, z = hits / n, 1.959963984540054
    # (share - p)^2 = z^2 p (1 - p) / n, in p.
    ends = sorted(np.roots([1 + z * z / n, -(2 * share + z * z / n), share * share]).real)
    assert wilson(hits, n) == pytest.approx(ends, abs=1e-6)


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
    low, high = (100 * end for end in wilson(2, 20))
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
