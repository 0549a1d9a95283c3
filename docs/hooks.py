"""What mkdocs needs besides: the repository's other pages and pictures, and what is generated, so as never to be stale.

A comment `<!-- generate: NAME ARGUMENTS -->` in a page is where the text of a function of `GENERATED` stands. Links
that lead out of `docs/` to a file of the repository lead to its page.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import inspect
import io
import json
import logging
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", "results/**/*.md", "results/**/*.jpg", "results/**/*.png")
"""What else of the repository is part of the site, besides the notebooks."""

sys.path.insert(0, str(ROOT))


# --- what is generated ------------------------------------------------------------------------------------------------


def presets(method: str) -> str:
    """The presets of a method: a column a file of configs, a row an argument; what each costs and gives."""
    found: dict[str, dict[str, Any]] = {}
    notes: dict[str, str] = {}
    for path in sorted((ROOT / "configs").glob("*/*.yaml")):
        text = path.read_text(encoding="utf-8")
        model = yaml.safe_load(text).get("model")
        if isinstance(model, dict) and model["class_path"].rpartition(".")[2] == method:
            found[path.stem] = model["init_args"]
            said = " ".join(line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#"))
            notes[path.stem] = said.partition(" Cost: ")[2].replace(" Expect: ", " Expect ")
    default = {name: value for name, (value, _) in _arguments(method).items()}
    names = list(dict.fromkeys(name for values in found.values() for name in values))
    rows = [[f"`{name}`", *(_said(v.get(name, default.get(name))) for v in found.values())] for name in names]
    table = _table(["", *(f"`{name}`" for name in found)], rows)
    listed = "\n".join(f"- `{name}`: {note}" for name, note in notes.items())
    return f'<div class="presets" markdown>\n\n{table}\n\n</div>\n\n{listed}'


def arguments(method: str) -> str:
    """A method's own arguments: their defaults, and what its docstring says of each."""
    rows = [[f"`{name}`", _said(value), text] for name, (value, text) in _arguments(method).items()]
    return _table(["argument", "default", ""], rows)


def _arguments(method: str) -> dict[str, tuple[Any, str]]:
    """The default and the text of each of a method's own arguments, read off its source."""
    for path in (ROOT / "featvis" / "generators").rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and node.name == method:
                made = next(f for f in node.body if isinstance(f, ast.FunctionDef) and f.name == "__init__")
                given = zip(reversed(made.args.args), reversed(made.args.defaults), strict=False)
                said = re.findall(r"^    (\w+): (.*?)(?=^    \w|\n\n|\Z)", ast.get_docstring(node) or "", re.M | re.S)
                texts = {name: " ".join(text.split()) for name, text in said}
                return {a.arg: (_value(d), texts.get(a.arg, "")) for a, d in reversed(list(given))}
    raise LookupError(f"featvis.generators has no class {method}")


