"""What an analysis says of answers that are known: proportions, agreement, exclusions, files, power."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from commands import check_sentence, tree
from scipy import special, stats
from sklearn.metrics import cohen_kappa_score
from small_study import participation, small_study

from benchmark.cli import main
from benchmark.records.record import Record
from benchmark.study.analysing import exclusions, reading
from benchmark.study.analysing.numbers import agreement, model, proportions
from benchmark.study.analysing.simulate import Truth, chance_of_finding, logit_of, needed, simulate
from benchmark.study.config import Exclusions
from benchmark.study.taking.store import FILE, Store
from featvis.errors import UserError

TRUTH = Truth(
    {("maco", "cnn"): 1.4, ("maco", "vit"): 0.9, ("olah", "cnn"): 0.5, ("olah", "vit"): 0.1},
    people=0.4,
    units=0.5,
    lapse=0.05,
)


def test_the_bootstraps_intervals_hold_the_truth_at_their_rate():
    """Over 200 simulated studies of 16 people a condition, for the units that these have."""
    rng, held = np.random.default_rng(3), []
    units = {network: rng.normal(0, TRUTH.units, 10) for network in ("cnn", "vit")}
    truth = replace(TRUTH, logits={cell: logit for cell, logit in TRUTH.logits.items() if cell[0] == "maco"})
    right = {network: truth.proportion(("maco", network), effects) for network, effects in units.items()}
    for _ in range(200):
        found = proportions(simulate(truth, 16, 10, 2, rng, units), resamples=300).set_index("network")
        held += [found.loc[name, "low"] <= true <= found.loc[name, "high"] for name, true in right.items()]
    assert 0.92 <= np.mean(held) <= 0.98


def test_where_all_are_right_the_interval_is_wilsons_over_people():
    """Five people, three answers each: 15 of 15, with t of four degrees in the place of the normal quantile."""
    rows = pd.DataFrame(
        {"participant": np.repeat(list("abcde"), 6), "condition": "maco", "network": ["cnn", "vit"] * 15,
         "correct": [1, 0] * 15}
    )  # fmt: skip
    found = proportions(rows).set_index("network")
    squared = stats.t.ppf(0.975, 4) ** 2
    assert found.loc["cnn", ["low", "high"]].tolist() == pytest.approx([15 / (15 + squared), 1])
    assert found.loc["vit", ["low", "high"]].tolist() == pytest.approx([0, squared / (15 + squared)])
    assert 0 < found.loc["all networks", "low"] <= 0.5 <= found.loc["all networks", "high"] < 1


def test_a_known_effect_is_found_and_one_that_is_not_there_is_not():
    rng = np.random.default_rng(5)
    found = model(simulate(TRUTH, 24, 12, 2, rng))
    contrast = found.contrasts.set_index("contrast").loc["maco - olah"]
    assert contrast["holm"] < 0.001
    assert contrast["low"] < 0.85 < contrast["high"] + 0.1
    nothing = Truth(dict.fromkeys(TRUTH.logits, 0.5))
    p = [model(simulate(nothing, 10, 5, 2, rng)).tests.set_index("test").loc["condition", "p"] for _ in range(20)]
    assert np.mean(np.array(p) < 0.05) < 0.2
    assert stats.kstest(p, "uniform").pvalue > 0.001


def test_agreement_is_cohens_kappa_as_scikit_learn_has_it():
    rng = np.random.default_rng(0)
    choices = np.where(rng.random((5, 30)) < 0.6, "left", "right")
    rows = pd.DataFrame(
        [(f"p{i}", "maco", f"t{j}", choices[i, j]) for i in range(5) for j in range(30) if (i + j) % 7],
        columns=["participant", "condition", "trial", "choice"],
    )
    wide = rows.pivot_table("choice", "participant", "trial", aggfunc="first")
    expected = []
    for i in range(5):
        for j in range(i):
            both = wide.iloc[[i, j]].dropna(axis=1)
            expected.append(cohen_kappa_score(*both.to_numpy()))
    found = agreement(rows).iloc[0]
    assert found["kappa"] == pytest.approx(np.mean(expected))
    assert found["pairs"] == 10


def test_each_rule_leaves_out_whom_it_is_for(tmp_path):
    _, trials = small_study(tmp_path)
    fine = [participation(trials, f"fine{i}") for i in range(3)]
    known = {t.id: t for t in trials.shown()}
    careless = participation(trials, "careless")
    for answer in careless["answers"]:
        if known[answer["trial"]].kind == "catch":
            answer["choice"] = {"left": "right", "right": "left"}[answer["choice"]]
    lefty = participation(trials, "lefty")
    for answer in lefty["answers"]:
        answer["choice"] = "left"
    given = [
        *fine, careless, lefty,
        participation(trials, "hasty") | {"instructions_ms": 19_999.0},
        participation(trials, "quick") | {"total_ms": 89_000.0},
        participation(trials, "slow") | {"total_ms": 901_000.0},
        participation(trials, "lost") | {"answers": [], "practice_rounds": 6},
    ]  # fmt: skip
    kept, excluded = exclusions.exclude(reading.of_participations([("x", g) for g in given], trials), Exclusions())
    assert sorted(kept.people["participant"]) == ["fine0", "fine1", "fine2"]
    named = {rule: who for rule, who in excluded.by_rule.items() if who}
    assert named.pop("catch trials under 60%")[0] == "careless"
    assert named == {
        "instructions under 20 s": ["hasty"],
        "total under 90 s": ["quick"],
        "total over 900 s": ["slow"],
        "more than 5 practice rounds": ["lost"],
        "one side only": ["lefty"],
        "no trial answered": ["lost"],
    }
    with pytest.raises(UserError, match="all 1 participants are excluded"):
        exclusions.exclude(reading.of_participations([("x", given[-2])], trials), Exclusions())


def test_the_same_answers_from_a_database_and_from_files_give_the_same_page(tmp_path, capsys):
    study = tmp_path / "study"
    _, trials = small_study(study)
    store = Store(study / FILE, trials.study, trials.hash, list(trials.conditions))
    (tmp_path / "files").mkdir()
    rng = np.random.default_rng(0)
    for i in range(12):
        given = participation(trials, f"p{i}", list(trials.conditions)[i % 3])
        for answer in given["answers"]:
            if rng.random() < 0.3:
                answer["choice"] = {"left": "right", "right": "left"}[answer["choice"]]
        store.add(reading.check(given, trials))
        (tmp_path / "files" / f"{i:02}.json").write_text(json.dumps(given))
    args = ["--study", str(study), "--rules", "none"]
    assert main(["study", "analyse", str(study / FILE), *args, "--out", str(tmp_path / "a")]) == 0
    assert main(["study", "analyse", str(tmp_path / "files"), *args, "--out", str(tmp_path / "b")]) == 0
    said = capsys.readouterr().out
    assert "all networks" in said
    a, b = tree(tmp_path / "a"), tree(tmp_path / "b")
    assert a.keys() == b.keys()
    same = [name for name in a if "records" not in name]
    assert [name for name in same if a[name] != b[name]] == []
    assert {f"tables/proportions.{ending}" for ending in ("csv", "md", "tex")} <= set(a)
    assert b"DOCTYPE" in a["report.html"].upper()
    record = Record.read(tmp_path / "a" / "records" / "near" / "maco.json")
    table = pd.read_csv(tmp_path / "a" / "tables" / "proportions.csv").set_index(["condition", "network"])
    right = [
        answer["choice"] == trials.right(next(t for t in trials.trials if t.id == answer["trial"]), f"p{i}")
        for i in (0, 3, 6, 9)
        for answer in json.loads((tmp_path / "files" / f"{i:02}.json").read_text())["answers"]
        if answer["trial"].startswith("tnear") and "catch" not in answer["trial"]
        and next(t for t in trials.trials if t.id == answer["trial"]).kind == "trial"
    ]  # fmt: skip
    assert record.metrics[0].value == pytest.approx(np.mean(right)) == table.loc[("MACO", "near"), "correct"]


def test_answers_that_cannot_be_taken_are_named_and_the_others_kept(tmp_path):
    _, trials = small_study(tmp_path)
    other = participation(trials, "ann", "olah")
    given = [
        ("1.json", participation(trials, "ann")), ("2.json", other), ("3.json", participation(trials, "bob")),
        ("4.json", {"study": "small"}), ("5.json", participation(trials, "bob")),
    ]  # fmt: skip
    found = reading.of_participations(given, trials)
    assert list(found.people["participant"]) == ["bob"]
    assert len(found.refused) == 2
    assert "ann took part in two conditions" in found.refused[0]
    assert found.refused[1].startswith("4.json")


def test_a_table_of_somebody_elses(tmp_path, capsys):
    simulate(TRUTH, 8, 5, 2, np.random.default_rng(0)).to_csv(tmp_path / "all.csv", index=False)
    assert main(["study", "analyse", str(tmp_path / "all.csv"), "--out", str(tmp_path / "out")]) == 0
    table = pd.read_csv(tmp_path / "all.csv")
    table.drop(columns=["network", "correct"]).to_csv(tmp_path / "few.csv", index=False)
    capsys.readouterr()
    before = tree(tmp_path)
    cases = {
        ("few.csv", "--out", "x"): ["few.csv lacks the columns network, correct"],
        ("none.csv",): ["there is no file or folder"],
        ("all.csv", "--rules", "cash_under=1"): ["unknown key cash_under", "catch_under"],
        ("all.csv", "--rules", "catch_under=often"): ["catch_under is 'often'", "a number"],
    }
    for (name, *flags), words in cases.items():
        check_sentence(main(["study", "analyse", str(tmp_path / name), *flags]), capsys.readouterr().err, words)
    assert tree(tmp_path) == before
    table.loc[0, "correct"] = 7
    table.loc[1, "ms"] = 0
    table.loc[len(table)] = table.loc[2]
    table["catch"] = [True, False, False, None, *[False] * (len(table) - 4)]
    table.to_csv(tmp_path / "odd.csv", index=False)
    found = reading.of_table(tmp_path / "odd.csv")
    assert found.refused == (
        "odd.csv, line 2: a value is missing, or correct is neither 0 nor 1",
        "odd.csv, line 3: it was answered in no time",
        f"odd.csv, line {len(table) + 1}: the participant has answered it before",
    )
    assert set(found.rows["kind"]) == {"trial"}
    _, trials = small_study(tmp_path / "study")
    with pytest.raises(UserError, match="no answer that can be used .*line 2"):
        reading.of_table(tmp_path / "odd.csv", trials)


def test_records_of_conditions_that_somebody_else_named(tmp_path):
    """Beside the study's trials, which know no such conditions: a file each, whatever they are called."""
    small_study(tmp_path / "study")
    names = {"our maps": 4, "our_maps": 3, "図": 2, "表": 1}
    truth = Truth({(name, "near"): logit for name, logit in names.items()}, people=0.4, units=0.5, lapse=0.05)
    table = simulate(truth, 8, 5, 2, np.random.default_rng(0)).drop(columns="trial")
    table.to_csv(tmp_path / "all.csv", index=False)
    args = ["--study", str(tmp_path / "study"), "--rules", "none", "--out", str(tmp_path / "out")]
    assert main(["study", "analyse", str(tmp_path / "all.csv"), *args]) == 0
    made = {path.stem: Record.read(path) for path in (tmp_path / "out" / "records" / "near").iterdir()}
    called = {"our_maps_": "our maps", "our_maps": "our_maps", "condition": "図", "condition_": "表"}
    assert {method: record.config["condition"] for method, record in made.items()} == called
    right = table.groupby("condition")["correct"].mean()
    assert {m: r.metrics[0].value for m, r in made.items()} == pytest.approx({m: right[c] for m, c in called.items()})
    assert right["our maps"] != right["our_maps"]


