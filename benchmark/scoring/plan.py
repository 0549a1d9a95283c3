"""What is to be scored, and how; as JSON, so that the scoring is a process of its own."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from PIL import Image

import featvis
from benchmark.records.record import Record
from featvis.data.files import Known, digest_of
from featvis.data.sets import ImageSet, Place, Role, check_decodable, place_of
from featvis.errors import UserError

Kind = Literal["method", "folder", "real", "natural", "real_other", "noise"]
"""A row: a method of the suite, anyone's folder, the held-out photographs, those that excite each unit most,
photographs of other classes, or noise with the natural spectrum."""
MOST = 50_000
"""Images of a set that are all looked at for an overlap."""


@dataclass
class Row:
    """One row of the table.

    Attributes:
        method: its name.
        kind: what it is.
        folder: of its images, relative to the run's folder, or absolute.
        preset: the file of configs/generator that it started from.
        config: of the generator.
        config_hash: of the generator.
        sees: what the method may see besides the network (`benchmark.records.seen`).
        transparency: show the images over a middle grey by their transparency (row "MACO" of Fel et al. 2023, Table 3).
    """

    method: str
    kind: Kind = "method"
    folder: str | None = None
    preset: str | None = None
    config: dict[str, Any] | None = None
    config_hash: str | None = None
    sees: str | None = None
    transparency: bool = False


def kind_of(record: Record) -> Kind:
    """The kind of row that a run's record is of."""
    return cast(Kind, record.method) if record.method in ("real", "natural", "real_other") else "method"


@dataclass
class Plan:
    """What is to be scored, and how; written as JSON, so that the scoring is a process of its own.

    Attributes:
        out: the run's folder.
        suite: its name.
        model: the target network, by its alias, which paths have.
        classifiers: of the transferability score.
        frechet: the network whose features stand in for Inception's.
        data: the real images (see `featvis.data.sets`) among which the nearest is sought, or None for the embedded
            reference.
        frechet_data: those that sets are compared with; None: `data`.
        spectrum_data: those of the natural spectrum; None: `data`.
        sets: what was found of them: for each role its name, number of images and fingerprint.
        cache: folder of the features of real images.
        unavailable: networks that are not to be had, and why; their columns are absent.
        foreign: networks whose classes are not the target's, and why they judge nothing; they may observe.
        extractors: those whose columns are scored (`benchmark.scoring.extractors`), by their aliases.
        seed: of the row `noise`.
        units: ids of the units.
        labels: their names.
        canvas: (H, W) of the rows `noise` and `real`.
        rows: of the table.
        metrics: groups to compute; empty: all.
        wandb: `offline`, `online` or `disabled`.
        failed: cells whose generation failed, and why.
        command: what makes the run anew.
        given: what loads the target, `wrap:FILE`, where that is not its alias.
        channels: of the target's input.
        observers: networks in whose features units are told apart and sets compared.
        texts: of the units, as `parse_units` reads them; none: their ids say what they are.
        weights: hashes of what scores (`benchmark.scoring.recording.weights_of`); none: not known.
        version: of featvis, which reads its own plans alone.
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
    foreign: dict[str, str] = field(default_factory=dict)
    extractors: list[str] = field(default_factory=list)
    given: str | None = None
    channels: int = 3
    observers: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    weights: dict[str, str | None] = field(default_factory=dict)
    version: str = featvis.__version__

    def sources(self, known: Known) -> Sources:
        """The real images, listed anew: for a process that was not handed them."""
        return Sources.open(self.data, self.frechet_data, self.spectrum_data, known, check=False)

    def networks(self) -> list[str]:
        """The networks of the plan by name, each once: the target first, then those that judge."""
        return list(dict.fromkeys((self.model, *self.classifiers, self.frechet, *self.observers)))

    def why_no_judge(self, name: str) -> str | None:
        """Why nothing is scored by what a network says of classes; None: it is here and knows the target's."""
        return self.unavailable.get(name) or self.foreign.get(name)

    def idle(self) -> set[str]:
        """The networks by which nothing is scored, nor anything seen: they are not loaded."""
        return {*self.unavailable, *(self.foreign.keys() - set(self.observers))}

    def loads(self, name: str) -> str:
        """What loads a network of the plan."""
        return self.given or name if name == self.model else name


