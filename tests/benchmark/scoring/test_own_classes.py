"""A network with classes of its own: what it is scored by, what is absent, and that nothing of ImageNet's appears."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from commands import command
from PIL import Image
from timm.data.imagenet_info import ImageNetInfo
from torch import nn

from benchmark.cli import main
from benchmark.records.record import Record, load_all
from benchmark.scoring.classes import settle
from benchmark.scoring.plan import Plan, Row
from featvis.canvas.montage import from_picture
from featvis.errors import UserError
from featvis.networks.classifier import Classifier
from featvis.networks.loading import load
from featvis.networks.names import ModelSpec
from featvis.storage import images

NET = '''
import torch
from torch import nn


class Net(nn.Module):
    """Logits that follow the mean colour, by fixed directions; with these, three of ten colours are told right."""

    def __init__(self, classes=10):
        super().__init__()
        torch.manual_seed(654)
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU())
        self.head = nn.Linear(8, classes)

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))
'''
YAML = "class_path: ownnet.Net\nmean: [0.5, 0.5, 0.5]\nstd: [0.25, 0.25, 0.25]\ninput_size: [32, 32]\n"
SMALL = ("--methods", "fourier", "--steps", "2", "--crops", "2", "--canvas", "48", "--wandb", "disabled")
OWN = "wrap-own"


def own(folder: Path, name: str = "own", more: str = "") -> Path:
    (folder / "ownnet.py").write_text(NET)
    (folder / f"{name}.yaml").write_text(YAML + more)
    return folder / f"{name}.yaml"


def pictures(folder: Path, names: list[str], each: int = 4) -> Path:
    """Noise in a colour for each class, in folders of these names."""
    random = np.random.default_rng(0)
    for name in names:
        (folder / name).mkdir(parents=True)
        colour = random.integers(40, 200, 3)
        for i in range(each):
            noise = random.integers(-40, 40, (40, 36, 3))
            Image.fromarray((colour + noise).clip(0, 255).astype(np.uint8)).save(folder / name / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """The folder of `featvis run --model wrap:own.yaml --data own`, on ten classes without names."""
    folder = tmp_path_factory.mktemp("own")
    own(folder)
    pictures(folder / "own", [str(i) for i in range(10)])
    done = command("run", "--model", "wrap:own.yaml", "--data", "own", "--units", "0-9", *SMALL, "--out", "runs/out",
                   cwd=folder)  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "own: 40 images of 10 classes (classes from the names)" in done.stdout
    return folder / "runs" / "out"


FILLED = {
    "plausibility", "plausibility_flat", "plausibility_pooled", "plausibility_deep_knn", f"frechet_{OWN}",
    f"kernel_{OWN}", f"sphere_{OWN}", "top1_ownnet.Net", "logit", "spectrum_deviation", "excess_activation",
    "dead_share",
    # The judges observe: what they see of units and sets asks for no class.
    *(f"{column}_efficientnet_lite{i}" for column in ("identification", "sphere") for i in (1, 2)),
}  # fmt: skip


def test_what_needs_no_foreign_judge_is_filled_and_the_rest_says_why_not(run):
    found = {r.method: r for r in load_all(run / "records")}
    assert set(found) == {"real", "natural", "fourier", "real_other", "noise"}
    for record in found.values():
        values = {m.name: m for m in record.metrics}
        # There are images of the units' classes alone, and other labels make no other set of them.
        sets = {name for name in FILLED if name.startswith(("frechet", "kernel", "sphere"))}
        filled = FILLED - sets if record.method == "real_other" else FILLED
        assert {name for name, m in values.items() if m.value is not None} - {"fid", "kid"} == filled
        assert values["top1_ownnet.Net"].definition["classes"] == 10
        for judge in ("efficientnet_lite1", "efficientnet_lite2"):
            reason = str(values[f"top1_{judge}"].absent)
            assert f"{judge} and {OWN} do not share their classes (class 0, class 1, class 2, …)" in reason
        assert values[f"frechet_{OWN}"].label == f"Fréchet, {OWN}"
        assert (record.alias, record.given) == (OWN, "wrap:own.yaml")
    for shown in (run / "tables" / "quick" / f"{OWN}.md", run / "index.html"):
        assert "do not share their classes" in shown.read_text()


def test_the_numbers_of_its_real_images_are_those_of_the_network_itself(run, monkeypatch):
    monkeypatch.chdir(run.parents[1])
    net = load("wrap:own.yaml", "float32")
    first = [Image.open(f"own/{i}/0.png").convert("RGB") for i in range(10)]
    square = [im.resize((32, 32), Image.Resampling.BICUBIC, box=(0, 2, 36, 38)) for im in first]
    views = [np.asarray(im).transpose(2, 0, 1) / 255 for im in square]
    x = torch.tensor(np.stack(views), dtype=torch.float32)
    logits = net.net((x - 0.5) / 0.25).detach()
    real = Record.read(run / "records" / OWN / "real.json")
    assert real.units == tuple(str(i) for i in range(10))
    assert real.metric("logit").values == pytest.approx(logits.diagonal().tolist(), abs=1e-3)
    right = (logits.argmax(1) == torch.arange(10)).float()
    assert 0 < right.mean() < 1
    assert real.metric("top1_ownnet.Net").values == tuple(right.tolist())


def test_no_class_of_imagenet_is_anywhere_in_the_folder(run):
    texts = {}
    for path in (p for p in run.rglob("*") if p.is_file()):
        texts[f"the name {path}"] = path.relative_to(run).as_posix()
        if path.suffix in (".json", ".yaml", ".html", ".md", ".csv", ".tex", ".jsonl", ".svg", ".txt"):
            texts[str(path)] = re.sub(r"(?s)<(style|script)>.*?</\1>", "", path.read_text())
        elif path.suffix == ".png" and OWN in path.parts and "figures" not in path.parts:
            texts[str(path)] = json.dumps(images.read(path)[1])
    assert len(texts) > 40
    info = ImageNetInfo()
    names = [info.index_to_description(i).split(",")[0] for i in range(1000)]
    words = [n for n in names if n.lower() not in ENGLISH]
    pattern = re.compile(r"\b(?:n\d{8}|" + "|".join(map(re.escape, sorted(words))) + r")\b", re.IGNORECASE)
    for where, text in texts.items():
        found = pattern.search(text)
        assert found is None, (where, found[0], text[max(0, found.start() - 80) : found.end() + 80])


ENGLISH = ("chain", "pillow", "radio", "scale", "switch", "torch")
"""Words that the page and the records have for other things."""


def test_the_run_is_verified_with_its_own_network(run, monkeypatch, capsys):
    monkeypatch.chdir(run.parents[1])
    assert main(["verify", "runs/out", "--data", "own"]) == 0
    said = capsys.readouterr().out
    checked = int(said.split("images and ")[1].split()[0])
    assert checked == sum(m.value is not None for r in load_all(run / "records") for m in r.metrics) > 20
    record = run / "records" / OWN / "fourier.json"
    assert main(["rerun", str(record), "--data", "own"]) == 0
    assert "--model wrap:own.yaml" in capsys.readouterr().out
    # Elsewhere the network is not found by any name, and that nothing was checked is no success.
    monkeypatch.chdir(run)
    assert main(["verify", ".", "--data", "../../own"]) == 1
    said = capsys.readouterr()
    assert "there is no file own.yaml" in said.out
    assert "no number of the run was checked" in said.err
    assert main(["verify", ".", "--data", "../../own", "--model", "wrap:../../own.yaml"]) == 0


def test_methods_of_two_canvases_are_verified_and_a_torn_picture_is_told(tmp_path, monkeypatch, capsys):
    """The first row of the suite says the canvas of the floors, and is not the first by its name."""
    own(tmp_path)
    pictures(tmp_path / "own", ["0", "1"])
    # Photographs of several sizes have the spectrum of the canvas's size.
    Image.open(tmp_path / "own" / "0" / "0.png").resize((60, 50)).save(tmp_path / "own" / "0" / "0.png")
    suite = {
        "model": "wrap:own.yaml", "units": "0,1", "data": "own", "classifiers": [], "frechet": "wrap:own.yaml",
        "methods": {
            name: {"preset": "fourier", "steps": 1, "views": 1, "canvas": side}
            for name, side in (("wide", 96), ("narrow", 40))
        },
    }  # fmt: skip
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(suite, sort_keys=False))
    monkeypatch.chdir(tmp_path)
    done = command("run", "--suite", "two.yaml", "--out", "run/out", "--wandb", "disabled", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert main(["verify", "run/out", "--data", "own"]) == 0
    assert "0 problems" in capsys.readouterr().out
    record = Record.read(tmp_path / "run" / "out" / "records" / OWN / "narrow.json")
    path = tmp_path / "run" / "out" / str(record.images) / "1.png"
    path.write_bytes(path.read_bytes()[:-400])
    assert main(["verify", "run/out", "--data", "own"]) == 1
    said = "".join(capsys.readouterr())
    assert "1.png is cut off" in said
    assert f"{OWN} / narrow cannot be scored" in said
    assert f"{OWN} / wide" not in said


@pytest.mark.parametrize("layout", ["labels", "label file"])
def test_the_same_images_by_label_or_with_a_label_file(tmp_path, monkeypatch, layout, capsys):
    labels = ["red", "green", "deep blue"]
    path = own(tmp_path, more=f"init_args: {{classes: 3}}\nlabels: {json.dumps(labels)}\n")
    data = pictures(tmp_path / "data", ["Red", "green", "deep_blue"])
    if layout == "label file":
        lines = []
        for i, file in enumerate(sorted(data.rglob("*.png"))):
            lines.append(f"img_{i}.png {file.parent.name.replace('_', ' ').lower()}")
            file.rename(data / f"img_{i}.png")
        (data / "labels.txt").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "seen").mkdir()
    for file, name in zip(sorted(pictures(tmp_path / "more", ["a"]).rglob("*.png")), ("red_0", "x_2"), strict=False):
        file.rename(tmp_path / "seen" / f"{name}.png")
    args = ["evaluate", "seen", "--model", f"wrap:{path}", "--data", "data", "--out", "out"]
    assert main(args) == 0
    record = Record.read(tmp_path / "out" / "records" / OWN / "seen.json")
    assert record.labels == ("red", "deep blue")
    assert {m.name for m in record.metrics if m.value is not None} - {"fid", "kid"} == FILLED
    assert f"--model wrap:{path}" in str(record.command)
    assert record.given == f"wrap:{path}"


def test_a_file_called_as_a_network_of_timms_is_not_that_network(tmp_path, monkeypatch):
    path = own(tmp_path, "efficientnet_lite2")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "seen").mkdir()
    Image.new("RGB", (32, 32), (200, 30, 40)).save(tmp_path / "seen" / "3.png")
    for model, alias in ((f"wrap:{path.name}", "wrap-efficientnet_lite2"), ("efficientnet_lite2", None)):
        assert main(["evaluate", "seen", "--model", model, "--metrics", "logit,transferability", "--classifiers",
                     "efficientnet_lite2", "--frechet", model, "--out", "out"]) == 0  # fmt: skip
        record = Record.read(tmp_path / "out" / "records" / (alias or model) / "seen.json")
        net = load(model, "float32")
        x = torch.tensor([200, 30, 40]).view(1, 3, 1, 1).expand(1, 3, *net.input_size) / 255
        assert record.metric("logit").value == pytest.approx(float(net(x)[0, 3]), abs=1e-3)
        judge = record.metric("top1_efficientnet_lite2" if alias else f"top1_{net.name}")
        assert (judge.value is None) == (alias is not None)
    real = Record.read(tmp_path / "out" / "records" / "wrap-efficientnet_lite2" / "real.json")
    assert all(m.value is None for m in real.metrics), "the embedded photographs are not of its classes"


def plan_for(model: str, units: list[str], **more: str | None) -> Plan:
    facts: dict[str, str | None] = {"data": None, "frechet": "lite1"} | more
    return Plan(
        out="out", suite="s", model=model, classifiers=["lite1"], seed=0, units=units, labels=units, canvas=[32, 32],
        rows=[Row("real", "real")], **facts,  # type: ignore[arg-type]
    )  # fmt: skip


def test_classes_that_are_shared_by_label_are_judged_by_the_judges_numbers(tmp_path, monkeypatch):
    """Three classes of ImageNet's under other numbers: the judge is asked for its own."""
    path = own(tmp_path, more="init_args: {classes: 3}\nlabels: [Ladybug, my cat, giant_panda]\n")
    monkeypatch.chdir(tmp_path)
    networks = {OWN: load(f"wrap:{path}", "float32"), "lite1": load("efficientnet_lite1", "float32")}
    shared, partly = plan_for(OWN, ["0", "2"]), plan_for(OWN, ["0", "1"])
    for plan in (shared, partly):
        settle(plan, networks)
    assert shared.unavailable == shared.foreign == partly.unavailable == {}
    assert "do not share their classes (my cat)" in partly.foreign["lite1"]
    from benchmark.scoring.scorer import Scorer

    scorer = Scorer(shared, None, networks)
    assert scorer.numbers(torch.tensor([2, 0]), "lite1").tolist() == [388, 301]
    measured, _ = scorer.real()
    top1 = {m.name: m.value for m in measured}["top1_tf_efficientnet_lite1.in1k"]
    assert top1 is not None, "the embedded photographs of those two classes"


