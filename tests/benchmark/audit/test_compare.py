"""A number of a record beside what follows from its images: what is an accusation, a remark, or nothing at all."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest
from sample_records import TOP1, metric, record

import featvis
from benchmark.audit import plans
from benchmark.audit.compare import compare, source_of
from benchmark.audit.verify import Report
from benchmark.records.record import Measurement
from benchmark.scoring.plan import Plan

UNITS = ("301", "323", "340", "386")
OURS = {"featvis": featvis.__version__}
WEIGHTS = {"evaluation": {"weights": {"vgg16": "0a"}}}
LOGIT = metric("logit", 5.0, values=(2.0, 4.0, 6.0, 8.0))
SHARE = metric(TOP1, 0.5, values=(1.0, 0.0, 1.0, 0.0))


def found(said: list[Measurement], again: list[Measurement], *, gone=(), away=None, **changes) -> Report:
    report = Report()
    changes = {"units": UNITS, "versions": OURS, "config": WEIGHTS} | changes
    compare(record("maco", *said, **changes), {m.name: m for m in again}, report, away, gone)
    return report


def of(measurement: Measurement, *values: float | None) -> Measurement:
    return dataclasses.replace(measurement, values=values)


def test_what_another_processor_rounds_otherwise_is_the_same():
    near = found([of(LOGIT, 2.0, 4.0003, 5.9996, 8.0004), SHARE], [LOGIT, of(SHARE, 1.0, 0.0, 1.0, 1.0)])
    assert (near.problems, near.unchecked, near.numbers) == ([], [], 2)
    # What lies near zero among larger ones is as exact as these, and no more.
    zero = of(metric("logit", 0.0), 10.0, -10.0, 0.001, -0.001)
    assert found([zero], [of(zero, 10.0, -10.0, 0.002, -0.002)]).problems == []


@pytest.mark.parametrize(
    ("said", "follows", "words"),
    [
        # The means are the same in all of them, so that nothing but the units' own numbers can tell.
        (of(LOGIT, 4.0, 2.0, 6.0, 8.0), LOGIT, "Logit: 2 of 4 values are .* (of 301 it is 4 in the record, but 2 f"),
        (of(LOGIT, 2.0, 4.0, 6.0, None), LOGIT, "1 of 4 values are .* (of 386 it is none in the record, but 8 follows"),
        (LOGIT, of(LOGIT, None, 4.0, 6.0, 8.0), "1 of 4 values are .* (of 301 it is 2 in the record, but none follows"),
        (of(SHARE, 0.0, 1.0, 1.0, 0.0), SHARE, "2 of 4 values are .* (of 301 it is 0 in the record, but 1 follows"),
    ],
)
def test_numbers_of_units_that_do_not_follow_are_caught(said, follows, words):
    said = dataclasses.replace(said, label=said.label.capitalize())
    (problem,) = found([said], [follows]).problems
    for word in words.split(" .* "):
        assert word in problem


def test_of_scores_of_units_one_unit_may_turn_with_all_its_pictures_and_no_two():
    units = ("301@0", "301@1", "323@0", "323@1")
    score = metric("identification_vgg16", 0.5, group="identification", values=(1.0, 1.0, 0.0, 0.0))
    assert found([score], [of(score, 0.0, 0.0, 0.0, 0.0)], units=units).problems == []
    assert len(found([score], [of(score, 0.0, 0.0, 1.0, 1.0)], units=units).problems) == 1


def test_records_without_numbers_of_units_are_older_and_nothing_is_said_of_them():
    plain = dataclasses.replace(LOGIT, values=None)
    older = found([plain], [LOGIT])
    assert (older.problems, older.unchecked) == ([], [])
    removed = found([plain, SHARE], [LOGIT, SHARE])
    assert removed.problems == []
    assert removed.unchecked == [
        "flexivit / maco: logit: the record lacks its values of units, which it has of other numbers"
    ]
    assert found([LOGIT], [plain]).problems == [
        "flexivit / maco: logit: the record has values of units, and none follow from the images"
    ]
    nothing = of(metric("logit", None), None, None, None, None)
    assert found([nothing], [dataclasses.replace(nothing, values=None)]).problems == [], "there is no number in it"


def test_a_number_that_was_taken_away_is_caught_where_nothing_was_lacking():
    none = metric(TOP1, None)
    text = "flexivit / maco: Top-1, vgg16_tv has no value in the record (no weights), but 0.5 of 4 follows from its"
    (problem,) = found([none], [SHARE]).problems
    assert problem.startswith(text)
    # The network was not there, and the record says so where it says what scored it.
    excused = found([none], [SHARE], gone={"vgg16.tv_in1k"})
    assert (excused.problems, excused.unchecked) == ([], [])
    # Whether it was, an older record does not say; and another version may not have been able to.
    for changes in ({"config": {"evaluation": {"unavailable": []}}}, {"versions": {"featvis": "0.1.0"}}):
        doubtful = found([none], [SHARE], **changes)
        assert doubtful.problems == []
        assert doubtful.unchecked[0].startswith(text)
    fid = metric("fid", 30.0)
    assert found([metric("fid", None)], [fid], gone={"inception"}).problems == []
    assert len(found([metric("fid", None)], [fid]).problems) == 1


def test_a_number_that_is_not_in_a_record_at_all_is_told_and_no_accusation():
    more = found([LOGIT], [LOGIT, SHARE, metric("fid", None)])
    assert more.problems == []
    assert more.unchecked == ["flexivit / maco: the record lacks numbers that follow from its images: Top-1, vgg16_tv"]
    assert found([LOGIT], [LOGIT, SHARE], versions={}).unchecked[0].endswith("(it is of featvis unknown)")
    assert found([LOGIT], [LOGIT, SHARE], gone={"vgg16.tv_in1k"}).unchecked == []


def test_what_is_not_here_is_not_compared():
    away = found([SHARE, LOGIT], [of(SHARE, 0.0, 1.0, 0.0, 1.0), LOGIT], away={"vgg16.tv_in1k": "other weights"})
    assert (away.problems, away.numbers) == ([], 1)
    assert away.unchecked == ["flexivit / maco: Top-1, vgg16_tv: other weights"]


def test_networks_are_found_in_columns_by_their_aliases_and_tags(classifier):
    plan = Plan(
        out="", suite="quick", model="efficientnet_lite0", classifiers=["efficientnet_lite1", "wrap:nets/mine.yaml"],
        frechet="efficientnet_lite0", data=None, seed=0, units=[], labels=[], canvas=[8, 8], rows=[],
        unavailable={"efficientnet_lite1": "a", "wrap:nets/mine.yaml": "b", "inception": "c"},
    )  # fmt: skip
    networks = {"efficientnet_lite0": classifier, "wrap:nets/mine.yaml": SimpleNamespace(alias="wrap-mine", name="M")}
    away = plans.reasons(plan, networks)
    said = {
        "top1_tf_efficientnet_lite1.in1k": "a", "frechet_efficientnet_lite1": "a", "top1_wrap-mine": "b", "fid": "c",
        "logit": None, "top1_tf_efficientnet_lite0.in1k": None, "clip_top1": None,
    }  # fmt: skip
    assert {name: away.get(str(source_of(name))) for name in said} == said
    evaluation = {"unavailable": ["efficientnet_lite1", "dinov2_vitl14"], "weights": {"inception": None, "words": "0a"}}
    gone = plans.gone(plan, networks, evaluation)
    assert {name for name in (*said, "top1_efficientnet_lite1", "kid") if source_of(name) in gone} == {
        "top1_tf_efficientnet_lite1.in1k", "top1_efficientnet_lite1", "frechet_efficientnet_lite1", "fid", "kid",
    }  # fmt: skip
    assert plans.gone(plan, networks, {}) == set(), "an older record does not say it"
