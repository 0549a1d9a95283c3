from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_records import metric, record

from benchmark.records.record import FailedUnit, Measurement, Record, load_all, units_hash
from featvis.errors import UserError
from featvis.storage.hashing import config_hash
from featvis.storage.images import write_atomic

finite = st.floats(allow_nan=False, allow_infinity=False)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def measurements(draw: st.DrawFn, name: str) -> Measurement:
    value = draw(st.none() | finite)
    low, high = sorted((draw(finite), draw(finite)))
    return Measurement(
        name=name,
        label=draw(text),
        group=draw(text),
        value=value,
        interval=None if value is None or draw(st.booleans()) else (low, high),
        n=draw(st.integers(0, 1000)),
        higher_is_better=draw(st.booleans()),
        definition={**draw(st.dictionaries(text, plain, max_size=2)), "text": draw(text)},
        absent=draw(text) if value is None else None,
    )


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_record_comes_back_as_it_was_written(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    names = data.draw(st.lists(st.text(min_size=1, max_size=4), max_size=3, unique=True))
    units = tuple(data.draw(st.lists(st.text("0123456789.:", min_size=1, max_size=5), max_size=4, unique=True)))
    original = dataclasses.replace(
        record("maco", *(data.draw(measurements(name)) for name in names), units=units),
        config=data.draw(st.dictionaries(text, plain, max_size=3)),
        failed_units=tuple(FailedUnit(unit, data.draw(st.none() | st.integers(0, 9)), "why") for unit in units[:1]),
        seconds_per_image=data.draw(st.none() | finite),
    )
    path = tmp_path_factory.mktemp("records") / "maco.json"
    assert Record.read(original.write(path)) == original
    first = path.read_bytes()
    Record.read(path).write(path)
    assert path.read_bytes() == first


def test_a_files_name_that_is_no_text_is_written_and_read(tmp_path: Path) -> None:
    strange = dataclasses.replace(
        record("maco"), command="featvis evaluate caf\udce9", labels=("café",) * len(record("maco").units)
    )
    path = strange.write(tmp_path / "a.json")
    assert Record.read(path) == strange
    assert "café" in path.read_text(encoding="utf-8")


def test_the_file_is_sorted_json_with_one_metric_a_line(tmp_path: Path) -> None:
    path = record("maco", metric("fid", 231.0, 6.0), metric("kid", 0.1)).write(tmp_path / "a" / "maco.json")
    lines = path.read_text(encoding="utf-8").splitlines()
    keys = list(json.loads(path.read_text(encoding="utf-8")))
    assert keys == sorted(keys)
    assert sum('"name": "' in line for line in lines) == 2
    assert [p.name for p in path.parent.iterdir()] == ["maco.json"]  # nothing temporary is left


def _set(data: dict[str, Any], path: tuple[str | int, ...], value: Any) -> None:
    target: Any = data
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("methods",), "maco", "unknown key methods; did you mean method"),
        (("n",), "10", "n is '10', but must be an integer"),
        (("n",), True, "n is True"),
        (("n",), 10.0, "n is 10.0"),
        (("status",), "finished", "status"),
        (("schema",), 2, "schema"),
        (("budget", "canvas"), [256], r"budget.canvas"),
        (("budget", "step"), 3, r"unknown key budget.step"),
        (("metrics", 0, "value"), "12", r"metrics\[0\].value is '12', but must be a number"),
        (("metrics", 0, "value"), math.nan, r"metrics\[0\].value is nan"),
        (("metrics", 0, "interval"), [1.0, math.inf], r"metrics\[0\].interval\[1\] is inf"),
        (("metrics", 0, "interval"), [2.0, 1.0], r"metrics\[0\].*swapped"),
        (("metrics", 0, "absent"), "no weights", r"metrics\[0\].*either a value or the reason"),
        (("metrics", 0, "definition"), {}, r"metrics\[0\].*definition"),
        (("config", "lr"), math.nan, r"config.lr is nan"),
        (("units",), ["301"], "units_hash does not belong"),
        (("config_hash",), "xyz", "config_hash"),
        (("alias",), "../../etc", "alias"),
        (("images",), "../elsewhere", "images"),
        (("error",), "out of memory", "error"),
    ],
)
def test_bad_input_is_a_sentence_with_the_file_and_the_key(
    tmp_path: Path, path: tuple[str | int, ...], value: Any, named: str
) -> None:
    file = tmp_path / "maco.json"
    data = json.loads(record("maco", metric("fid", 231.0, 6.0)).to_json())
    _set(data, path, value)
    file.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(UserError, match=named) as caught:
        Record.read(file)
    assert str(file) in str(caught.value)


def test_a_missing_key_and_a_file_that_is_not_json_are_named(tmp_path: Path) -> None:
    file = tmp_path / "maco.json"
    data = json.loads(record("maco").to_json())
    del data["device"]
    file.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(UserError, match="device is missing"):
        Record.read(file)
    file.write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match="not a JSON file"):
        Record.read(file)
    with pytest.raises(UserError, match="no record"):
        Record.read(tmp_path / "none.json")


def test_nothing_is_written_where_a_number_is_not_finite(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"metrics\[0\]\.value is nan"):
        record("maco", metric("fid", math.nan)).write(tmp_path / "maco.json")
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def refuse(self: Path, target: Path) -> Path:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="disk full"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_load_all_sorts_and_refuses_two_files_for_one_cell(tmp_path: Path) -> None:
    cells = [record("noise"), record("maco", suite="paper"), record("cbr", alias="vit"), record("cbr")]
    for i, cell in enumerate(cells):
        cell.write(tmp_path / str(i) / "x.json")
    found = [(r.suite, r.alias, r.method) for r in load_all(tmp_path)]
    assert found == [
        ("paper", "flexivit", "maco"),
        ("quick", "flexivit", "cbr"),
        ("quick", "flexivit", "noise"),
        ("quick", "vit", "cbr"),
    ]
    cells[0].write(tmp_path / "again.json")
    with pytest.raises(UserError, match="both hold quick / flexivit / noise"):
        load_all(tmp_path)
    with pytest.raises(UserError, match="no folder"):
        load_all(tmp_path / "none")


def test_hashes_are_those_of_the_canonical_text() -> None:
    expected = hashlib.sha256(b'{"a":[1,2.5],"b":"\xc3\xa9"}').hexdigest()[:12]
    assert config_hash({"b": "é", "a": [1, 2.5]}) == expected
    assert units_hash(["b", "a"]) == hashlib.sha256(b'["a","b"]').hexdigest()[:12]
    assert units_hash(["a", "b"]) != units_hash(["a", "c"])
    with pytest.raises(UserError, match="configuration"):
        config_hash({"lr": math.nan})


def test_reading_results_needs_no_torch() -> None:
    code = (
        "import sys, benchmark.records.record, benchmark.report.tables, benchmark.report.figures\n"
        "import benchmark.report.gallery, benchmark.report.spectra\n"
        "print(*(m for m in ('torch', 'timm', 'lightning', 'wandb') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600)
    assert done.stdout.strip() == ""
