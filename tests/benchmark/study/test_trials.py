"""Trials, their order, and what of an answer is refused."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from commands import check_sentence
from hypothesis import given
from hypothesis import strategies as st
from small_study import participation, small_study

from benchmark.cli import main
from benchmark.study.answers import check
from benchmark.study.taking.publish import public, publish
from benchmark.study.trials import mirrored, order, read
from featvis.errors import UserError


@given(st.text(min_size=1, max_size=20), st.integers(0, 1000), st.integers(1, 40))
def test_an_order_is_a_permutation_that_the_order_of_the_file_does_not_change(who, seed, count):
    ids = [f"t{i}" for i in range(count)]
    found = order(seed, who, ids)
    assert sorted(found) == sorted(ids)
    assert order(seed, who, ids[::-1]) == found


def test_orders_have_no_favourites():
    """Each trial stands at each place equally often, over participants; and half of them see mirrored sides."""
    ids, people = [f"t{i}" for i in range(8)], 4000
    first = Counter(order(3, f"p{p}", ids)[0] for p in range(people))
    expected = people / len(ids)
    assert sum((n - expected) ** 2 / expected for n in first.values()) < 24.3  # chi-squared, 7 degrees, p = .001
    assert abs(np.mean([mirrored(3, f"p{p}") for p in range(people)]) - 0.5) < 0.03


def test_trials_that_were_changed_by_hand_are_refused(tmp_path, capsys):
    _, trials = small_study(tmp_path)
    assert read(tmp_path) == trials
    path = tmp_path / "trials.json"
    data = json.loads(path.read_text())
    data["trials"][0]["left"] = "least" if data["trials"][0]["left"] == "most" else "most"
    path.write_text(json.dumps(data))
    with pytest.raises(UserError, match="was changed after it had been made"):
        read(tmp_path)
    check_sentence(main(["study", "status", str(tmp_path)]), capsys.readouterr().err, ["was changed", "hash"])


def test_the_page_is_not_told_which_answers_are_right(tmp_path):
    study, trials = small_study(tmp_path)
    told = public(study, trials)
    counted = [t for t in told["trials"] if t["kind"] == "trial"]
    assert len(counted) == len(trials.shown())
    assert {key for t in counted for key in t} == {"id", "kind", "image", "left", "right", "references"}
    # Nor by their place in the file: sides alternate in the order in which trials are made.
    assert told["trials"] == public(study, replace(trials, trials=trials.trials[::-1]))["trials"]
    assert [t for t in told["trials"] if "answer" in t] == [
        t for t in told["trials"] if t["kind"] in ("practice", "example")
    ]


def test_what_a_kill_and_another_making_have_left_is_not_published(tmp_path):
    study, trials = small_study(tmp_path)
    pictures = tmp_path / "page" / "pictures"
    before = sorted(path.name for path in pictures.iterdir())
    (pictures / ".0a.webp.17-0a1b2c.tmp").write_bytes(b"RIFF")
    (pictures / "0b.webp").write_bytes(b"RIFF")
    publish(study, trials, tmp_path)
    assert sorted(path.name for path in pictures.iterdir()) == before


BAD = {
    "another making": ({"hash": "0" * 64}, "another making"),
    "an unknown condition": ({"condition": "mako"}, "which the study does not have"),
    "a field too many": ({"name": "Ann"}, "unknown key name"),
    "no participant": ({"participant": ""}, "1 to 128"),
    "a control character": ({"participant": "a\nb"}, "can be printed"),
    "times that contradict": ({"total_ms": 5.0}, "contradict each other"),
    "a time that is none": ({"total_ms": float("nan")}, "total_ms is nan"),
}


@pytest.mark.parametrize(("change", "words"), BAD.values(), ids=BAD)
def test_what_is_no_participation_is_refused_in_a_sentence(change, words, tmp_path):
    _, trials = small_study(tmp_path)
    check(participation(trials, "ann"), trials)
    with pytest.raises(UserError, match=words):
        check(participation(trials, "ann") | change, trials)


def test_answers_that_cannot_be_are_refused(tmp_path):
    _, trials = small_study(tmp_path)
    whole = participation(trials, "ann")
    a = whole["answers"]
    cases = {
        "no trial of the study": [{**a[0], "trial": "t0"}, *a[1:]],
        "twice": [a[0], a[0], *a[2:]],
        "out of order": [a[1], a[0], *a[2:]],
        r"answered \d+ of \d+ trials": a[:-1],
        "in no time": [{**a[0], "ms": 0}, *a[1:]],
        "not 1, 2 or 3": [{**a[0], "confidence": 4}, *a[1:]],
        "choice is 'up'": [{**a[0], "choice": "up"}, *a[1:]],
    }
    for words, answers in cases.items():
        with pytest.raises(UserError, match=words):
            check(whole | {"answers": answers}, trials)
    # Whoever did not pass the practice has none; how many rounds that takes is the study's.
    check(whole | {"answers": [], "practice_rounds": 6}, trials)
    strict = replace(trials, exclude=trials.exclude | {"practice_over": 2})
    check(whole | {"answers": [], "practice_rounds": 3}, strict)
    for rounds, words in {2: r"answered 0 of \d+ trials", 4: "at most 3"}.items():
        with pytest.raises(UserError, match=words):
            check(whole | {"answers": [], "practice_rounds": rounds}, strict)
