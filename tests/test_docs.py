"""The documentation: its links lead somewhere, what is generated says all that there is, and a dead link fails."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from places import ROOT

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("results/*.md")])


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cells(table: str) -> list[list[str]]:
    """The rows of the table in a text."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[c.strip().strip("`") for c in line[1:-1].split("|")] for line in lines]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_to_files_of_the_repository(page):
    """As a forge shows the pages; the site's own check is mkdocs' (`make docs`)."""
    found = [a or b for a, b in LINK.findall(FENCE.sub("", page.read_text()))]
    targets = [link.partition("#")[0] for link in found if "://" not in link]
    assert [t for t in targets if t and not (page.parent / t).exists()] == []


def test_every_page_of_the_navigation_is_there_and_every_page_is_in_it(hooks):
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]

    def leaves(part):
        if isinstance(part, str):
            return [part]
        return [leaf for p in (part.values() if isinstance(part, dict) else part) for leaf in leaves(p)]

    assert [p for p in leaves(nav) if not (ROOT / hooks.place(p)).is_file()] == []
    own = {p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.md")}
    books = {f"notebooks/{p.stem}.md" for p in (ROOT / "notebooks").glob("*.ipynb")}
    assert own | books <= set(leaves(nav))


@pytest.mark.parametrize(
    "method", ["MACO", "Fourier", "CBR", "AM", "Attack", "DAS", "VITAL", "DeepInversion", "SeededAccentuation"]
)
def test_a_presets_table_has_every_argument_of_every_preset(method, hooks):
    page = (ROOT / "docs" / "methods" / f"{method.removeprefix('Seeded').lower()}.md").read_text()
    assert f"<!-- generate: presets {method} -->" in page
    (_, *names), _, *rows = cells(hooks.presets(method))
    told = {name: {row[0]: row[1 + i] for row in rows} for i, name in enumerate(names)}
    expected = {}
    for folder in ("generator", "attack"):
        for path in (ROOT / "configs" / folder).glob("*.yaml"):
            model = yaml.safe_load(path.read_text())["model"]
            if model["class_path"] == f"featvis.generators.{method}":
                expected[path.stem] = model["init_args"]
    assert set(told) == set(expected)
    for name, values in expected.items():
        for argument, value in values.items():
            said = told[name][argument]
            if isinstance(value, bool):
                assert said == ("yes" if value else "no")
            elif isinstance(value, float):
                assert float(said) == value
            elif isinstance(value, list):
                assert [float(s) for s in said.split(" → ")] == list(dict.fromkeys(value))
            else:
                assert said == ("none" if value is None else str(value))


def test_an_argument_that_a_preset_leaves_out_is_told_by_its_default(hooks):
    (_, *names), _, *rows = cells(hooks.presets("MACO"))
    (offset,) = (row for row in rows if row[0] == "phase_offset")
    assert "phase_offset" not in (ROOT / "configs/generator/maco_horama.yaml").read_text()
    assert offset[1 + names.index("maco_horama")] == "no"


def test_all_metrics_and_all_commands_are_told(hooks):
    from benchmark.cli import COMMANDS
    from benchmark.records.columns import COLUMNS

    page = hooks.generated((ROOT / "docs" / "metrics.md").read_text())
    for column in COLUMNS:
        assert f"| `{column.name}` | {column.heading} {'↑' if column.higher_is_better else '↓'} |" in page
    page = hooks.generated((ROOT / "docs" / "commands.md").read_text())
    assert re.findall(r"^## (\S+)$", page, re.MULTILINE) == list(COMMANDS)
    _, *said = page.split("\n## ")
    for text in said:
        name = text.partition("\n")[0]
        assert re.search(rf"^usage: featvis (\[options\] )?{name}(\s|$)", text, re.MULTILINE), text
    assert "--suite" in next(t for t in said if t.startswith("run\n"))


def test_what_to_believe_is_told_from_the_published_tables(hooks):
    page = hooks.generated((ROOT / "docs" / "what_to_believe.md").read_text())
    published = (ROOT / "results" / "tables" / "agreement.md").read_text()
    rows = [line for line in published.splitlines() if line.startswith(("|", "- In "))]
    assert len(rows) > 10
    assert [row for row in rows if row not in page] == []
    for path in (ROOT / "results" / "tables").glob("*/*_agreement.md"):
        suite, alias = path.parent.name, path.stem.removesuffix("_agreement")
        part = page.partition(f"### {alias}, suite {suite}\n")[2].partition("\n### ")[0]
        verdicts = path.read_text().partition("## Which columns to believe\n")[2].partition("\n## ")[0]
        assert verdicts.strip() in part


def test_links_out_of_docs_lead_to_the_sites_pages(hooks):
    text = "[a](../CONTRIBUTING.md#a-metric) [b](../results) [c](../notebooks/3_layers.ipynb) [d](speed.md) [e](https://a.b)"
    assert hooks.relinked(text, "metrics.md") == (
        "[a](CONTRIBUTING.md#a-metric) [b](results/README.md) [c](notebooks/3_layers.md) [d](speed.md) [e](https://a.b)"
    )
    assert hooks.relinked("[a](docs/speed.md)", "CONTRIBUTING.md") == "[a](speed.md)"
    assert hooks.relinked("![a](../../results/figures/visualizations.jpg)", "methods/maco.md") == (
        "![a](../results/figures/visualizations.jpg)"
    )


def test_a_notebook_becomes_a_page_of_its_cells(hooks):
    path = ROOT / "notebooks" / "3_layers.ipynb"
    page = hooks.notebook(path)
    assert page.startswith("# ")
    assert page.count("```python\n") == path.read_text().count('"cell_type": "code"')