def test_the_target_stands_in_where_no_judge_shares_its_classes_and_has_images_to_compare(tmp_path, monkeypatch):
    path = own(tmp_path)
    monkeypatch.chdir(tmp_path)
    judge = load("efficientnet_lite1", "float32")
    networks = {OWN: load(f"wrap:{path}", "float32"), "lite1": judge}
    for units in (["0", "1"], ["features.0-3"]):
        with_data, without = plan_for(OWN, units, data="somewhere"), plan_for(OWN, units)
        settle(with_data, networks)
        settle(without, networks)
        assert (with_data.frechet, list(with_data.foreign)) == (OWN, ["lite1"])
        assert (without.frechet, list(without.foreign)) == ("lite1", ["lite1"])
    # None stands in for a network that is not to be had.
    absent = plan_for(OWN, ["0", "1"], data="somewhere", frechet="gone")
    absent.unavailable = {"gone": "no weights"}
    settle(absent, networks)
    assert (absent.frechet, absent.unavailable) == ("gone", {"gone": "no weights"})
    # A judge that shares them comes before the target.
    plan = plan_for("lite1", ["301"], data="somewhere", frechet=OWN)
    plan.classifiers = ["lite2", "lite0"]
    settle(plan, networks | {"lite0": load("efficientnet_lite0", "float32")})
    assert (plan.frechet, plan.unavailable, plan.foreign) == ("lite0", {}, {})


