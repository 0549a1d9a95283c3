"""What a visualization gives: units and their pictures, for a notebook, a folder or further work."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from featvis.canvas.montage import to_picture
from featvis.errors import UserError, nearest
from featvis.generators import Generator, Visualizations
from featvis.generators.callbacks import with_facts
from featvis.storage import images


class Pictures(Sequence[Image.Image]):
    """Visualizations of units: a sequence of pictures that a notebook shows.

    Attributes:
        units: what they are of, in their order.
        images: a PIL image each, RGB (a montage where the network takes other channels).
        scores: the unit's activation on the whole picture, a number each.
        canvas: (B, C, H, W), in [0, 1].
        alpha: (B, H, W), how much the unit's gradient came to each pixel, not scaled.
        failed: units whose score stopped being finite, and at which step.
        silent: units that had no gradient at any step; their pictures show nothing.
        generator: what made them; it may have been given another network since.
        facts: of each unit of each batch, noted when it was made.
    """

    def __init__(
        self, generator: Generator, parts: Sequence[Visualizations], facts: Sequence[Sequence[dict[str, Any]]]
    ) -> None:  # fmt: skip
        self.generator, self.parts, self.facts = generator, list(parts), facts
        self.units = [unit for part in parts for unit in part.units]
        self.canvas = torch.cat([part.canvas for part in parts])
        self.alpha = torch.cat([part.alpha for part in parts])
        self.scores = [float(a) for part in parts for a in part.activations]
        self.images = [Image.fromarray(to_picture(canvas)) for canvas in self.canvas]
        self.failed = {part.units[i]: step for part in parts for i, step in part.failed.items()}
        self.silent = [part.units[i] for part in parts for i in part.silent]

    def __len__(self) -> int:
        return len(self.units)

    def __iter__(self) -> Iterator[Image.Image]:
        return iter(self.images)

    def __getitem__(self, key: Any) -> Any:
        """A picture by its place, by its name, or by its unit as it is written, by its label or its id."""
        if isinstance(key, int | slice):
            return self.images[key]
        names = [
            (unit.text, unit.label, unit.id, unit.label.lower(), name)
            for unit, name in zip(self.units, self.names, strict=True)
        ]
        for i, known in enumerate(names):
            if str(key) in known:
                return self.images[i]
        raise KeyError(f"{key} is not among these; {nearest(str(key), [known[0] for known in names])}")

    def __repr__(self) -> str:
        said = ", ".join(f"{name} ({self._note(i)})" for i, name in enumerate(self.names))
        return f"Pictures({said})"

    @property
    def names(self) -> list[str]:
        """What each is called: the label and, where that says more, the unit."""
        return [u.label if u.label in (u.text, "") or u.text.isdecimal() else f"{u.label} {u.text}" for u in self.units]

    def _note(self, i: int) -> str:
        unit = self.units[i]
        if unit in self.failed:
            return f"failed at step {self.failed[unit]}"
        return "silent" if unit in self.silent else f"{self.scores[i]:.2f}"

    def _repr_html_(self) -> str:
        """A figure each, side by side."""
        cells, font = [], "font:12px system-ui,sans-serif;padding-top:4px"
        for i, (name, image) in enumerate(zip(self.names, self.images, strict=True)):
            buffer = BytesIO()
            image.save(buffer, "PNG")
            data, title = base64.b64encode(buffer.getvalue()).decode(), html.escape(name)
            cells.append(
                f'<figure style="margin:0"><img alt="{title}" width="224" src="data:image/png;base64,{data}" '
                f'style="border-radius:6px;display:block"><figcaption style="{font}">{title} '
                f'<span style="opacity:.6">{html.escape(self._note(i))}</span></figcaption></figure>'
            )
        return f'<div style="display:flex;flex-wrap:wrap;gap:12px">{"".join(cells)}</div>'

    def sheet(self, columns: int | None = None, side: int = 224) -> Image.Image:
        """All pictures on one, with their names.

        Args:
            columns: how many stand in a row; None: a square of them.
            side: of each, in pixels.
        """
        columns = columns or math.ceil(math.sqrt(len(self)))
        rows, line, gap = math.ceil(len(self) / columns), 20, 8
        sheet = Image.new("RGB", (columns * (side + gap) + gap, rows * (side + line + gap) + gap), "white")
        draw = ImageDraw.Draw(sheet)
        for i, image in enumerate(self.images):
            x, y = gap + i % columns * (side + gap), gap + i // columns * (side + line + gap)
            shown = image.copy()
            shown.thumbnail((side, side), Image.Resampling.LANCZOS)
            sheet.paste(shown, (x + (side - shown.width) // 2, y + (side - shown.height) // 2))
            draw.text((x, y + side + 3), f"{self.names[i]}  {self._note(i)}"[: side // 6], fill="black")
        return sheet

    def show(self) -> None:
        """Show them: in a notebook below the cell, else in a window of their own."""
        try:
            from IPython import get_ipython
            from IPython.display import display
        except ImportError:
            get_ipython = None
        if get_ipython is not None and get_ipython() is not None:
            display(self)
        else:
            self.sheet().show()

    def save(self, folder: str | Path) -> list[Path]:
        """Write one PNG a unit, with its transparency and its facts, as `featvis generate` does.

        A picture of the same unit is replaced. Of a function nobody can tell whether it is the same; its picture stays.

        Args:
            folder: is made where there is none.

        Returns:
            The files. Units that failed have none.

        Raises:
            UserError: when the folder cannot be written, or has another picture by the name of a function's.
        """
        made = [
            (Path(folder) / f"{unit.id}.png", unit, part, i, facts[i])
            for part, facts in zip(self.parts, self.facts, strict=True)
            for i, unit in enumerate(part.units)
            if i not in part.failed
        ]
        try:
            for path, unit, part, i, _ in made:
                if unit.objective.unsaid and path.is_file() and not _shows(path, part, i):
                    raise UserError(
                        f"{path} is another picture, and nothing says that {unit.text} is the same function; name "
                        "another folder, or remove the file"
                    )
            for path, _, part, i, facts in made:
                images.write(path, *with_facts(part, i, facts))
        except OSError as error:
            raise UserError(f"{folder} cannot be written ({error.strerror}); name another folder") from error
        return [path for path, *_ in made]


def _shows(path: Path, part: Visualizations, i: int) -> bool:
    """Whether a file has the colours of a batch's i-th picture."""
    try:
        return np.array_equal(images.read(path)[0][..., :3], to_picture(part.canvas[i]))
    except images.BadImage:
        return False
