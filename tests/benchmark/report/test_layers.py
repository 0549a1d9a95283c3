"""Tables a layer: means over a layer's units against NumPy, and what is left out."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import scipy.stats
from sample_records import metric, record

from benchmark.records.record import units_hash
from benchmark.report import tables

UNITS = ("301", "7", "blocks.4-0@0", "blocks.4-0@1", "blocks.4-1@0", "blocks.4-1@1", "block-s.1-3-r2c4")
VALUES = (0.5, 1.0, 0.1, 0.3, 0.6, None, 0.25)


def of(method: str, values=VALUES):
    known = [v for v in values if v is not None]
    scored = metric("excess_activation", float(np.mean(known)), 0.1, group="excess", values=tuple(values))
    whole = metric("fid", 3.0, 0.1)
    return record(
        method, scored, whole, units=UNITS, labels=UNITS, units_hash=units_hash(UNITS), n=len(UNITS), failed_units=()
    )


def test_a_layers_mean_is_that_of_its_units_and_seeds_are_one_draw():
    parts = tables.by_layer([of("maco"), of("noise", [None] * 2 + list(VALUES[2:]))])
    assert list(parts) == ["classes", "blocks.4", "block-s.1"]
    (classes,) = parts["classes"]  # noise has no class
    assert classes.units == ("301", "7")
    (found,) = classes.metrics
    assert (found.name, found.value, found.n) == ("excess_activation", 0.75, 2)
    assert found.interval == (0.5, 1.0)
    channels = parts["blocks.4"][0].metrics[0]
    assert channels.value == pytest.approx(np.mean([np.mean([0.1, 0.3]), 0.6]))
    assert channels.n == 2
    assert parts["block-s.1"][0].metrics[0].interval is None
    # Of units in the caption, of images in the column: two channels, four pictures, of which one has no score.
    assert parts["blocks.4"][0].n == 3
    captions = [sheet.caption for _, sheet, _ in tables.layer_sheets([of("maco")])]
    assert captions[1] == "Suite quick: 2 units of flexivit, blocks.4"


def test_a_share_of_a_layers_units_has_a_shares_interval():
    """Fifty of fifty dead, or none, is no certainty: Wilson's interval, by scipy."""
    units = tuple(f"blocks.{layer}-{i}" for layer in (1, 4) for i in range(50))
    for dead in (0, 50):
        values = (1.0,) * 50 + (float(dead > 0),) * 50
        scored = metric("dead_share", float(np.mean(values)), 0.1, group="excess", values=values)
        row = record("maco", scored, units=units, labels=units, units_hash=units_hash(units), n=100, failed_units=())
        theirs = scipy.stats.binomtest(dead, 50).proportion_ci(method="wilson")
        assert tables.by_layer([row])["blocks.4"][0].metrics[0].interval == pytest.approx(tuple(theirs), abs=1e-9)


def test_one_layer_has_no_further_table_and_several_are_written(tmp_path):
    one = of("maco")
    few = dataclasses.replace(
        one, units=UNITS[:2], labels=UNITS[:2], units_hash=units_hash(UNITS[:2]), n=2,
        metrics=tuple(dataclasses.replace(m, values=None) for m in one.metrics),
    )  # fmt: skip
    assert tables.by_layer([few]) == {}
    names = {p.name for p in tables.build([of("maco"), of("fourier")], tmp_path)}
    for layer in ("classes", "blocks.4"):
        for kind in ("md", "csv", "tex"):
            assert any(name.endswith(f"_{layer}.{kind}") for name in names)
    (text,) = (p.read_text() for p in tmp_path.rglob("*_blocks.4.md"))
    assert "0.40" in text
    assert "fid" not in text
