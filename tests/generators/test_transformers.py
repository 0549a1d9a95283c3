"""Real vision transformers: what is named is what rises, with and without the class token; an inversion's cosine."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from featvis.data.files import as_seen, list_images
from featvis.generators import AM
from featvis.generators.inversion import Inversion, units_of
from featvis.networks.classifier import Classifier
from featvis.networks.loading import load
from featvis.networks.units import parse_units

NAMES = ("deit_tiny_patch16_224", "vit_tiny_patch16_224")


@pytest.fixture(scope="module", params=NAMES)
def transformer(zoo, request) -> Classifier:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATVIS_WEIGHTS", str(zoo))
        return load(request.param, "float32")


def tokens_of(classifier: Classifier, layer: str, images: torch.Tensor) -> np.ndarray:
    """What a block puts out, (images, tokens, dimensions), by a hook of the test's own."""
    kept = []
    handle = classifier.net.get_submodule(layer).register_forward_hook(lambda m, a, o: kept.append(o.numpy()))
    with torch.no_grad():
        classifier.net((images - classifier.mean) / classifier.std)
    handle.remove()
    return kept[0]


def test_the_dimension_that_is_named_rises_where_it_is_read(transformer):
    """Its mean over all tokens, over the patches, or at the class token: each read off the network by NumPy."""
    layer, read = "blocks.4", {"": np.s_[:], "[patches]": np.s_[1:], "[cls]": np.s_[:1]}
    method = AM(steps=6, canvas=224, ascent="adam", decay=1.0, lr=0.1, chain="none", precision="float32")
    method.classifier = transformer
    units = parse_units(",".join(f"{layer}:{17 + i}{where}" for i, where in enumerate(read)), transformer)
    before = method.parametrization.decode(*method.start(units, method.streams(units))).detach()
    found = method.predict_step(units)
    first, last = (tokens_of(transformer, layer, images) for images in (before, found.canvas))
    assert first.shape[1:] == (1 + 14 * 14, 192)
    for row, (unit, tokens) in enumerate(zip(units, read.values(), strict=True)):
        start, own = first[row, tokens, unit.index].mean(), last[:, tokens, unit.index].mean(1)
        assert float(found.activations[row]) == pytest.approx(own[row], rel=1e-3, abs=1e-4)
        # A single picture says nothing of the scale of a dimension; what it does under the others' pictures does.
        assert own[row] - start > 2 * (np.delete(own, row).max() - start), (unit.id, start, own)


def test_an_inversion_comes_nearer_to_what_the_image_does_to_the_block(transformer, sample):
    paths = [file.path for file in list_images(sample, transformer.synsets)[::500]]
    layer, pictures = "blocks.1", torch.stack([as_seen(path, transformer.input_size) for path in paths])
    target = torch.from_numpy(tokens_of(transformer, layer, pictures)).flatten(1)
    cosines = []
    for steps in (1, 16):
        made = Inversion(steps=steps, canvas=224, precision="float32")
        made.classifier = transformer
        canvas = made.predict_step(units_of(paths, [layer], transformer)).canvas
        reached = torch.from_numpy(tokens_of(transformer, layer, canvas)).flatten(1)
        cosines.append(torch.cosine_similarity(reached[:, None], target[None], dim=2))
    early, late = cosines
    # Whatever the rounding: a third of the way to a perfect match at least, and nearest to its own image.
    assert bool((1 - late.diagonal() < 0.67 * (1 - early.diagonal())).all()), (early, late)
    assert late.argmax(1).tolist() == list(range(len(paths)))