def test_a_judge_of_other_classes_observes_as_one_that_judges_nothing(tmp_path, monkeypatch):
    path = own(tmp_path)
    data = pictures(tmp_path / "own", ["0", "1"])
    monkeypatch.chdir(tmp_path)
    networks = {OWN: load(f"wrap:{path}", "float32"), "lite1": load("efficientnet_lite1", "float32")}
    from benchmark.scoring.scorer import Scorer

    said = []
    for judges in ([], ["lite1"]):
        plan = plan_for(OWN, ["0", "1"], data=str(data), frechet=OWN)
        plan.classifiers, plan.observers = judges, ["lite1"]
        settle(plan, networks)
        measured, _ = Scorer(plan, None, networks).real()
        said.append({m.name: m for m in measured})
    alone, both = said
    top1 = both.pop("top1_lite1")
    assert top1.value is None
    assert "do not share their classes" in str(top1.absent)
    assert both == alone
    observed = {name for name, m in both.items() if "efficientnet_lite1" in name and m.value is not None}
    assert {"identification_efficientnet_lite1", "sphere_efficientnet_lite1"} <= observed


def test_two_files_of_one_name_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    networks = {}
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        networks[name] = load(f"wrap:{own(tmp_path / name)}", "float32")
    with pytest.raises(UserError, match="would both be called wrap-own in tables"):
        settle(plan_for("a", ["0"]), networks)


