"""The benchmark of speed: what it says is there, adds up, and comes from what was run; never how fast that was."""

from __future__ import annotations

import dataclasses
import itertools
import json
from types import SimpleNamespace

import pytest
import timm
import torch
from commands import ROOT, Refusals
from lightning import seed_everything
from sample_records import TOP1, metric, record

from benchmark.cli import main
from benchmark.perf import measure, parts, peers, worker
from benchmark.perf import passes as speed
from benchmark.perf import record as perf_records
from benchmark.records.record import Budget
from benchmark.report import costs, tables
from featvis import engine
from featvis.engine import switch
from featvis.engine.switch import PARTS
from featvis.generators import passes
from featvis.networks.units import parse_units

PEERS = ROOT / ".peers"


@pytest.fixture
def refused(tmp_path, capsys, monkeypatch) -> Refusals:
    monkeypatch.chdir(tmp_path)
    return Refusals(tmp_path, capsys)


WRONG = {
    "network": (["perf", "--models", "efficientnet_lit0"], ["--models efficientnet_lit0", "efficientnet_lite0"]),
    "method": (["perf", "--methods", "maca"], ["maca", "did you mean maco"]),
    "no method": (["perf", "--methods", ","], ["--methods is empty"]),
    "batch": (["perf", "--batches", "8*4"], ["--batches 8*4", "for example 8x4"]),
    "batch of nothing": (["perf", "--memory", "0x4"], ["--memory 0x4", "from 1 to 4096"]),
    "canvas": (["perf", "--canvas", "8"], ["--canvas must be between 16 and 8192, not 8"]),
    "seconds": (["perf", "--seconds", "0"], ["--seconds must be between 0 and 3600, not 0"]),
    "precision": (["perf", "--precision", "float16"], ["--precision must be", "float32", "not float16"]),
    "out": (["perf", "--out", "/dev/null/x"], ["--out /dev/null/x", "not a folder"]),
    "no libraries": (["perf-peers", "--folder", "nowhere"], ["--folder nowhere", "horama", "make perf-peers"]),
    "layer for peers": (["perf-peers", "--units", "blocks.2:0"], ["--units blocks.2:0", "classes"]),
    "crops for peers": (["perf-peers", "--crops", "0"], ["--crops must be between 1 and 1024, not 0"]),
}


@pytest.mark.parametrize(("args", "words"), WRONG.values(), ids=WRONG)
def test_bad_input(refused, args, words):
    refused(args, *words)


def test_a_record_adds_up(tmp_path, monkeypatch, capsys):
    # Few rounds and small matrices: the numbers must add up, however rough they are.
    monkeypatch.setattr(measure, "REPEATS", (2, 2))
    monkeypatch.setattr(measure, "SIDE", 256)
    code = main([
        "perf", "--models", "efficientnet_lite0,test_vit.r160_in1k", "--methods", "maco",
        "--batches", "1x2,4096x64", "--memory", "", "--parts", "1x1", "--canvas", "64", "--seconds", "20",
        "--processes", "false", "--out", str(tmp_path),
    ])  # fmt: skip
    assert code == 0
    printed = capsys.readouterr().out
    (path,) = tmp_path.glob("perf-*.json")
    found = perf_records.read(path)
    assert path.with_suffix(".md").read_text() == perf_records.markdown(found)
    assert path.with_suffix(".md").read_text().strip() in printed
    assert [(t.model, t.random_weights, t.method) for t in found.timings] == [
        ("tf_efficientnet_lite0.in1k", False, "maco"),
        ("test_vit.r160_in1k", True, "maco"),
    ]
    # A step of 262,144 views takes more than 20 seconds on any CPU: it is left out, and said to be.
    assert [(o.units, o.views) for o in found.left_out] == [(4096, 64)] * 2
    assert printed.count("Left out: ") == 2
    for t in found.timings:
        # The stages are the step, taken apart.
        assert sum(t.stages_ms.values()) == pytest.approx(t.step_ms)
        assert set(t.stages_ms) == set(perf_records.STAGES)
        assert t.network_ms > 0
        assert t.shipped_ms > 0
        assert t.share == pytest.approx(t.gflop / (t.step_ms / 1000) / t.matrices)
    assert {p.part for p in found.parts} == {*PARTS, parts.ALL}
    assert {(p.model, p.method, p.units, p.views) for p in found.parts} == {
        ("tf_efficientnet_lite0.in1k", "maco", 1, 1)
    }
    assert all(f"| {p.part} " in printed for p in found.parts)
    data = json.loads(path.read_text())
    data["timings"][0]["overhead"] = "little"
    path.write_text(json.dumps(data))
    with pytest.raises(perf_records.UserError, match="overhead"):
        perf_records.read(path)


