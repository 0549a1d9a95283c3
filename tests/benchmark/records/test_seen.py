"""What a method may see: in records old and new, and how tables, CSV and Weights & Biases lay rows out by it."""

from __future__ import annotations

from unittest.mock import MagicMock

from sample_records import metric, record

from benchmark.records.record import Record
from benchmark.records.seen import seen
from benchmark.report import tables
from benchmark.report.agreement.scores import scores_of
from benchmark.report.gallery import build_page
from benchmark.tracking import records as logged
from featvis.generators import AM, CBR, MACO, Attack, Fourier, Inversion
from featvis.generators.arguments import public_name


def rivals() -> list[Record]:
    """Two methods that see nothing, two with a natural spectrum, and one that sees images and is the best of all."""
    saw = {"real": None, "fourier": "nothing", "cbr": "nothing", "maco": "natural spectrum"}
    saw |= {"maco_fast": "natural spectrum", "vital": "50 images of the class", "noise": None}
    scores = {"real": 20.0, "fourier": 7.0, "cbr": 6.0, "maco": 8.0, "maco_fast": 5.0, "vital": 9.0, "noise": 0.0}
    return [record(name, metric("logit", scores[name]), sees=saw[name]) for name in saw]


def test_records_that_do_not_say_it_are_read_by_the_class_of_their_method():
    for cls in (AM, CBR, Fourier, MACO, Attack, Inversion):
        assert seen(record("row", config={"generator": {"class_path": public_name(cls)}})) == cls.sees
    assert seen(record("row", config={"generator": {"class_path": "mine.MACO"}})) == "nothing"
    assert seen(record("real", config={"generator": None})) is None
    assert seen(record("row", sees="one image; control: seed")) == "one image; control: another seed"
    assert Record.from_dict(record("row", sees="one image").to_dict()).sees == "one image"


def test_rows_that_see_the_same_stand_together_and_have_a_best_of_their_own():
    sheet = tables.sheets(rivals())[0]
    assert [row.method for row in sheet.rows] == ["real", "fourier", "cbr", "maco", "maco_fast", "vital", "noise"]
    assert [row.cells[0].text for row in sheet.rows][1:6] == [
        "nothing", "nothing", "natural spectrum", "natural spectrum", "50 images of the class",
    ]  # fmt: skip
    assert [row.method for row in sheet.rows if row.cells[1].best] == ["fourier", "maco"]
    assert "that see the same" in sheet.legend
    data = tables.frame(rivals())
    assert data.set_index("method")["sees"]["vital"] == "50 images of the class"
    assert "| sees |" in tables.markdown(sheet)
    assert "50 images" in tables.text_block(rivals())


def test_a_control_is_no_method_among_those_whose_columns_are_compared():
    control = record("vital_random", metric("logit", 30.0), sees="50 images of the class; control: random network")
    found = scores_of([*rivals(), control])
    assert found.methods == scores_of(rivals()).methods
    assert "vital_random" in [row.method for row in tables.sheets([*rivals(), control])[0].rows]


def test_the_page_and_weights_and_biases_tell_it(tmp_path, monkeypatch):
    page = build_page(rivals(), tmp_path).read_text()
    assert page.count("50 images of the class") == 1
    run = MagicMock()
    monkeypatch.setattr(logged, "start", lambda *args: run)
    old = record("maco", metric("logit", 8.0), config={"generator": {"class_path": "featvis.generators.MACO"}})
    for row, expected in ((rivals()[-2], "50 images of the class"), (old, "natural spectrum")):
        logged._log_row("offline", tmp_path, row)
        assert run.config.update.call_args.args[0]["sees"] == expected


def test_a_table_whose_methods_see_no_more_than_a_spectrum_stays_as_it_was():
    told = [r for r in rivals() if r.method != "vital"]
    untold = [record(r.method, *r.metrics, config={"generator": {"class_path": f"featvis.generators.{c}"}})
              for r, c in zip(told, ("", "Fourier", "CBR", "MACO", "MACO", ""), strict=True)]  # fmt: skip
    assert "sees" not in tables.frame(told).columns
    assert [row.method for row in tables.sheets(told)[0].rows][1:4] == ["maco", "fourier", "cbr"]
    assert tables.markdown(tables.sheets(told)[0]) == tables.markdown(tables.sheets(untold)[0])
