"""Pages of classes: a network, its classes and real images in; `ClassPage`s with concepts, maps and charts out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from benchmark.arguments import command_line
from benchmark.running.produce import folder_of
from benchmark.site.making import maps
from benchmark.site.making.embedding import principal
from benchmark.site.making.options import Options, Subject
from benchmark.site.making.visualizations import absent, generator, picture, visualize
from benchmark.site.model import ClassPage, Concept, Dot, Entry, Picture, Reference
from benchmark.site.pictures import Shelf
from benchmark.studies.concepts import run as finder
from featvis.canvas.color import to_bytes
from featvis.concepts.craft import Concepts
from featvis.data.sets import ImageSet
from featvis.errors import UserError
from featvis.networks.objectives import LOGITS
from featvis.networks.units import Unit
from featvis.storage import images

MAPS = 4
"""Real images in which a concept is shown."""
ALIKE, CLOSE = 3, 0.4
"""Concepts of other classes that are shown, and from which cosine on."""
DOTS = 100
CHART = (
    "Images are near each other to which the same concepts matter: by how strongly their patches show a concept, "
    "times its importance; two principal components."
)
NO_IMAGES = "No real images were given (--data), so the concepts of this class are left out."


class ClassMaker:
    """Makes the pages of a network's classes.

    Args:
        subject: the network.
        labels: indices of the classes.
        options: what to show.
        work: folder of what is computed.
        shelf: of the site's pictures.
        command: that makes the site.
    """

    def __init__(
        self, subject: Subject, labels: Sequence[int], options: Options, work: Path, shelf: Shelf, command: str
    ) -> None:
        self.subject, self.labels, self.options = subject, labels, options
        self.work, self.shelf, self.command = work / "concepts", shelf, command
        self.made, self.network = generator(subject, options.methods[0], options), subject.exact
        repeats = range(options.seeds)
        units = [Unit(LOGITS, i, self.network.labels[i], repeat=r) for i in labels for r in repeats]
        self.shown, _, self.missing = visualize(subject, options.methods, units, options, work, shelf)
        self.absent: dict[int, str] = {}
        self.vectors: dict[int, Tensor] = {}

    def pages(self) -> list[ClassPage]:
        """The pages of all classes, in their order."""
        chosen, layer = self._concepts()
        pages = {}
        for label in self.labels:
            name = self.network.labels[label]
            page = ClassPage(
                self.subject.alias, finder.slug(label, name), label, name, self.shown.get(str(label), ()),
                layer, "", (), self.absent.get(label), "", (),
            )  # fmt: skip
            pages[label] = self._with_concepts(page, chosen[label]) if label in chosen else page
        return [self._with_similar(pages[label], pages) for label in self.labels]

    def entry(self, page: ClassPage) -> Entry:
        """A class in the lists of its network."""
        first = next((p for s in page.visualizations for p in s.pictures), None)
        return Entry(page.key, page.name, len(page.concepts), first)

    def _concepts(self) -> tuple[dict[int, finder.Chosen], str]:
        """Find the concepts of all classes that can have some: the images of each, and the layer; else says why not."""
        source, options = self.subject.source, self.options.of_concepts
        if source is None:
            self.absent = dict.fromkeys(self.labels, NO_IMAGES)
            return {}, ""
        chosen = {}
        for label in self.labels:
            try:
                chosen[label] = finder.choose(source, self.network, label, options)
            except UserError as error:
                self.absent[label] = f"No concepts: {error}."
        layer = self._layer(source, chosen)
        if not chosen:
            return {}, ""
        finder.run(
            self.network, self.made, self.options.methods[0], source, list(chosen.values()), layer, options, self.work,
            self._flags(source),
        )  # fmt: skip
        return chosen, layer

    def _layer(self, source: ImageSet, chosen: dict[int, finder.Chosen]) -> str:
        """The layer of the concepts; classes that it has none of are taken out of `chosen`, saying why."""
        known = self.network.layers()
        layer = next((name for name in self.options.concept_layers if name in known), None)
        for label, one in list(chosen.items()):
            opened = finder.open_chosen(source, one.rows[:4], min(one.own, 4), self.network.input_size)
            try:
                layer, _ = finder.layer_of(layer, self.network, opened)
            except UserError as error:
                self.absent[label] = f"No concepts: {error}."
                del chosen[label]
        return layer or ""

    def _flags(self, source: ImageSet) -> dict[str, Any]:
        o, budget = self.options, self.options.budget
        return {
            "classes": ",".join(map(str, self.labels)), "data": source.name, "concepts": o.concepts, "pool": 0,
            "images": o.images, "method": o.methods[0], "steps": budget["steps"], "crops": budget["views"],
            "canvas": budget["canvas"], "batch_size": o.batch_size, "seed": o.seed,
        }  # fmt: skip

    def _with_concepts(self, page: ClassPage, chosen: finder.Chosen) -> ClassPage:
        assert self.subject.source is not None
        path = self.work / self.subject.alias / page.layer / page.key / "concepts.safetensors"
        found, facts = Concepts.load(path)
        units = finder.units_of(found, facts, path)
        self.vectors[page.label] = found.vectors
        opened = finder.open_chosen(self.subject.source, chosen.rows, chosen.own, self.network.input_size)
        importance = [max(0.0, float(v)) for v in facts["importance"]]
        total = sum(importance) or 1.0
        where = self._maps(page, found, opened, facts["config_hash"])
        concepts = []
        for i, unit in enumerate(units):
            shown = self._visualization(page, unit)
            if shown is None:
                self.missing.append(absent(self.subject, unit.label, self.options.methods[0]))
            patches = self._patches(page, path.with_name(f"mosaic_{i}.png"), i, facts["config_hash"])
            concepts.append(
                Concept(
                    i + 1, facts["importance"][i], importance[i] / total, facts["effect"][i],
                    shown, patches, where[i], (),
                )
            )  # fmt: skip
        summary = (
            f"{len(concepts)} concepts of {opened.own} images explain {facts['explained']:.0%} of the variance of "
            f"their patches; the logit is {facts['logit']:.2f}, and {facts['logit_rebuilt']:.2f} rebuilt from them."
        )
        dots = self._dots(found, importance, opened)
        return replace(page, summary=summary, concepts=tuple(concepts), chart=CHART if dots else "", dots=dots)

    def _line(self, page: ClassPage) -> str:
        assert self.subject.source is not None
        flags = self._flags(self.subject.source) | {"classes": page.label, "layer": page.layer}
        return command_line("concepts", flags, self.network.given)

    def _visualization(self, page: ClassPage, unit: Unit) -> Picture | None:
        path = folder_of(self.made, self.work, f"{page.layer}/visualizations") / f"{unit.id}.png"
        facts = images.facts(path)
        return picture(self.shelf, path, facts, self.options.methods[0], unit, self._line(page)) if facts else None

    def _patches(self, page: ClassPage, path: Path, concept: int, digest: str) -> Picture:
        facts = {
            "concept": str(concept + 1),
            "class": page.name,
            "layer": page.layer,
            "order": "the strongest first",
        }
        alt = f"patches of real images that fire most for concept {concept + 1} of {page.name}"
        source = ["mosaic", digest, concept]
        return self.shelf.put(source, lambda: Image.open(path), alt, facts, self._line(page))

    def _maps(self, page: ClassPage, found: Concepts, opened: finder.Opened, digest: str) -> list[tuple[Picture, ...]]:
        """For each concept the images in which it fires most, bright where it lies; none for a layer without places."""
        if self.network.layer(page.layer).grid is None:
            return [()] * len(found.vectors)
        picked = [maps.most_lit(found, k, opened.own, MAPS) for k in range(len(found.vectors))]
        used = sorted({i for some in picked for i in some})
        strength = maps.maps(self.network, page.layer, found, opened.pictures[used])
        made = []
        for k, some in enumerate(picked):
            rows = [used.index(i) for i in some]
            most = float(strength[rows, k].max()) if rows else 1.0
            pictures = []
            for i, row in zip(some, rows, strict=True):
                facts = {"image": opened.names[i], "concept": str(k + 1), "class": page.name, "layer": page.layer}
                alt = f"{opened.names[i]}, bright where concept {k + 1} of {page.name} lies"
                image = opened.pictures[i]
                pictures.append(
                    self.shelf.put(
                        ["map", digest, k, opened.digests[i]], partial(maps.lit, image, strength[row, k], most), alt,
                        facts, self.command,
                    )
                )  # fmt: skip
            made.append(tuple(pictures))
        return made

    def _dots(self, found: Concepts, importance: Sequence[float], opened: finder.Opened) -> tuple[Dot, ...]:
        weight = maps.weights(found, importance, opened.own)[:DOTS]
        places = principal(weight, 2)
        dots = []
        for i, row in enumerate(weight):
            facts = {"image": opened.names[i], "matters most": f"concept {int(row.argmax()) + 1}"}
            source = ["image", opened.digests[i], list(self.network.input_size)]
            image = opened.pictures[i]
            shown = self.shelf.put(
                source, lambda x=image: Image.fromarray(to_bytes(x)), opened.names[i], facts, self.command
            )
            dots.append(Dot(float(places[i, 0]), float(places[i, 1]), int(row.argmax()) + 1, shown))
        return tuple(dots)

    def _with_similar(self, page: ClassPage, pages: Mapping[int, ClassPage]) -> ClassPage:
        """A page whose concepts know the nearest ones of other classes, by the cosine of their directions."""
        rest = [label for label in self.vectors if label != page.label]
        if not page.concepts or not rest:
            return page
        others = [(label, k) for label in rest for k in range(len(self.vectors[label]))]
        cosine = self.vectors[page.label] @ torch.cat([self.vectors[label] for label in rest]).T
        concepts = []
        for concept, row in zip(page.concepts, cosine.tolist(), strict=True):
            best = sorted(range(len(row)), key=lambda j: -row[j])[:ALIKE]
            similar = []
            for j in (j for j in best if row[j] >= CLOSE):
                other, k = pages[others[j][0]], others[j][1]
                text = f"{other.name}, {k + 1}"
                shown = other.concepts[k].visualization
                similar.append(Reference("concept", other.network, other.key, text, round(row[j], 3), k + 1, shown))
            concepts.append(replace(concept, similar=tuple(similar)))
        return replace(page, concepts=tuple(concepts))