def _value(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return " → ".join(dict.fromkeys(map(str, value)))
    return "none" if value is None else str(value)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def columns(kind: str) -> str:
    """The columns that suites score (`suites`), or that one study alone has (`studies`)."""
    from benchmark.records.columns import COLUMNS

    rows = [
        [f"`{c.name}`", c.heading + (" ↑" if c.higher_is_better else " ↓"), c.unit, f"`{c.group}`"]
        for c in COLUMNS
        if bool(c.evaluator) == (kind == "suites")
    ]
    return _table(["in records", "heading", "unit", "group"], rows)


def commands() -> str:
    """Every command with what its `--help` says, as it says it."""
    from benchmark.cli import COMMANDS, main

    os.environ["COLUMNS"] = "80"
    parts = []
    for name, command in COMMANDS.items():
        # A command with parts of its own (`study make`) has them below it.
        parts_of_it = [part for part in command if part != "_help"] if isinstance(command, dict) else []
        for words in ([name], *([name, part] for part in parts_of_it)):
            out = io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
                main([*words, "--help"])
            # A backspace stands for an empty metavar, and where this checkout lies is no one's business.
            text = out.getvalue().replace("\b", "").replace(f"{ROOT}/", "").strip()
            parts.append(f"{'#' * (1 + len(words))} {' '.join(words)}\n\n```text\n{text}\n```")
    return "\n\n".join(parts)


def reference() -> str:
    """What can be imported from `featvis`, by kind, each by its docstring."""
    import featvis

    kinds: dict[str, list[str]] = {"Functions": [], "Methods": [], "Values": []}
    for name in sorted(featvis.__all__, key=lambda name: (name != "visualize", name != "layers")):
        value = getattr(featvis, name)
        if not callable(value):
            continue
        home = f"{value.__module__}.{value.__qualname__}"
        kind = "Functions" if inspect.isfunction(value) else "Values"
        if hasattr(value, "optimise"):
            kind = "Methods"
        kinds[kind].append(f"::: {home}\n    options:\n      heading: featvis.{name}")
    return "\n\n".join(f"## {kind}\n\n" + "\n\n".join(found) for kind, found in kinds.items() if found)


def table(name: str) -> str:
    """A generated table of results/README.md."""
    text = (ROOT / "results" / "README.md").read_text(encoding="utf-8")
    found = re.search(rf"<!-- table: {re.escape(name)} begin -->\n(.*?)<!-- table: ", text, re.DOTALL)
    if found is None:
        raise LookupError(f"results/README.md has no table {name}")
    return found[1].strip()


@functools.cache
def _agreements() -> tuple[Any, Any]:
    """The committed records and what their columns agree on; a page asks for both twice."""
    from benchmark.records.record import load_all
    from benchmark.report import agreement

    records = load_all(ROOT / "results" / "records")
    return records, agreement.agreements(records)


def believe(what: str) -> str:
    """Which columns to believe, from the committed records: `all` tables together, or `each` for itself."""
    from benchmark.report import agreement
    from benchmark.report.tables.writers import markdown_part

    records, found = _agreements()
    if what == "all":
        return "\n\n".join(f"### {s.title}\n\n{markdown_part(s)}" for s in agreement.of_all(records, found))
    parts = []
    for one in found:
        if isinstance(one, str):
            continue
        suite, alias, layer = one.place
        part = f"### {one.name}\n\n{agreement.verdicts_text(one)}"
        figure = f"results/figures/agreement-{suite}-{alias}.png"
        if not layer and (ROOT / figure).is_file():
            part += f"\n\n![rank correlations between the columns of {suite}](../{figure})"
        parts.append(part)
    return "\n\n".join(parts)


def gallery() -> str:
    """The pictures of docs/gallery as its list has them: each part with its command, a tile a picture."""
    folder = ROOT / "docs" / "gallery"
    parts = []
    for part in yaml.safe_load((folder / "pictures.yaml").read_text(encoding="utf-8")):
        tiles = []
        for name, caption in part["pictures"].items():
            if not (folder / name).is_file():
                raise LookupError(f"docs/gallery/pictures.yaml names {name}, which is not there")
            picture = f'<a href="gallery/{name}"><img src="gallery/{name}" alt="{caption}" loading="lazy"></a>'
            tiles.append(f"<figure>{picture}<figcaption>{caption}</figcaption></figure>")
        command = f"```\n{part['command'].strip()}\n```"
        body = '<div class="tiles">\n' + "\n".join(tiles) + "\n</div>"
        parts.append(f"## {part['title']}\n\n{part['says'].strip()}\n\n{body}\n\n{command}")
    return "\n\n".join(parts)


GENERATED: dict[str, Callable[..., str]] = {
    "presets": presets, "arguments": arguments, "columns": columns, "commands": commands, "reference": reference,
    "table": table, "gallery": gallery, "believe": believe,
}  # fmt: skip
MARK = re.compile(r"^<!-- generate: (\w+) ?(.*?) -->$", re.MULTILINE)


def generated(text: str) -> str:
    """A page with what is generated in its place."""
    return MARK.sub(lambda match: GENERATED[match[1]](*match[2].split()), text)


def notebook(path: Path) -> str:
    """A notebook's cells as a page: they are kept without outputs, so there is nothing else in it."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"]).strip()
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
    return "\n\n".join(part for part in parts if part)


# --- links ------------------------------------------------------------------------------------------------------------

LINK = re.compile(r"(?<=\]\()(?!\w+:|#|/)([^)#\s]+)")


def place(uri: str) -> PurePosixPath:
    """Where a page lies in the repository."""
    path = PurePosixPath(uri)
    if path.parts[0] == "notebooks":
        return path.with_suffix(".ipynb")
    return path if (ROOT / path).is_file() and not (ROOT / "docs" / path).is_file() else PurePosixPath("docs") / path


def relinked(text: str, uri: str) -> str:
    """A page whose links to files of the repository lead to their pages."""

    def link(match: re.Match[str]) -> str:
        target = os.path.normpath(place(uri).parent / match[1])
        if not (ROOT / target).exists():
            return match[1]
        if (ROOT / target / "README.md").is_file():
            target += "/README.md"
        page = PurePosixPath(target.removeprefix("docs/"))
        page = page.with_suffix(".md") if page.suffix == ".ipynb" else page
        return Path(os.path.relpath(page, PurePosixPath(uri).parent)).as_posix()

    return LINK.sub(link, text)


# --- mkdocs' events ---------------------------------------------------------------------------------------------------


def on_config(config: Any) -> Any:
    """Formulas become MathML, which browsers draw by themselves."""
    latex = importlib.import_module("latex2mathml.converter")

    def formula(source: str, language: str, css: str, options: Any, md: Any, **_: Any) -> str:
        return latex.convert(source.strip(), display="block")

    fences = [{"name": "math", "class": "math", "format": formula}]
    config.mdx_configs.setdefault("pymdownx.superfences", {})["custom_fences"] = fences
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages and pictures from outside of docs/."""
    from mkdocs.structure.files import File

    for pattern in PAGES:
        for path in sorted(ROOT.glob(pattern)):
            files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=notebook(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Fill in what is generated; lead links to where the site has their files."""
    return relinked(generated(markdown), page.file.src_uri)


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Warn, which fails a strict build, where a page would load something from another host."""
    for found in re.findall(r"<(?:script|img|link|iframe)\b[^>]*(?:src|href)=[\"']?((?:https?:)?//[^\"' >]+)", output):
        logging.getLogger("mkdocs.hooks").warning("%s would load %s", page.file.src_uri, found)
    return output
