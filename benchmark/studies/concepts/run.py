"""What `featvis concepts` does: a network, classes and real images in; concepts, their pictures and a page of them out.

Below `<out>/<alias>/<layer>` lie a folder a class (`301-ladybug`) with `concepts.safetensors` and the mosaics of the
patches that fire most, the visualizations of all classes (`visualizations/<config hash>`), `index.html` and
`sheet.png`. The records, one a class, are in `<out>/records/<alias>`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from benchmark.arguments import command_line
from benchmark.running.produce import folder_of, produce
from benchmark.studies.concepts.pages import ClassPictures, build_page, mosaic, sheet
from benchmark.studies.concepts.record import record_of_class, write_record
from benchmark.studies.photographs import check_rgb
from featvis.canvas.color import to_bytes
from featvis.concepts.craft import Concepts, check_layer, cut, default_layer, find, places, sisters
from featvis.concepts.sobol import DESIGNS, bypassed
from featvis.data.files import fit, to_tensor
from featvis.data.sets import ImageSet
from featvis.errors import UserError
from featvis.generators import Generator
from featvis.networks.classifier import Classifier
from featvis.networks.units import Unit
from featvis.storage import images
from featvis.storage.hashing import config_hash

ENOUGH = 10
"""Images of a class below which, unless `--pool` says otherwise, those of its sister classes are added."""
SIDE = 96
"""Of a patch in a mosaic, in pixels."""


@dataclass(frozen=True)
class Options:
    """What is asked for.

    Attributes:
        concepts: a class.
        patch: side of the patches in pixels of the network's input.
        pool: sister classes whose images are added; None: as many as it takes to have `ENOUGH` images.
        images: at most so many of each class, the first ones.
        seed: of the factorisation, the masks and the visualizations.
        batch_size: concepts optimised together.
        objective: of the visualizations, see `featvis.networks.objectives.Direction`.
    """

    concepts: int = 10
    patch: int = 64
    pool: int | None = None
    images: int = 100
    seed: int = 0
    batch_size: int = 10
    objective: Literal["cosine", "dot"] = "cosine"

    def check(self, classifier: Classifier) -> None:
        """Raise a UserError for a value that cannot be used with a network."""
        check_rgb(classifier, "MODEL", "the search for concepts")
        side = min(classifier.input_size)
        for flag, value, low, high in (
            ("--concepts", self.concepts, 1, 1000),
            ("--patch", self.patch, 8, side),
            ("--pool", self.pool, 0, classifier.num_classes - 1),
            ("--images", self.images, 1, 1_000_000),
            ("--batch-size", self.batch_size, 1, 4096),
            ("--seed", self.seed, 0, 2**32 - 1),
        ):
            if value is not None and not low <= value <= high:
                what = f" (the input of {classifier.alias} is {side} high)" if flag == "--patch" else ""
                raise UserError(f"{flag} must be between {low} and {high}{what}, not {value}")


@dataclass(frozen=True)
class Chosen:
    """The images that a class's concepts are made of.

    Attributes:
        label: the class.
        rows: their numbers in the image set, the class's own first.
        own: how many are of the class itself.
        sisters: the classes of the others, the nearest first.
    """

    label: int
    rows: list[int]
    own: int
    sisters: list[int]


def choose(source: ImageSet, classifier: Classifier, label: int, options: Options) -> Chosen:
    """The images of a class, and, where they are few, of its sister classes.

    Raises:
        UserError: when the set has none of the class, or too few patches for the concepts.
    """
    name, pool = classifier.labels[label], options.pool
    rows = source.rows.get(label, [])[: options.images]
    if not rows:
        named = f"{name}, class {label}" + (f", {classifier.synsets[label]}" if classifier.synsets else "")
        raise UserError(f"--data {source.name} has no image of the class {label} of --classes ({named})")
    own = len(rows)
    near: list[int] = []
    wanted = ENOUGH if pool is None else sys.maxsize
    for other in _near(classifier, label, pool) if pool != 0 and own < wanted else []:
        if len(rows) >= wanted or len(near) == pool:
            break
        if more := source.rows.get(other, [])[: min(options.images, wanted - len(rows))]:
            rows, near = rows + more, [*near, other]
    found = len(places(len(rows), classifier.input_size, options.patch))
    if found < options.concepts:
        raise UserError(
            f"the {len(rows)} images for {name} have {found} patches, too few for --concepts {options.concepts}; "
            "--pool with more sister classes, a smaller --patch or fewer --concepts would help"
        )
    return Chosen(label, rows, own, near)


def _near(classifier: Classifier, label: int, pool: int | None) -> list[int]:
    """The sister classes; none where the network's last weights do not tell, unless they are asked for."""
    try:
        return sisters(classifier, label)
    except UserError as error:
        if pool is None:
            return []
        raise UserError(f"--pool {pool}: {error}; --pool 0 does without") from error


