"""What is to be scored, and how; as JSON, so that the scoring is a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from featvis.data.sets import ImageSet, Role, open_images


@dataclass
class Row:
    """One row of the table.

    Attributes:
        method: its name; `real` and `noise` are made here.
        folder: of its images, relative to the run's folder, or absolute.
        preset: the file of configs/generator that it started from.
        config: of the generator.
        config_hash: of the generator.
        transparency: show the images over a middle grey by their transparency (row "MACO" of Fel et al. 2023, Table 3).
    """

    method: str
    folder: str | None = None
    preset: str | None = None
    config: dict[str, Any] | None = None
    config_hash: str | None = None
    transparency: bool = False


@dataclass
class Plan:
    """What is to be scored, and how; written as JSON, so that the scoring is a process of its own.

    Attributes:
        out: the run's folder.
        suite: its name.
        model: the target network.
        classifiers: of the transferability score.
        frechet: the network whose features stand in for Inception's.
        data: the real images (see `featvis.data.sets`) among which the nearest is sought, or None for the embedded
            reference.
        frechet_data: those that sets are compared with; None: `data`.
        spectrum_data: those of the natural spectrum; None: `data`.
        sets: what was found of them: for each role its name, number of images and fingerprint.
        cache: folder of the features of real images.
        unavailable: networks that are not to be had, and why; their columns are absent.
        seed: of the row `noise`.
        units: ids of the units.
        labels: their names.
        canvas: (H, W) of the rows `noise` and `real`.
        rows: of the table.
        metrics: groups to compute; empty: all.
        wandb: `offline`, `online` or `disabled`.
        failed: cells whose generation failed, and why.
        command: what makes the run anew.
    """

    out: str
    suite: str
    model: str
    classifiers: list[str]
    frechet: str
    data: str | None
    seed: int
    units: list[str]
    labels: list[str]
    canvas: list[int]
    rows: list[Row]
    metrics: list[str] = field(default_factory=list)
    wandb: str = "disabled"
    failed: dict[str, str] = field(default_factory=dict)
    command: str | None = None
    frechet_data: str | None = None
    spectrum_data: str | None = None
    sets: dict[str, dict[str, Any]] = field(default_factory=dict)
    cache: str = "runs/reference"
    unavailable: dict[str, str] = field(default_factory=dict)

    def images(self, role: Role, synsets: Sequence[str]) -> ImageSet | None:
        """The image set of a role, or None where the embedded reference serves."""
        named = {"bank": self.data, "frechet": self.frechet_data, "spectrum": self.spectrum_data}[role]
        spec = named or self.data
        flag = "--data" if named is None or role == "bank" else f"--{role}-data"
        return None if spec is None else open_images(spec, synsets, role, flag)


@dataclass
class Picture:
    """An image to be scored.

    Attributes:
        image: RGB.
        label: its class; None: not a class.
        digest: of its file's content; 0: not a file that a reference may hold.
        photograph: a real image, which the paper's FID resizes, and not a canvas, which it crops.
    """

    image: Image.Image
    label: int | None
    digest: int = 0
    photograph: bool = False
