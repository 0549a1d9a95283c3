"""What a method may see: in records old and new, and how tables, CSV and Weights & Biases lay rows out by it."""

from __future__ import annotations

from sample_records import metric, record

from benchmark.records.record import Record
from benchmark.records.seen import seen
from benchmark.report import tables
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


def test_a_table_whose_methods_see_no_more_than_a_spectrum_stays_as_it_was():
    told = [r for r in rivals() if r.method != "vital"]
    untold = [record(r.method, *r.metrics, config={"generator": {"class_path": f"featvis.generators.{c}"}})
              for r, c in zip(told, ("", "Fourier", "CBR", "MACO", "MACO", ""), strict=True)]  # fmt: skip
    assert "sees" not in tables.frame(told).columns
    assert [row.method for row in tables.sheets(told)[0].rows][1:4] == ["maco", "fourier", "cbr"]
    assert tables.markdown(tables.sheets(told)[0]) == tables.markdown(tables.sheets(untold)[0])
