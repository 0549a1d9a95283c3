"""What a site is made of: the flags of `featvis site`, checked against the networks they are for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmark.studies.concepts.run import Options as ConceptOptions
from featvis.data.sets import ImageSet
from featvis.networks.classifier import Classifier


@dataclass(frozen=True)
class Options:
    """What to show.

    Attributes:
        classes: as `--classes` has them; None: no class pages.
        layers: of units, by name; empty: no unit pages.
        methods: presets of configs/generator, the first for channels and concepts.
        seeds: visualizations of a class by each method.
        channels: of a layer that are visualized, the first of a fixed permutation; all of them have a page.
        concepts: of a class.
        concept_layers: of the concepts, the first that a network has; else its last one with positions whose
            activations are not negative.
        images: of a class that concepts are made of, and that units see.
        budget: steps, views and canvas of the visualizations, None where the preset's.
        batch_size: units optimised together.
        seed: of everything random.
    """

    classes: str | None
    layers: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: int
    channels: int
    concepts: int
    concept_layers: tuple[str, ...]
    images: int
    budget: Mapping[str, int | None]
    batch_size: int
    seed: int

    @property
    def of_concepts(self) -> ConceptOptions:
        """The options of `featvis concepts`; no images of sister classes are added."""
        return ConceptOptions(
            concepts=self.concepts, pool=0, images=self.images, seed=self.seed, batch_size=self.batch_size
        )


@dataclass(frozen=True)
class Subject:
    """A network that a site is made of.

    Attributes:
        model: what names it on the command line.
        network: as it computes visualizations.
        exact: the same in float32, for everything that is measured.
        source: real images; None: there are none.
    """

    model: str
    network: Classifier
    exact: Classifier
    source: ImageSet | None

    @property
    def alias(self) -> str:
        """Its name in addresses."""
        return self.network.alias
