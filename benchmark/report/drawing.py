"""What all figures share: an empty one, the look of axes, and files that are drawn anew only where something changed.

Matplotlib is imported where something is drawn: a table alone does without.
"""

from __future__ import annotations

import functools
import hashlib
import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from featvis.errors import UserError
from featvis.storage.images import END, write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KEY = "featvis"
"""The text chunk of a PNG that says what it was drawn of."""


def drawn(path: Path, shown: str, draw: Callable[[], Figure]) -> Path:
    """A figure's file, drawn unless the PNG that is there was drawn of the same numbers by the same code.

    Args:
        path: of the figure.
        shown: all that it shows, as text.
        draw: makes it.
    """
    key = hashlib.sha256(f"{shown}\0{_code()}".encode()).hexdigest()
    return path if _key(path) == key else save(draw(), path, key)


def _key(path: Path) -> str | None:
    """What a PNG says that it was drawn of; None where it does not, is cut off or is not there."""
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as there:
            found = there.info.get(KEY)
    except OSError:
        return None
    return found if data.endswith(END) and isinstance(found, str) else None


def remove_others(folder: Path, stems: Iterable[str], written: Iterable[Path]) -> None:
    """Remove the figures of earlier drawings whose names this one does not use.

    One table is in `scores.png`, of several each is in a `scores-NAME.png`: names come and go with tables.

    Args:
        folder: of the figures.
        stems: of the figures that this drawing makes.
        written: all that it has made, or found as it would make them.
    """
    kept = set(written)
    for stem in stems:
        whole = folder / f"{stem}.png"
        # With a name behind, somebody's own picture may be called so; it lacks the key.
        named = (p for p in folder.glob(f"{stem}-*.png") if _key(p) is not None)
        for path in (whole, *named):
            if path not in kept:
                path.unlink(missing_ok=True)


@functools.cache
def _code() -> str:
    """A digest of the code that draws."""
    total = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        total.update(path.read_bytes())
    return total.hexdigest()


def named(path: Path | str, name: str, groups: int) -> Path:
    """A figure's path, with the name before its ending where there are several."""
    path = Path(path)
    return path if groups == 1 else path.with_name(f"{path.stem}-{name}{path.suffix}")


def figure_of(width: float, height: float) -> Figure:
    """An empty figure of so many inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # A Figure of one's own, not pyplot's: nothing global to close, and no window system asked for.
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def tidy(axis: Axes) -> None:
    """The look of all axes."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8, color="#8A8A8A")
    axis.set_axisbelow(True)
    for spine in axis.spines.values():
        spine.set_color("#8A8A8A")


def save(figure: Figure, path: Path, key: str | None = None) -> Path:
    """Write a figure, whole or not at all; `key`: what a PNG says that it was drawn of."""
    buffer = io.BytesIO()
    kind = path.suffix.lstrip(".").lower() or "png"
    if kind not in figure.canvas.get_supported_filetypes():
        raise UserError(f"Figures cannot be written as {path.suffix}; use .png, .pdf or .svg.")
    # No date and no version inside: the same records give the same bytes.
    left_out = {"png": ["Software"], "pdf": ["CreationDate", "Producer", "Creator"], "svg": ["Date"]}.get(kind, [])
    metadata: dict[str, str | None] = dict.fromkeys(left_out)
    if key is not None and kind == "png":
        metadata[KEY] = key
    figure.savefig(buffer, format=kind, dpi=200, metadata=metadata)
    write_atomic(path, buffer.getvalue())
    return path