@dataclass(frozen=True)
class Opened:
    """The decoded images of a class: RGB in [0, 1] at the network's input size, the own first, and what they are."""

    pictures: Float[Tensor, "n 3 h w"]
    own: int
    names: list[str]
    digests: list[str]


def open_chosen(source: ImageSet, rows: Sequence[int], own: int, size: tuple[int, int]) -> Opened:
    """Decode images; those that cannot be are reported and left out.

    Raises:
        UserError: when none of the class itself is left.
    """
    found, names, digests, left = [], [], [], own
    for at, i in enumerate(rows):
        try:
            image, digest = source.open(i)
        except OSError as error:
            print(f"featvis: {source.where(i)} is left out ({error})", file=sys.stderr)
            left -= at < own
            continue
        found.append(to_tensor(fit(image, size)))
        names.append(source.where(i))
        digests.append(f"{digest:016x}")
    if not left:
        raise UserError(f"--data {source.name}: no image of the class can be decoded ({source.where(rows[0])})")
    return Opened(torch.stack(found), left, names, digests)


def layer_of(name: str | None, classifier: Classifier, opened: Opened) -> tuple[str, float]:
    """The layer that was asked for or else the default, and the share of its squared activations that is negative.

    Raises:
        UserError: for a layer that has no concepts.
    """
    x = opened.pictures[:4].to(classifier.device)
    if name is None:
        chosen = default_layer(classifier, x)
        return chosen, check_layer(classifier, chosen, x)
    try:
        return name, check_layer(classifier, name, x)
    except UserError as error:
        raise UserError(f"--layer {name}: {error}") from error


def of_class(
    classifier: Classifier, layer: str, negative: float, chosen: Chosen, opened: Opened, options: Options, path: Path
) -> tuple[Concepts, dict[str, Any], bool]:
    """The concepts of a class from their file, made where it is not there or is of something else; and its facts.

    Returns:
        The concepts, the facts, and whether they were made now.
    """
    name = classifier.labels[chosen.label]
    config = {
        "model": classifier.name, "weights": classifier.weights_hash, **classifier.setting, "layer": layer,
        "class": chosen.label, "concepts": options.concepts, "patch": options.patch, "designs": DESIGNS,
        "seed": options.seed, "objective": options.objective, "own": opened.own, "images": opened.names,
        "digests": opened.digests,
    }  # fmt: skip
    digest = config_hash(config)
    if path.is_file():
        try:
            there, facts = Concepts.load(path)
            if facts.get("config_hash") == digest:
                return there, facts, False
        except UserError:
            pass  # cut off, or not ours: made anew
    total = len(opened.pictures) + opened.own
    with tqdm(total=total, desc=f"concepts of {name}", unit="image") as bar:
        found = find(
            classifier, layer, opened.pictures, chosen.label, opened.own, options.concepts, options.patch, options.seed,
            report=lambda: bar.update(1),
        )  # fmt: skip
    facts = config | {
        "config_hash": digest,
        "name": name,
        "labels": [f"{name} concept {i + 1}" for i in range(len(found.vectors))],
        "sisters": [classifier.labels[i] for i in chosen.sisters],
        "negative": negative,
    }
    # Pictures of other concepts must not outlive them: the next command would take them for those of these.
    for old in path.parent.glob("mosaic_*.png"):
        old.unlink()
    found.save(path, facts)
    return found, Concepts.load(path)[1], True


def units_of(found: Concepts, facts: dict[str, Any], path: Path) -> list[Unit]:
    """The units `direction:FILE:i` of a file of concepts, whatever signs its path has."""
    vectors = [tuple(v.tolist()) for v in found.vectors]
    return [
        Unit(facts["layer"], i, facts["labels"][i], file=str(path), vector=v, cosine=facts["objective"] == "cosine")
        for i, v in enumerate(vectors)
    ]