class Machine:
    """A clock that work moves on by what is written down for it, a round after the other."""

    def __init__(self, monkeypatch, step) -> None:
        self.now = 0.0
        clock = SimpleNamespace(perf_counter=lambda: self.now)
        for module in (measure, parts):
            monkeypatch.setattr(module, "time", clock)
            monkeypatch.setattr(module, "generator", lambda *arguments: SimpleNamespace(step=step))
            monkeypatch.setattr(module, "started", lambda *arguments: None)
        monkeypatch.setattr(measure, "REPEATS", (3, 3))
        monkeypatch.setattr(engine, "prepare", lambda: None)

    def works(self, *seconds: float):
        """Something that takes so long from call to call, and from then on as long as at last."""
        left = list(seconds)

        def work(*arguments) -> None:
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return work


def test_a_row_is_the_medians_of_its_rounds(classifier, monkeypatch):
    """Seconds for 2 units of 4 views; the first call of each warms up, and is not counted."""
    shares = {"decode": 0.5, "network": 1.5, "optimiser": 2.0}

    def step(state) -> None:
        stepped()
        for name, seconds in shares.items():
            with passes.stage(name):
                machine.now += seconds if passes.stage is not usual else 0.0

    machine, usual = Machine(monkeypatch, step), passes.stage
    stepped = machine.works(999.0, 8.0, 16.0, 48.0, 0.0)
    # One unit of one view, to see how long a round takes; then all.
    floors = [machine.works(999.0, 1.0), machine.works(999.0, 4.0, 2.0, 6.0), machine.works(999.0, 8.0, 1.0, 4.0)]

    class Floor:
        def __init__(self, method, units, shipped=False) -> None:
            self.inputs, self.work = [torch.zeros(1)], floors.pop(0)
            assert shipped == (not floors)

        def __call__(self) -> None:
            self.work()

    monkeypatch.setattr(measure, "Floor", Floor)
    product = machine.works(999.0, 2.0, 4.0, 3.0)
    monkeypatch.setattr(measure.Matrices, "__call__", lambda self: product())
    monkeypatch.setattr(measure, "SIDE", 64)
    found = measure.measure("maco", classifier, False, 2, 4, 64, 20)
    assert (found.rounds, found.step_ms, found.network_ms, found.shipped_ms) == (3, 2000, 500, 500)
    # The medians of 8/4, 16/2 and 48/6; of 8/8, 16/1 and 48/4.
    assert (found.overhead, found.times_shipped) == (8, 12)
    assert found.stages_ms == pytest.approx({"decode": 250, "network": 750, "optimiser": 1000})
    assert found.matrices == pytest.approx(2 * 64**3 / 1e9 / 3)


