"""What `featvis site` computes: networks, real images and options in; a site's data and pictures out. Resumes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmark.arguments import weights_line
from benchmark.site.making.atlas import atlas
from benchmark.site.making.classes import ClassMaker
from benchmark.site.making.options import Options, Subject
from benchmark.site.making.seen import look
from benchmark.site.making.units import LayerMaker, Sight, sights
from benchmark.site.model import Network, Site, check_folder, write
from benchmark.site.pictures import Shelf
from featvis.data.sets import open_images
from featvis.errors import UserError
from featvis.networks.classifier import Classifier
from featvis.networks.loading import load
from featvis.networks.units import parse_classes
from featvis.storage.hashing import config_hash
from featvis.storage.images import write_atomic
from featvis.storage.versions import versions

DONE = "done.json"
"""In the work folder: what the data of the site was made of, once all of it is there."""
FORM = 2
"""Of a site's data: higher wherever the same networks, images and options give other data than before."""


def subjects(models: Sequence[str], data: str | None) -> list[Subject]:
    """Networks, loaded, with the real images.

    Args:
        models: as the command line names them.
        data: the real images, or None.
    """
    found = []
    for name in models:
        network = load(name, flag="MODEL")
        print(weights_line(network))
        exact = load(name, "float32", flag="MODEL")
        found.append(Subject(name, network, exact, None if data is None else open_images(data, exact)))
    return found


def check(subjects: Sequence[Subject], options: Options) -> dict[str, list[int]]:
    """The classes of each network, by its alias.

    Raises:
        UserError: for a class that a network does not have, a layer that none has, or too many concepts.
    """
    for name in options.layers:
        if not any(name in subject.exact.layers() for subject in subjects):
            try:
                subjects[0].exact.layer(name)
            except UserError as error:
                raise UserError(f"--layers {name}: {error}") from error
    if not options.classes:
        return {subject.alias: [] for subject in subjects}
    for subject in subjects:
        options.of_concepts.check(subject.exact)
    return {subject.alias: parse_classes(options.classes, subject.exact, "--classes") for subject in subjects}


def make(subjects: Sequence[Subject], options: Options, site: Site, out: Path, work: Path) -> list[str]:
    """Compute what is missing, and write the data of a site.

    Args:
        subjects: its networks.
        options: what to show of them.
        site: what all pages share.
        out: the site's folder.
        work: folder of images, concepts and activations, which are no part of the site.

    Returns:
        In words, each picture that the site lacks because its optimisation stopped being finite.
    """
    labels = check(subjects, options)
    sources = {s.source.describe() for s in subjects if s.source is not None}
    made = f"Networks: {', '.join(s.alias for s in subjects)}. Real images: {'; '.join(sorted(sources)) or 'none'}."
    notes = () if sources else ("Without real images there are no concepts, no patches and no distributions.",)
    site = replace(site, networks=tuple(subject.alias for subject in subjects), made=made, notes=notes)
    check_folder(out, site.networks)
    write(out, site)
    facts = stamp(subjects, options)
    pages = (out / "data" / alias / "network.json" for alias in site.networks)
    if _done(work / DONE) == facts and all(page.is_file() for page in pages):
        print("nothing has changed since the site was made; its pages are rendered anew")
        return []
    # What is said to be done is replaced bit by bit from here on.
    (work / DONE).unlink(missing_ok=True)
    shelf = Shelf(out)
    seen: dict[str, list[Sight]] = {}
    for subject in subjects:
        names = [name for name in options.layers if name in subject.exact.layers()]
        layers = [subject.exact.layer(name) for name in names]
        seen[subject.alias] = sights(subject, names, look(subject, layers, options, work))
    missing = []
    for subject in subjects:
        others = [sight for alias, found in seen.items() if alias != subject.alias for sight in found]
        missing += _network(
            subject, labels[subject.alias], seen[subject.alias], others, options, site, out, work, shelf
        )  # fmt: skip
    if not missing:
        write_atomic(work / DONE, json.dumps(facts, sort_keys=True).encode())
    return missing


def stamp(subjects: Sequence[Subject], options: Options) -> dict[str, str]:
    """What the data of a site depends on: where it is the same, so is the data."""
    networks = {s.alias: [s.exact.name, s.exact.weights_hash, *s.exact.setting.values()] for s in subjects}
    sources = [s.source.fingerprint if s.source is not None else None for s in subjects]
    asked = {k: v if not hasattr(v, "items") else dict(v) for k, v in vars(options).items()}
    asked |= {k: list(getattr(options, k)) for k in ("layers", "methods", "concept_layers")}
    facts = {"form": FORM, "networks": networks, "images": sources, "options": asked, "versions": versions()}
    return {"hash": config_hash(facts)}


def _done(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _network(
    subject: Subject, labels: Sequence[int], own: Sequence[Sight], others: Sequence[Sight], options: Options,
    site: Site, out: Path, work: Path, shelf: Shelf,
) -> list[str]:  # fmt: skip
    """Write the data of a network's pages, its own last; which pictures are missing."""
    entries, sheets = [], []
    missing: list[str] = []
    for sight in own:
        maker = LayerMaker(sight, others, options, work, shelf, site.command)
        sheet, units = maker.pages()
        for unit in units:
            write(out, unit)
        write(out, sheet)
        sheets.append(sheet)
        entries.append(maker.entry(sheet))
        missing += maker.missing
    classes = []
    named = []
    if labels:
        of_classes = ClassMaker(subject, labels, options, work, shelf, site.command)
        classes = of_classes.pages()
        named = [of_classes.entry(page) for page in classes]
        for page in classes:
            write(out, page)
        missing += of_classes.missing
    write(out, atlas(subject, classes, sheets, out, options.seed))
    write(out, Network(subject.alias, subject.exact.name, about(subject.exact), tuple(named), tuple(entries)))
    return missing


def about(network: Classifier) -> str:
    """A network in a sentence."""
    height, width = network.input_size
    return f"{network.num_classes} classes, images of {height} x {width}; weights {network.weights_hash}."