@dataclass(frozen=True)
class Sources:
    """The real images of a run, by what they are for, each set listed once; all None: the embedded reference serves.

    Attributes:
        bank: among which the nearest is sought.
        frechet: with which sets of images are compared.
        spectrum: whose spectrum is the natural one.
    """

    bank: ImageSet | None = None
    frechet: ImageSet | None = None
    spectrum: ImageSet | None = None

    @classmethod
    def open(
        cls, data: str | None, frechet_data: str | None, spectrum_data: str | None, known: Known, check: bool = True
    ) -> Sources:  # fmt: skip
        """List what the options name.

        Args:
            data: `--data`, which serves for what has no option of its own; None: the embedded reference.
            frechet_data: `--frechet-data`.
            spectrum_data: `--spectrum-data`.
            known: the target's classes.
            check: see whether an image of each set can be decoded.

        Raises:
            UserError: for a set that is not there, has no class of the target, or no image that can be decoded.
        """
        named = {
            "bank": (data, "--data"),
            "frechet": (frechet_data, "--frechet-data"),
            "spectrum": (spectrum_data, "--spectrum-data"),
        }
        if data is None:
            if other := next((flag for spec, flag in named.values() if spec is not None), None):
                raise UserError(f"{other} needs --data too, the images among which the nearest is sought")
            return cls()
        if (channels := getattr(known, "channels", 3)) not in (1, 3):
            raise UserError(
                f"--data {data}: image files have three channels, the network takes {channels}; leave it out"
            )
        opened: dict[Place, ImageSet] = {}
        found: dict[str, ImageSet] = {}
        roles: tuple[Role, ...] = ("bank", "frechet", "spectrum")
        for role in roles:
            spec, flag = named[role] if named[role][0] else named["bank"]
            place = place_of(str(spec), role, flag, known)
            if place not in opened:
                opened[place] = place.open(known, flag)
                if check:
                    check_decodable(opened[place], flag)
            found[role] = opened[place]
        return cls(**found)

    def of(self, role: Role) -> ImageSet | None:
        """The set of a role."""
        found: ImageSet | None = getattr(self, role)
        return found

    def overlap(self, seen: Collection[int], classes: Sequence[int]) -> list[str]:
        """Which of the images that are scored against have the content of images that a method saw.

        The spectrum's images are not scored against: what is compared with them is their mean.

        Args:
            seen: digests of the images that the method saw (`featvis.data.files.digest`).
            classes: of the pictures; of a set of more than `MOST` images only those of these classes are looked at.

        Returns:
            Their names.
        """
        found: list[str] = []
        sets = {s.fingerprint: s for s in (self.bank, self.frechet) if s is not None and seen}
        for source in sets.values():
            rows: Iterable[int] = range(len(source))
            if len(source) > MOST:
                rows = [i for c in classes for i in source.rows.get(c, [])]
            found += [source.where(i) for i in rows if _digest(source, i) in seen]
        return found

    def facts(self) -> dict[str, dict[str, Any]]:
        """What a record keeps of them: not where they lie."""
        return {
            role: {"name": s.name, "images": len(s), "fingerprint": s.fingerprint[:12]}
            for role in ("bank", "frechet", "spectrum")
            if (s := getattr(self, role)) is not None
        }

    def describe(self) -> list[str]:
        """What was found, a sentence a set."""
        return list(dict.fromkeys(s.describe() for s in (self.bank, self.frechet, self.spectrum) if s is not None))


def _digest(source: ImageSet, row: int) -> int | None:
    try:
        return digest_of(source.read(row))
    except OSError:
        return None


@dataclass
class Picture:
    """An image to be scored.

    Attributes:
        image: RGB.
        label: its class; None: not a class.
        digest: of its file's content; 0: not a file that a reference may hold.
        photograph: a real image, which the paper's FID resizes, and not a canvas, which it crops.
        unit: the id of the unit that it is of; None: not known.
    """

    image: Image.Image
    label: int | None
    digest: int = 0
    photograph: bool = False
    unit: str | None = None