def test_a_network_by_its_alias_and_by_its_tag_is_one_judge():
    """Its measurements would be called alike, which no record may hold, after all images are made."""

    def tagged(alias: str, seed: int = 0, tag: str = "small.tag") -> Classifier:
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        about = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "input_size": (8, 8), "labels": ("cat", "dog", "fox")}
        return Classifier(net, ModelSpec(alias, tag, **about), precision="float32")

    networks = {n: tagged(n) for n in ("small", "small.tag")} | {"small.file": tagged("small.file", tag="small")}
    networks |= {n: tagged(n, tag="other.tag") for n in ("other", "other.tag")}
    plan = plan_for("small", ["0"], frechet="small.tag")
    plan.classifiers, plan.observers = ["other.tag", "small.tag", "small.file", "other"], ["other", "small.tag"]
    settle(plan, networks)
    assert (plan.classifiers, plan.observers, plan.frechet) == (["other.tag", "small"], ["other.tag", "small"], "small")
    plan = plan_for("small", ["0"], frechet="small")
    plan.classifiers = ["small.tag"]
    with pytest.raises(UserError, match=r"small and small.tag are both small.tag, with other weights"):
        settle(plan, networks | {"small.tag": tagged("small.tag", seed=1)})


@pytest.mark.parametrize("channels", [1, 5])
def test_networks_of_other_channels_are_scored_by_what_they_see(channels, tmp_path, monkeypatch):
    """The logit in the table is that of the canvas, which a montage of five channels gives back to the level."""
    (tmp_path / f"grey{channels}.py").write_text(
        "import torch\nfrom torch import nn\n\ndef make():\n    torch.manual_seed(0)\n    return nn.Sequential("
        f"nn.Conv2d({channels}, 6, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))\n"
    )
    keys = {
        "class_path": f"grey{channels}.make",
        "mean": [0.5] * channels,
        "std": [0.25] * channels,
        "input_size": [20, 20],
    }
    (tmp_path / "grey.yaml").write_text(yaml.safe_dump(keys))
    monkeypatch.chdir(tmp_path)
    arguments = "--units 0,2 --methods fourier --steps 2 --canvas 20 --out out --wandb disabled"
    arguments += " --classifiers efficientnet_lite1"
    done = command("run", "--model", "wrap:grey.yaml", *arguments.split(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    (record,) = [json.loads(p.read_text()) for p in (tmp_path / "out" / "records").rglob("fourier.json")]
    found = {m["name"]: m for m in record["metrics"]}
    network = load("wrap:grey.yaml", "float32")
    own = []
    for unit in (0, 2):
        pixels, facts = images.read(tmp_path / "out" / record["images"] / f"{unit}.png")
        assert facts["channels"] == channels
        own.append(float(network(from_picture(pixels, channels)[None])[0, unit]))
    assert found["logit"]["value"] == pytest.approx(sum(own) / 2, abs=2e-3)
    assert main(["verify", "out"]) == 0
    (judge,) = [m for name, m in found.items() if name.startswith("top1_") and "lite1" in name]
    assert judge["value"] is None
    assert ("share their classes" if channels == 1 else "takes 3 channels, the pictures have 5") in judge["absent"]
    if channels == 5:
        assert main(["run", "--model", "wrap:grey.yaml", "--units", "0", "--methods", "fourier", "--data", "."]) == 2
