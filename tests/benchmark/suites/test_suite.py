"""Suites: what their names of networks stand for, and that those of the project can be run."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys

import pytest
import yaml
from places import ROOT

from benchmark.study.config import read as read_study
from benchmark.suites.methods import build
from benchmark.suites.suite import read_with, resolve
from featvis.errors import UserError
from featvis.networks import names, weights
from featvis.paths import CONFIGS

VALUES = {"model": "vit", "units": "301", "methods": ["maco"], "frechet": "vit", "classifiers": []}


def test_the_hubs_prefixes_make_no_other_suite():
    prefixed = {
        "model": "hf-hub:timm/resnet50.a1_in1k",
        "frechet": "timm/a.b",
        "classifiers": ["timm/c.d", "wrap:e.yaml"],
    }
    plain = {"model": "resnet50.a1_in1k", "frechet": "a.b", "classifiers": ["c.d", "wrap:e.yaml"]}
    assert resolve(VALUES | prefixed, "s", {}) == resolve(VALUES | plain, "s", {}) == resolve(VALUES, "s", prefixed)


@pytest.mark.parametrize("key", ["model", "frechet", "classifiers"])
def test_somebody_elses_repository_is_refused_with_where_it_was_named(key):
    value = ["hf-hub:me/net"] if key == "classifiers" else "hf-hub:me/net"
    with pytest.raises(UserError, match=f"{key}.* hf-hub:me/net is a repository"):
        resolve(VALUES, "s", {key: value})


@pytest.mark.parametrize("name", sorted(p.stem for p in (CONFIGS / "suite").glob("*.yaml")))
def test_a_suite_of_the_project_names_metrics_and_methods_that_there_are(name):
    _, suite, _ = read_with(name, {})
    for row, values in suite.methods.items():
        generator, _, _ = build(row, values or {}, suite, {})
        given = {
            k: v for k, v in (values or {}).items() if k not in ("preset", "class_path", "transparency", "control")
        }
        found = {k: generator._arguments[k] for k in given}
        assert {k: list(v) if isinstance(v, tuple) else v for k, v in found.items()} == given, row


@pytest.mark.parametrize(
    "path", sorted((CONFIGS / "suite").glob("*.yaml")) + sorted((CONFIGS / "study").glob("*.yaml"))
)
def test_every_network_of_a_suite_or_study_can_be_had_without_a_folder_of_weights(path, monkeypatch):
    """From the hub at the latest, by a tag: whoever has nothing but the repository and the internet runs them all."""
    monkeypatch.delenv("FEATVIS_WEIGHTS", raising=False)
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    lists = [values.get(key) or [] for key in ("models", "classifiers", "observers")]
    named = {name for name in (*itertools.chain(*lists), values.get("model"), values.get("frechet")) if name}
    assert named
    for name in named:
        spec = names.resolve(name)
        assert spec.package or weights.repository_of(spec) or weights.url_of(spec), name
        assert "." in spec.name, name


@pytest.mark.parametrize("units", ["4:30", "4:30.5", "301", "301,323", "features.4:30"])
def test_units_are_what_is_written_and_no_number_to_the_base_of_60(units, tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(f"model: vit\nunits: {units}\nmethods: [maco]\nseed: 12\n")
    _, suite, _ = read_with(str(path), {})
    assert (suite.units, suite.seed) == (units, 12)
    path.write_text(
        f"models: [vit]\nunits: {units if ':' in units else repr(units)}\nside: 0.5\nconditions: {{none: null}}\n"
    )
    study = read_study(str(path))[1]
    assert (study.units, study.side) == (units, 0.5)


def test_text_is_utf_8_whatever_the_locale_says(tmp_path):
    suite = tmp_path / "s.yaml"
    suite.write_text("units: épagneul\n", encoding="utf-8")
    read = "import sys, pathlib, benchmark.suites.suite as s; print(ascii(s.read(pathlib.Path(sys.argv[1]))[1]))"
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", read, str(suite)], cwd=ROOT, env=os.environ | ascii_only, capture_output=True, text=True
    )
    assert done.stdout == ascii({"units": "épagneul"}) + "\n", done.stderr
