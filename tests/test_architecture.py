"""What docs/architecture.md promises: who may import whom, and rooms that can be overlooked."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from places import ROOT

PACKAGES = ("featvis", "benchmark")
MOST_MODULES, MOST_LINES = 12, 400


def copy_of_the_project(folder: Path) -> Path:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__", "assets"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def lint_imports(folder: Path) -> tuple[int, dict[str, str], str]:
    """The exit code of `lint-imports` in a folder, KEPT or BROKEN by contract, and what it printed."""
    pytest.importorskip("importlinter", reason="needs import-linter, which the extras `test` and `lint` install")
    call = "from importlinter.cli import lint_imports_command as c; c()"
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", call, "--no-cache", "--no-logo"], cwd=folder,
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "200"},
    )  # fmt: skip
    verdicts = dict(re.findall(r"^(.+?) (KEPT|BROKEN)\b.*$", done.stdout, re.MULTILINE))
    assert verdicts, done.stdout + done.stderr
    return done.returncode, verdicts, done.stdout


def test_the_contracts_hold(tmp_path):
    code, verdicts, printed = lint_imports(copy_of_the_project(tmp_path))
    assert code == 0, printed
    assert set(verdicts.values()) == {"KEPT"}


def test_a_forbidden_import_breaks_its_contract_by_name(tmp_path):
    copy_of_the_project(tmp_path)
    inside = next(p.stem for p in sorted((tmp_path / "featvis" / "engine").glob("*.py")) if p.stem != "__init__")
    forbidden = {
        "featvis/metrics/base.py": "import benchmark",
        "featvis/canvas/color.py": f"import featvis.engine.{inside}",
        "benchmark/report/costs.py": "import torch",
        "benchmark/scoring/pictures.py": "import featvis.generators",
        "benchmark/studies/invert.py": "import benchmark.commands.run",
    }
    for file, line in forbidden.items():
        with (tmp_path / file).open("a") as module:
            module.write(f"\n\n{line}\n")
    code, verdicts, printed = lint_imports(tmp_path)
    assert code != 0, printed
    assert {name for name, verdict in verdicts.items() if verdict == "BROKEN"} >= {
        "The library does without the harness, Weights & Biases and the command line",
        "The engine is entered by its door; only perf reaches inside",
        "Records and reports do without torch",
        "Scoring reads images: it knows neither generators nor Weights & Biases",
        "Commands are called by the command line alone",
        "The harness, along the way of the data",
    }
    assert verdicts["Metrics know nothing of featvis but its errors and intervals"] == "KEPT"


def modules() -> dict[str, Path]:
    """Every module of the project by its dotted name."""
    files = [p for package in PACKAGES for p in (ROOT / package).rglob("*.py")]
    return {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in files}


def imports(tree: ast.AST) -> Iterator[str]:
    """What a file imports, also within its functions, but not what it needs for its annotations alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            # A name may be a module of the package or something that the package's own file holds.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            yield from imports(node)


def import_graph() -> dict[str, set[str]]:
    known = modules()
    graph = {}
    for name, path in known.items():
        found = {t if t in known else t.rpartition(".")[0] for t in imports(ast.parse(path.read_text()))}
        graph[name] = found & set(known) - {name}
    return graph


def test_no_files_import_each_other_in_a_circle():
    graph = import_graph()
    # graphlib names the circle where there is one.
    chains: dict[str, list[str]] = {}
    for name in TopologicalSorter(graph).static_order():
        chains[name] = [name, *max((chains[other] for other in graph[name]), key=len, default=[])]
    longest = max(chains.values(), key=len)
    assert {"featvis.errors", "benchmark.commands.run"} <= graph["benchmark.cli"], "the graph has lost its edges"
    print(f"the longest chain of imports has {len(longest)} modules: {' -> '.join(longest)}")


def test_no_file_is_read_or_written_as_text_of_the_locale():
    without = [
        f"{name}:{node.lineno}"
        for name, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and getattr(node.func, "attr", "") in ("read_text", "write_text")
        and "encoding" not in {k.arg for k in node.keywords}
    ]
    assert without == []


def test_no_folder_and_no_module_is_too_large_to_be_overlooked():
    folders: dict[Path, int] = {}
    for path in modules().values():
        if path.name != "__init__.py":
            folders[path.parent] = folders.get(path.parent, 0) + 1
    crowded = {str(f.relative_to(ROOT)): n for f, n in folders.items() if n > MOST_MODULES}
    lengths = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in modules().values()}
    long = {file: n for file, n in lengths.items() if n > MOST_LINES}
    assert not crowded, f"folders of more than {MOST_MODULES} modules"
    assert not long, f"modules of more than {MOST_LINES} lines"


def test_the_document_names_every_wing_and_no_file_that_is_not_there():
    text = (ROOT / "docs" / "architecture.md").read_text()
    tree = text.partition("## The way of a unit")[0]
    for package in PACKAGES:
        own = tree.partition(f"    {package}/\n")[2]
        named = set(
            re.findall(r"^      (\w+)/ ", own.partition("\n    benchmark/")[0].partition("\n    configs/")[0], re.M)
        )
        there = {p.parent.name for p in (ROOT / package).glob("*/__init__.py")}
        assert named == there, package
    paths = re.findall(r"`((?:featvis|benchmark|configs|tests)/[\w/.]*)`", text)
    assert len(paths) > 15
    assert [p for p in paths if not (ROOT / p).exists()] == []