def test_times_that_are_no_numbers_are_not_known_and_said(tmp_path, capsys):
    table = simulate(TRUTH, 8, 5, 2, np.random.default_rng(0))
    table["instructions_s"] = [f"{25 + i % 3} s" if i % 2 else str(30 + i % 3) for i in range(len(table))]
    table["total_s"] = "300"
    table.to_csv(tmp_path / "times.csv", index=False)
    found = reading.of_table(tmp_path / "times.csv")
    more = len(table) // 2 - 1
    assert found.refused == (
        f"times.csv, line 3: instructions_s is no number ('26 s'), nor in {more} other lines; taken for unknown",
    )
    assert set(found.people["total_s"]) == {300.0}
    assert main(["study", "analyse", str(tmp_path / "times.csv"), "--out", str(tmp_path / "out")]) == 0
    assert "is no number ('26 s')" in capsys.readouterr().err


def test_a_simulated_participant_answers_as_many_trials_as_were_asked_for(monkeypatch):
    """Two images a unit: five trials are of three units, the last of which has one."""
    asked = []
    expit = special.expit
    monkeypatch.setattr(special, "expit", lambda at: asked.append(at.shape) or expit(at))
    chance_of_finding(0.6, 0.1, 4, 5, images=2, simulations=2)
    # Besides, the logits of the proportions are found on a grid.
    assert {shape for shape in asked if len(shape) == 2} == {(4, 5)}


