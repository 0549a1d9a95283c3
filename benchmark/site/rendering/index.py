"""What is searched: the classes and layers of networks in; scripts that a page loads one by one out.

A row is `[kind, name, key, parts]`; concepts and units are not listed, because they follow from how many a class or
layer has. A page that was opened as a file may load scripts, as it may not load JSON.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from benchmark.report.gallery import as_script
from benchmark.site.model import Network

ROWS = 500
"""Of a part."""


def parts(networks: Sequence[Network]) -> Iterator[tuple[str, bytes]]:
    """The files of the index, the list of parts last: names below `index`, and their content."""
    listed: list[dict[str, Any]] = []
    for network in networks:
        rows = [["class", e.name, e.key, e.parts] for e in network.classes]
        rows += [["layer", e.name, e.key, e.parts] for e in network.layers]
        for start in range(0, len(rows), ROWS):
            here = rows[start : start + ROWS]
            number = len(listed)
            name, file = f"FEATVIS_PART_{number}", f"part-{number}.js"
            classes = sum(row[0] == "class" for row in here)
            listed.append({"network": network.alias, "name": name, "file": file, "classes": classes})
            yield file, as_script(name, here)
    yield "parts.js", as_script("FEATVIS_PARTS", listed)
