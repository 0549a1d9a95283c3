"""Pictures of the page: WebP files that are named by their content, so that a name says nothing of the answer."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

from jaxtyping import UInt8
from PIL import Image, ImageFilter
from torch import Tensor

from benchmark.running.produce import folder_of, produce
from benchmark.study.config import Condition, Study
from benchmark.study.making.passes import Passes
from benchmark.suites.methods import build
from benchmark.suites.suite import Suite
from featvis.data.files import fit, open_rgb
from featvis.errors import UserError
from featvis.networks.classifier import Classifier
from featvis.networks.units import Unit
from featvis.storage import images

SHOWN = 320
"""Pixels: the longer side of a reference."""


class Shelf:
    """Puts pictures down, each once.

    Args:
        folder: of the pictures.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.facts: dict[str, Any] = {}

    def put(self, image: Image.Image, facts: dict[str, Any], exact: bool) -> str:
        """Keep a picture; its file's name.

        Args:
            image: RGB.
            facts: how it was made.
            exact: without loss, so that what is shown is what was measured.
        """
        buffer = BytesIO()
        image.save(buffer, "WEBP", lossless=exact, quality=75 if exact else 88, method=4)
        name = f"{hashlib.sha256(buffer.getvalue()).hexdigest()[:20]}.webp"
        if not (self.folder / name).is_file():
            images.write_atomic(self.folder / name, buffer.getvalue())
        self.facts[name] = facts
        return name

    def put_bytes(self, image: UInt8[Tensor, "3 h w"], facts: dict[str, Any]) -> str:
        """The same of a tensor, without loss."""
        return self.put(Image.fromarray(image.permute(1, 2, 0).numpy()), facts, exact=True)


def seen(image: Image.Image, blur: float) -> Image.Image:
    """A reference as the page shows it: no larger than `SHOWN`, blurred by a share of its side."""
    image = image.copy()
    image.thumbnail((SHOWN, SHOWN), Image.Resampling.LANCZOS)
    return image.filter(ImageFilter.GaussianBlur(blur * min(image.size))) if blur else image


class References:
    """The pictures that a condition shows of the units of a network.

    Args:
        study: what its YAML says.
        network: whose units.
        passes: over the natural images.
        out: the study's folder; pictures that are made go below `generated` in it.
        shelf: where they go.
    """

    def __init__(self, study: Study, network: Classifier, passes: Passes, out: Path, shelf: Shelf) -> None:
        self.study, self.network, self.passes, self.out, self.shelf = study, network, passes, out, shelf
        self._folders: dict[str, Path] = {}

    def of(self, name: str, units: Sequence[Unit], used: dict[str, set[int]]) -> dict[str, tuple[str, ...]]:
        """The files of a condition, by the unit's id.

        Args:
            name: of the condition.
            units: that have trials.
            used: the images of each unit's trials, which are no references of it.

        Raises:
            UserError: for a method without pictures of a unit.
        """
        condition = self.study.conditions[name]
        if condition.natural:
            return self._natural(condition, units, used)
        folder = self._folder(name, condition, units)
        found = {}
        for unit in units:
            paths = [p for r in range(self.study.references) if (p := folder / f"{_seed(unit, r).id}.png").is_file()]
            if not paths:
                raise UserError(
                    f"conditions.{name} has no picture of {unit.id} ({unit.label}) of {self.network.alias}; {folder} "
                    f"should hold {unit.id}.png"
                )
            found[unit.id] = tuple(self._put(path, condition) for path in paths)
        return found

    def _put(self, path: Path, condition: Condition) -> str:
        try:
            image = images.over_grey(path) if condition.transparency else open_rgb(path)
        except OSError as error:
            raise UserError(f"{path} cannot be shown ({error}); make it again") from error
        facts = {"file": path.name, "transparency": condition.transparency, "blur": condition.blur}
        return self.shelf.put(seen(image, condition.blur), facts | {"made": images.facts(path)}, exact=False)

    def _natural(
        self, condition: Condition, units: Sequence[Unit], used: dict[str, set[int]]
    ) -> dict[str, tuple[str, ...]]:
        most = max((len(v) for v in used.values()), default=0)
        best = self.passes.most_exciting(units, self.study.references + most)
        found = {}
        for unit in units:
            rows = [i for i in best[unit.id] if i not in used.get(unit.id, set())][: self.study.references]
            names = []
            for i in rows:
                image = fit(self.passes.source.open(i)[0], self.network.input_size)
                facts = {"image": self.passes.source.where(i), "blur": condition.blur}
                names.append(self.shelf.put(seen(image, condition.blur), facts, exact=False))
            found[unit.id] = tuple(names)
        return found

    def _folder(self, name: str, condition: Condition, units: Sequence[Unit]) -> Path:
        if condition.folder is not None:
            folder = Path(condition.folder.replace("{model}", self.network.alias))
            if not folder.is_dir():
                raise UserError(f"conditions.{name}.folder {folder} is not a folder; name one that holds <unit>.png")
            return folder
        assert condition.method is not None
        row = Suite(model=self.network.given, units=self.study.units, methods={}, seed=self.study.seed)
        generator, preset, _ = build(condition.method, condition.options or {}, row, {})
        key = f"{preset or condition.method} {generator.config()}"
        if key not in self._folders:
            wanted = [_seed(unit, r) for unit in units for r in range(self.study.references)]
            folder = folder_of(generator, self.out / "generated", preset or condition.method)
            failed = produce(generator, wanted, folder)
            if lost := [
                unit for unit in units if all(_seed(unit, r).id in failed for r in range(self.study.references))
            ]:
                raise UserError(
                    f"conditions.{name}: the optimisation of {lost[0].id} ({lost[0].label}) did not stay finite; "
                    "leave the unit out, or change the method's options"
                )
            self._folders[key] = folder
        return self._folders[key]


def _seed(unit: Unit, repeat: int) -> Unit:
    return replace(unit, repeat=repeat)