def mosaics(found: Concepts, opened: Opened, side: int, folder: Path, again: bool) -> list[Path]:
    """For each concept a picture of the nine patches that fire most, the strongest first; those that are there stay."""
    paths = []
    for i in range(len(found.vectors)):
        path = folder / f"mosaic_{i}.png"
        if again or not path.is_file():
            patches = cut(opened.pictures, found.top(i), side)
            images.write_atomic(path, mosaic([to_bytes(p) for p in patches], SIDE))
        paths.append(path)
    return paths


def slug(label: int, name: str) -> str:
    """A class's folder: its index and its name, `301-ladybug`."""
    return f"{label}-{re.sub('[^a-z0-9]+', '-', name.lower()).strip('-')}"


def run(
    classifier: Classifier, generator: Generator, preset: str | None, source: ImageSet, chosen: Sequence[Chosen],
    layer: str | None, options: Options, out: Path, flags: dict[str, Any], say: Callable[[str], object] = print,
) -> int:  # fmt: skip
    """Everything that was asked for and is not there yet; 1 when some visualization failed.

    Args:
        classifier: the network, in float32, for the concepts.
        generator: the method of the visualizations, its network loaded.
        preset: that the generator was made from.
        source: the real images.
        chosen: of them, for each class.
        layer: or None for the default.
        options: see there.
        out: folder of the run.
        flags: of the command, for the records.
        say: for progress in words.
    """
    opened = {c.label: open_chosen(source, c.rows, c.own, classifier.input_size) for c in chosen[:1]}
    name, negative = layer_of(layer, classifier, opened[chosen[0].label])
    found = classifier.layer(name)
    if options.concepts > found.channels:
        limit = f"{found.channels}, the channels of {name}"
        raise UserError(f"--concepts must be between 1 and {limit}, not {options.concepts}")
    kind = "given" if layer else "the last one with positions whose activations are not negative"
    say(f"layer     {name} ({kind}): {found.channels} channels, {found.what}")
    if bypassed(classifier, found, opened[chosen[0].label].pictures[:1].to(classifier.device)):
        say(f"bypassed  by a shortcut around {name}: the importance tells only of what passes through it")
    if negative > 0:
        say(f"negative  {negative:.1%} of its squared activations; concepts are made of the positive part")
    home = out / classifier.alias / name
    command = command_line("concepts", flags | {"layer": name}, classifier.given)
    units: dict[int, list[Unit]] = {}
    facts: dict[int, dict[str, Any]] = {}
    shown: dict[int, list[Path]] = {}
    for c in chosen:
        pictures = opened.pop(c.label, None) or open_chosen(source, c.rows, c.own, classifier.input_size)
        label = classifier.labels[c.label]
        pooled = ", ".join(classifier.labels[i] for i in c.sisters)
        added = f", and {len(pictures.names) - pictures.own} of the nearest classes: {pooled}" if pooled else ""
        say(f"{label}: {pictures.own} image{'s' * (pictures.own != 1)}{added}")
        folder = home / slug(c.label, label)
        path = folder / "concepts.safetensors"
        concepts, facts[c.label], new = of_class(classifier, name, negative, c, pictures, options, path)
        units[c.label] = units_of(concepts, facts[c.label], path)
        shown[c.label] = mosaics(concepts, pictures, options.patch, folder, new)
        percent = ", ".join(f"{v:.3f}" for v in facts[c.label]["importance"])
        say(f"{label}: importance {percent}" + ("" if new else " (was there)"))
    folder = folder_of(generator, out, f"{name}/visualizations")
    failed = produce(generator, [u for members in units.values() for u in members], folder, options.batch_size)
    pages = []
    for c in chosen:
        members, said = units[c.label], facts[c.label]
        write_record(record_of_class(generator, preset, said, members, folder, out, failed, command), out)
        visualizations = [None if u.id in failed else folder / f"{u.id}.png" for u in members]
        pages.append(ClassPictures(said, visualizations, shown[c.label]))
    sheet(pages, home / "sheet.png")
    page = build_page(pages, classifier.alias, name, home)
    say(f"in {page} and {home / 'sheet.png'}")
    return 1 if failed else 0
