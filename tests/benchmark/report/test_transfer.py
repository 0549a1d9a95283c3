from __future__ import annotations

import dataclasses
from pathlib import Path

from PIL import Image
from sample_records import metric, record

from benchmark.report.tables import build, target_sheet
from benchmark.report.transfer import _drawing, judged, transfers


def top1(judge: str, value: float, mark: str = ""):
    return metric(f"top1_{judge}", value, 0.1, group="transferability", label=f"Top-1, {judge}{mark}")


def of(target: str, **values: float):
    """The records of one target, seen by itself, by one of its family, and by one that is not."""
    return [
        record(
            method, top1(target, 1.0, ", the target"), top1("resnet18", value, ", same family"), top1("vit", value / 2),
            suite="two", model=target, alias=target,
        )
        for method, value in values.items()
    ]  # fmt: skip


def test_a_judge_is_every_network_but_the_target() -> None:
    found = judged(of("resnet50", fourier=0.4, maco=0.8, real=1.0))
    assert {judge: {m: v.value for m, v in by.items()} for judge, by in found.items()} == {
        "resnet18": {"real": 1.0, "maco": 0.8, "fourier": 0.4},
        "vit": {"real": 0.5, "maco": 0.4, "fourier": 0.2},
    }
    assert list(found["vit"]) == ["real", "maco", "fourier"], "methods in their usual order"


def test_it_is_drawn_for_suites_of_several_targets(tmp_path: Path) -> None:
    one, two = of("resnet50", maco=0.8, fourier=0.4), of("vgg16", maco=0.6, fourier=0.5)
    assert transfers(one, tmp_path / "transfer.png") == []
    (path,) = transfers(one + two, tmp_path / "transfer.png")
    before = path.read_bytes()
    with Image.open(path) as image:
        pixels = image.convert("RGB").getcolors(1 << 24)
    seen = {colour for _, colour in pixels}
    assert {(0, 0x72, 0xB2), (0xD5, 0x5E, 0)} <= seen, "the colours of maco and fourier"
    transfers(one + two, tmp_path / "transfer.png")
    assert path.read_bytes() == before
    transfers(one + of("vgg16", maco=0.1, fourier=0.5), tmp_path / "transfer.png")
    assert path.read_bytes() != before, "another number is another figure"


def test_only_the_target_is_called_so() -> None:
    one = of("resnet50", maco=0.8)
    two = [dataclasses.replace(r, metrics=r.metrics[:-1]) for r in of("vgg16", maco=0.6)]  # vit could not be had
    two += [record("fourier", top1("resnet50", 0.5), suite="two", model="vgg16", alias="vgg16")]
    panels = {"resnet50": judged(one), "vgg16": judged(two)}
    figure = _drawing("two", panels, {alias: alias for alias in panels})
    names = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    said = [{names[round(t.get_position()[1])]: t.get_text() for t in axis.texts} for axis in figure.axes]
    assert said == [{"resnet50": "the target"}, {"vit": "absent"}]


def test_rows_that_are_no_methods_are_left_out(tmp_path: Path) -> None:
    noise = [r for target in ("resnet50", "vgg16") for r in of(target, noise=0.0, natural=1.0, real_other=0.0)]
    assert transfers(noise, tmp_path / "transfer.png") == []


def test_a_line_a_target_counts_the_judges_of_other_families_alone(tmp_path: Path) -> None:
    units = tuple(map(str, range(100)))

    def seen(method: str, near: float, *far: range):
        judges = [
            dataclasses.replace(top1(f"far{i}", len(own) / 100), values=tuple(float(u in own) for u in range(100)))
            for i, own in enumerate(far)
        ]
        return record(
            method, top1("net", 1.0, ", the target"), top1("near", near, ", same family"), *judges,
            suite="two", model="net", alias="net", units=units,
        )  # fmt: skip

    # Which classes each of three judges sees. MACO's and Fourier's of the second differ in ten of forty, all one way.
    one = [
        seen("maco", 0.1, range(90), range(50), range(30)),
        seen("fourier", 0.9, range(30, 90), range(10, 50), range(31)),
        seen("cbr", 0.9, range(0), range(0), range(69, 100)),
    ]
    assert target_sheet(one) is None
    sheet, numbers = target_sheet(one + of("vgg16", maco=0.6, fourier=0.8))
    heads = [column.head for column in sheet.columns]
    rows = {row.method: dict(zip(heads, [c.text for c in row.cells], strict=True)) for row in sheet.rows}
    assert rows["net"] == {
        "maco ↑": "30 – 90 %", "fourier ↑": "31 – 60 %", "cbr ↑": "0 – 31 %",
        "maco before fourier": "2 of 3 (2)", "fourier before cbr": "2 of 3 (2)",
    }  # fmt: skip
    assert rows["vgg16"] == {
        "maco ↑": "30 %", "fourier ↑": "40 %", "cbr ↑": "—",
        "maco before fourier": "0 of 1 (0)", "fourier before cbr": "—",
    }  # fmt: skip
    found = numbers.set_index(["target", "what"])
    assert found.loc[("net", "maco"), ["judges", "low", "high"]].tolist() == [3, 0.3, 0.9]
    assert found.loc[("net", "maco before fourier"), ["judges", "before", "clearly"]].tolist() == [3, 2, 2]
    # A row that failed keeps what it was given, and competes nowhere.
    lost = dataclasses.replace(one[0], status="failed", error="5 of 100 images are missing")
    sheet, numbers = target_sheet([lost, *one[1:], *of("vgg16", maco=0.6, fourier=0.8)])
    assert numbers[(numbers["target"] == "net") & (numbers["what"] == "maco")].empty
    assert numbers.set_index(["target", "what"]).loc[("net", "maco before fourier"), "judges"] == 0
    build(one + of("vgg16", maco=0.6, fourier=0.8), tmp_path)
    assert "| net | 30 – 90 % | 31 – 60 % |" in (tmp_path / "two" / "targets.md").read_text()
    assert "two" in (tmp_path / "two" / "targets.tex").read_text()