def test_the_gallerys_pictures_are_there_and_small(hooks):
    page = hooks.generated((ROOT / "docs" / "gallery.md").read_text())
    shown = set(re.findall(r'<img src="gallery/([^"]+)"', page))
    there = {p.name: p.stat().st_size for p in (ROOT / "docs" / "gallery").glob("*.jpg")}
    assert shown == set(there)
    assert sum(there.values()) < 1_500_000


def test_a_dead_link_fails(tmp_path):
    """With the site's own settings, on pages of which one links to nowhere."""
    pytest.importorskip("material", reason="needs mkdocs-material (pip install 'featvis[docs]')")
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    small = {key: settings[key] for key in ("site_name", "strict", "validation", "markdown_extensions")}
    (tmp_path / "docs").mkdir()
    for link, code in (("other.md#there", 0), ("other.md#nowhere", 1), ("nowhere.md", 1)):
        (tmp_path / "docs" / "index.md").write_text(f"# Page\n\n[link]({link})\n")
        (tmp_path / "docs" / "other.md").write_text("# Page\n\n## There\n")
        (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(small))
        done = subprocess.run([sys.executable, "-m", "mkdocs", "build"], cwd=tmp_path, capture_output=True, check=False)
        assert (done.returncode != 0) == bool(code), done.stderr.decode()


def test_the_release_check_names_what_is_missing_and_what_is_too_much(tmp_path):
    """Its two lists against each other, on files made for it."""
    spec = importlib.util.spec_from_file_location("check_release", ROOT / ".ci" / "check_release.py")
    assert spec is not None
    assert spec.loader is not None
    check = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(check)
    assert check.problems(tmp_path) == [f"{tmp_path} must hold one wheel and one sdist, not []"]
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs a checkout of git's")
    from featvis import __version__

    build(tmp_path, __version__, leave_out="featvis/errors.py", add="tests/extra.py")
    wrong = check.problems(tmp_path)
    wheel, sdist = f"featvis-{__version__}-py3-none-any.whl", f"featvis-{__version__}.tar.gz"
    assert wrong == [
        f"{name} {what}"
        for name in (wheel, sdist)
        for what in ("lacks featvis/errors.py", "holds tests/extra.py, which git does not have")
    ]


def build(folder: Path, version: str, leave_out: str, add: str) -> None:
    """A wheel and an sdist as they shall be, but for one file that is not there and one that is too much."""
    import tarfile
    import zipfile

    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    names = [n for n in listed.split("\0") if n and n != leave_out and (ROOT / n).is_file()]
    with zipfile.ZipFile(folder / f"featvis-{version}-py3-none-any.whl", "w") as file:
        for name in names:
            if name.startswith(("featvis/", "benchmark/", "configs/")):
                file.writestr(f"featvis/{name}" if name.startswith("configs/") else name, "")
        file.writestr(f"featvis-{version}.dist-info/METADATA", "")
        file.writestr(add, "")
    with tarfile.open(folder / f"featvis-{version}.tar.gz", "w:gz") as file:
        for name in (*names, add, "PKG-INFO"):
            file.addfile(tarfile.TarInfo(f"featvis-{version}/{name}"))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_list_is_a_list_and_no_paragraph_with_dashes(page):
    """Python-Markdown ends a list at a paragraph that is indented by two spaces, and the rest becomes one block."""
    markdown = pytest.importorskip("markdown", reason="needs mkdocs (pip install 'featvis[docs]')")
    text = re.sub(r"\A---\n.*?\n---\n", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    shown = markdown.markdown(text, extensions=["tables", "fenced_code"])
    shown = re.sub(r"<(pre|table|code)\b.*?</\1>", "", shown, flags=re.DOTALL)
    paragraphs = re.findall(r"<p>(.*?)</p>", shown, flags=re.DOTALL)
    assert not [text for text in paragraphs if re.search(r"^\s*[-*] ", text, re.MULTILINE)]
