"""Runs a notebook's code cells by IPython, in this process and without a kernel, and says what they put out."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

STEPS = re.compile(r"""(\b(?:steps|STEPS) ?[=:] ?|steps", ")(\d+)""")
"""How a notebook says how long an optimisation is."""


def main(path: str, into: str, most: str) -> None:
    """Run the cells in their order; to a file: all text, how many pictures, and the first error.

    Args:
        path: of the notebook.
        into: the file, JSON.
        most: an optimisation stops after as many steps; with as few a picture shows nothing, but the path is the same.
    """
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    import nbformat
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output

    class Shell(InteractiveShell):
        def enable_gui(self, gui: str | None = None) -> None:
            """No window system: pictures are outputs."""

    shell = Shell.instance(colors="nocolor")
    text, pictures, error = "", 0, None
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type != "code":
            continue
        with capture_output() as said:
            source = STEPS.sub(lambda found: found[1] + str(min(int(found[2]), int(most))), cell.source)
            result = shell.run_cell(source)
        text += said.stdout + said.stderr
        pictures += sum("image/png" in output.data for output in said.outputs)
        if not result.success:
            error = f"{cell.source}\n{result.error_before_exec or result.error_in_exec!r}"
            break
    Path(into).write_text(json.dumps({"text": text, "pictures": pictures, "error": error}))


if __name__ == "__main__":
    main(*sys.argv[1:])