def test_power_is_that_of_a_t_test_where_this_has_a_formula():
    """With many trials and no lapses a participant's proportion is about normal: the noncentral t distribution."""
    n, low, high = 20, 0.6, 0.68
    rng = np.random.default_rng(0)
    scores = []
    for p in (low, high):
        truth = Truth({("a", "b"): logit_of(p, 0.4, 0.0)}, people=0.4, units=0.0)
        rows = simulate(truth, 1000, 60, 1, rng)
        scores.append(rows.groupby("participant")["correct"].mean())
    assert [s.mean() for s in scores] == pytest.approx([low, high], abs=0.01)
    effect = (high - low) / np.sqrt((scores[0].var() + scores[1].var()) / 2)
    shift, degrees = effect * np.sqrt(n / 2), 2 * n - 2
    edge = stats.t.ppf(0.975, degrees)
    expected = stats.nct.sf(edge, degrees, shift) + stats.nct.cdf(-edge, degrees, shift)
    found = chance_of_finding(low, high - low, n, 60, people=0.4, units=0.0, images=1, simulations=600)
    assert found == pytest.approx(expected, abs=0.06)
    count, tried = needed(
        0.8, 200, baseline=low, difference=high - low, trials=60, people=0.4, units=0.0, images=1, simulations=150
    )
    assert tried[count] >= 0.8 > max(chance for m, chance in tried.items() if m < 0.8 * count)


def test_power_refuses_what_cannot_be(capsys):
    check_sentence(
        main(["study", "power", "--difference", "0.5"]), capsys.readouterr().err, ["1.1", "cannot be reached"]
    )
    check_sentence(main(["study", "power", "--trials", "0"]), capsys.readouterr().err, ["--trials must be at least 1"])