def test_what_a_part_saves_is_the_median_share_of_the_step_without_it(classifier, monkeypatch):
    """Rounds of a machine that is now faster, now slower; each part costs something else when it is missing."""
    names = [*PARTS, parts.ALL]
    calls = itertools.count()
    slower = {name: [99.0, *(1.0 + i + extra for extra in (3.0, 0.0, 1.0))] for i, name in enumerate(names)}

    def step(state) -> None:
        call = next(calls)
        turn, name = divmod(call // 2, len(names))
        off = call % 2 == 1
        assert switch._off == (frozenset(PARTS if names[name] == parts.ALL else [names[name]]) if off else frozenset())
        machine.now += (10.0 + turn) * (1.0 + off * slower[names[name]][turn])

    machine = Machine(monkeypatch, step)
    found = parts.parts("maco", classifier, 1, 1, 64, 20)
    assert [(p.part, p.rounds) for p in found] == [(name, 3) for name in names]
    # Without it a step takes 1 + (2 + i) as long, in the median round.
    assert [p.saved for p in found] == pytest.approx([1 - 1 / (3 + i) for i in range(len(names))])


def test_what_is_timed_as_shipped_has_pytorchs_own_attention(monkeypatch):
    monkeypatch.setenv("FEATVIS_ENGINE", "compiled")
    classifier, _ = measure.network("test_vit.r160_in1k", "bfloat16", torch.device("cpu"))
    x = torch.rand(1, 3, *classifier.input_size, requires_grad=True)

    def operations(y: torch.Tensor) -> set[str]:
        seen, todo = {y.grad_fn}, [y.grad_fn]
        while todo:
            new = {node for node, _ in todo.pop().next_functions if node is not None} - seen
            seen |= new
            todo += new
        return {node.name() for node in seen}

    assert "_AttentionBackward" in operations(classifier.shipped(x))
    assert "_AttentionBackward" not in operations(measure.as_shipped(classifier)(x))


def test_memory_tells_the_parameters_from_the_rest():
    job = {
        "model": "efficientnet_lite0",
        "method": "maco",
        "precision": "float32",
        "units": 2,
        "views": 2,
        "canvas": 64,
    }
    found = worker.memory(job)
    # The phases of a canvas of 64: 3 x 64 x 33 numbers of 4 bytes a unit.
    assert found["parameters_mb"] == pytest.approx(2 * 3 * 64 * 33 * 4 / 1e6)
    assert 50 < found["before_mb"] < 50_000
    assert found["peak_mb"] < 50_000


def test_hours_are_the_papers_passes_at_the_measured_speed():
    timing = perf_records.Timing("m", False, "maco", "float32", 8, 4, 512, 3, 20.0, 10.0, 12.0, 2.0, 1.7, {})
    slower = perf_records.Timing("m", False, "maco", "float32", 8, 1, 512, 3, 50.0, 10.0, 12.0, 5.0, 4.2, {})
    others = [dataclasses.replace(t, method="fourier") for t in (timing, slower)]
    found = perf_records.PerfRecord("c", "d", 2, {}, None, "2026", (timing, slower, *others), (), (), (), None)
    # 256 steps x 32 crops x 20 ms = 163.84 s an image; 500 of them are 22.8 hours. One view a step takes 50 ms.
    assert perf_records.paper_rows(found) == [["m", "0.0061", "22.8", "1.8", ""]]


def test_other_libraries_make_the_same_picture_with_our_network_as_with_theirs(classifier):
    """A folded network is only faster: from the same seed, two steps give what they give with timm's."""
    if not (PEERS / "horama").is_dir():
        pytest.skip("needs the libraries that `make perf-peers` installs")
    (unit,) = parse_units("ladybug", classifier)
    made = {}
    for peer in peers.peers(PEERS, classifier, views=2, canvas=64):
        seed_everything(0, verbose=False)
        made[peer.library, peer.how] = peer.draw(unit.index, 2)
    for library in peers.LIBRARIES:
        one = made[library, peers.DOCUMENTED]
        assert one.shape == (3, 64, 64)
        assert 0 <= float(one.min()) < float(one.max()) <= 1
        for how, least in ((peers.TUNED, 0.99), (peers.HELPED, 0.9)):
            assert torch.corrcoef(torch.stack([one.flatten(), made[library, how].flatten()]))[0, 1] > least


def test_the_floor_is_the_network_on_the_views_of_a_step(classifier):
    made = measure.generator("maco", classifier, views=3, canvas=64)
    made.micro_batch = 4
    floor = measure.Floor(made, units=5)
    assert sum(len(x) for x in floor.inputs) == 15
    assert all(len(x) <= 4 for x in floor.inputs)
    spent: dict[str, float]
    with measure.stages(classifier.device) as spent:
        made.step(measure.started(made, measure.units_of(classifier, 2)))
    assert set(spent) == set(perf_records.STAGES)


# --- what quality costs -----------------------------------------------------------------------------------------------


def row(method: str, seconds: float, passes: int, top1: float, logit: float, preset: str = "maco"):
    return record(
        method, metric(TOP1, top1, 0.1), metric("logit", logit, 1.0), preset=preset, seconds_per_image=seconds,
        budget=Budget(passes, 1, passes, (32, 32)), suite="budget",
    )  # fmt: skip


ROWS = (
    row("maco_32x1", 1.0, 32, 0.2, 5.0),
    row("maco_64x1", 2.0, 64, 0.5, 9.0),
    row("maco_64x1_slow", 3.0, 64, 0.5, 8.0),
    row("maco_128x1", 4.0, 128, 0.5, 12.0),
    row("cbr_64", 2.5, 64, 0.1, 2.0, "cbr"),
    row("cbr_128", 5.0, 128, 0.2, 3.0, "cbr"),
)


def test_the_front_holds_what_no_faster_row_beats_in_both():
    found = tables.budget_frame(ROWS)
    assert list(found["method"]) == ["maco_32x1", "maco_64x1", "cbr_64", "maco_64x1_slow", "maco_128x1", "cbr_128"]
    # The slow one has no more of either than maco_64x1; cbr_128 has less than MACO, but more than cbr_64.
    assert list(found["front"]) == [True, True, True, False, True, True]
    assert list(found["transferability"]) == [0.2, 0.5, 0.1, 0.5, 0.5, 0.2]


def test_what_others_see_is_what_networks_of_other_families_do_where_any_judged():
    near = metric("top1_near", 0.9, group="transferability", label="Top-1, near, same family")
    own = metric(f"top1_{ROWS[0].model}", 1.0, group="transferability", label="Top-1, net, the target")
    rows = [dataclasses.replace(r, metrics=(*r.metrics, near, own)) for r in ROWS]
    found = tables.budget_frame(rows)
    assert list(found["transferability"]) == [0.2, 0.5, 0.1, 0.5, 0.5, 0.2]
    assert "Top-1 of other families ↑" in [c.head for c in tables.budget_sheet(rows)[0].columns]
    related = [dataclasses.replace(r, metrics=tuple(m for m in r.metrics if m.name != TOP1)) for r in rows]
    assert set(tables.budget_frame(related)["transferability"]) == {0.9}
    assert "Top-1 of the others ↑" in [c.head for c in tables.budget_sheet(related)[0].columns]


def test_seconds_of_several_devices_are_not_compared(tmp_path):
    rows = [dataclasses.replace(r, device="one GPU (bfloat16)") for r in ROWS[:1]] + list(ROWS[1:])
    found = tables.budget_frame(rows)
    assert list(found["cost"]) == list(found["passes"]) == [32, 64, 64, 64, 128, 128]
    assert not found["timed"].any()
    assert "Rows by the forward-backward passes" in tables.budget_sheet(rows)[0].legend
    (figure,) = costs.budgets(rows, tmp_path / "costs.svg")
    assert "forward-backward passes an image" in figure.read_text()
    assert "seconds" not in figure.read_text()
    # At one cost, 64 passes, the slow one has less of a score than maco_64x1 has, and no more of the other.
    assert [m for m, front in zip(found["method"], found["front"], strict=True) if not front] == ["maco_64x1_slow"]
    twins = [*rows, row("maco_twin", 2.0, 64, 0.5, 9.0)]
    assert tables.budget_frame(twins).set_index("method")["front"][["maco_64x1", "maco_twin"]].all()


def test_the_figure_of_costs_counts_classes_and_not_their_images(tmp_path):
    several = ("301@0", "301@1", "323@0", "323@1")
    rows = [dataclasses.replace(r, units=several, labels=several, n=4) for r in ROWS]
    (figure,) = costs.budgets(rows, tmp_path / "costs.svg")
    assert "suite budget, 2 classes" in figure.read_text()


def test_a_suite_of_one_budget_has_no_such_table_and_no_figure(tmp_path):
    same = (row("maco", 1.0, 64, 0.2, 5.0), row("maco_b", 1.0, 64, 0.2, 5.0), row("maco_c", 1.0, 32, 0.2, 5.0))
    unjudged = [dataclasses.replace(r, metrics=tuple(m for m in r.metrics if m.name != TOP1)) for r in ROWS]
    assert tables.budget_sheet(same) is None
    assert tables.budget_sheet(unjudged) is None
    assert costs.budgets(same, tmp_path / "costs.png") == []


def test_rows_that_see_different_things_are_coloured_by_it_and_controls_left_out(tmp_path):
    saw = {"das": "nothing", "vital": "5 images of the class", "vital_256": "5 images of the class"}
    saw |= {"vital_random": "5 images of the class; control: random network"}
    rows = [
        dataclasses.replace(row(name, 2.0 + i, 64 * (1 + 3 * ("256" in name)), 0.5, 9.0, name[:5]), sees=sees)
        for i, (name, sees) in enumerate(saw.items())
    ]
    found = tables.budget_frame(rows)
    assert dict(zip(found["method"], found["family"], strict=True)) == dict(list(saw.items())[:3])
    assert list(found["front"]) == [True, True, False], "the best are of those that see the same"
    (figure,) = costs.budgets(rows, tmp_path / "costs.svg")
    text = figure.read_text()
    for expected in ("what the method sees", "5 images of the class", "vital 256"):
        assert f"<!-- {expected} -->" in text
    assert "random" not in text


def test_the_table_and_the_figure_are_written(tmp_path):
    written = {p.name for p in tables.build(ROWS, tmp_path)}
    assert {"flexivit_budget.md", "flexivit_budget.csv", "flexivit_budget.tex"} <= written
    text = (tmp_path / "budget" / "flexivit_budget.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("| maco_64x1 ")]
    assert lines == ["| maco_64x1 | 2 | 64 | 64 × 1 | 32 | **50 %** | 50 % [40, 60] | 9.0 [8.0, 10.0] |"]
    assert "both scores: maco_32x1, maco_64x1, cbr_64, maco_128x1, cbr_128." in text
    (figure,) = costs.budgets(ROWS, tmp_path / "costs.svg")
    drawn = figure.read_text()
    for label in ("64x1 slow", "128x1", "seconds an image"):
        assert label in drawn


@pytest.mark.parametrize(
    ("name", "count", "shape"),
    [
        ("efficientnet_lite0", 49, "96 to 96 in 96, 112x112, 3x3/2, ReLU6"),
        ("convnext_atto.d2_in1k", 40, "40 to 40 in 40, 56x56, 7x7/1"),
    ],
)
def test_every_convolution_of_a_network_is_timed(capsys, monkeypatch, name, count, shape):
    monkeypatch.setenv("FEATVIS_ENGINE", "compiled")
    speed.convolutions(name, views=1, repeats=1)
    lines = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    (_, how_many, *_), *rows = lines
    assert how_many.strip() == "how many"
    net = timm.create_model(name, pretrained=False)
    assert sum(int(row[1]) for row in rows) == sum(isinstance(m, torch.nn.Conv2d) for m in net.modules()) == count
    assert any(row[0].strip() == shape for row in rows)
    # A time may be printed as 0.0: how fast a machine is, is no matter here.
    assert all(float(figure) >= 0 for row in rows for figure in row[2:])


def test_a_transformers_operations_are_those_of_its_matrices():
    """By hand: a product of (n, k) and (k, m) is 2 n k m operations; its gradient of one factor is as many again."""
    classifier, _ = measure.network("test_vit.r160_in1k", "float32", torch.device("cpu"))
    width, tokens, classes, depth = 64, 101, 1000, 6  # 160 / 16 patches a side, and the class token
    linear = tokens * width * (3 + 1 + 3 + 3) * width  # queries, keys and values; projection; both of the MLP
    attention = tokens**2 * width  # scores, or what they weigh; the gradient has two of each
    patches, head = (tokens - 1) * 3 * 16**2 * width, width * classes
    want = 2 * (2 * (depth * linear + patches + head) + depth * (2 + 4) * attention)
    assert measure.gflop(classifier) == pytest.approx(want / 1e9, rel=1e-9)
