"""Concepts: patches, factors, Sobol indices and the rest of a network, each against a reference of its own."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import torch

from featvis.concepts import craft as concepts
from featvis.concepts import sobol
from featvis.concepts.craft import Concepts, Place
from featvis.concepts.factors import Factors, factorise
from featvis.errors import UserError
from featvis.generators import MACO
from featvis.networks.classifier import Classifier
from featvis.networks.units import parse_units

LABEL = 251
LAYER = "bn2"


def real_looking(count: int, size: int = 224, seed: int = 0) -> torch.Tensor:
    """Smooth coloured images: sums of a few plane waves."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    waves = rng.normal(size=(count, 3, 6, 3)) * [8, 8, 3]
    phase = waves[..., :1, None] * x + waves[..., 1:2, None] * y + waves[..., 2:, None]
    return torch.from_numpy(0.5 + np.sin(phase).mean(2) / 2).float()


# --- Patches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "side"), [((224, 224), 64), ((100, 75), 32), ((64, 64), 64)])
def test_patches_are_those_of_a_plain_loop(size, side):
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    expected = []
    for image in images.numpy():
        top = 0
        while top + side <= size[0]:
            left = 0
            while left + side <= size[1]:
                expected.append(image[:, top : top + side, left : left + side])
                left += int(0.8 * side)
            top += int(0.8 * side)
    where = concepts.places(2, size, side)
    assert np.array_equal(concepts.cut(images, where, side).numpy(), np.stack(expected))


def test_activations_of_patches_are_the_means_of_the_layer(classifier):
    images = real_looking(2)
    found = np.concatenate(list(concepts.activations(classifier, LAYER, images, 150)))
    seen = []
    handle = classifier.net.bn2.register_forward_hook(lambda m, a, out: seen.append(out.mean((2, 3))))
    for image in images:
        patch = torch.nn.functional.interpolate(image[None, :, :150, :150], (224, 224), mode="bilinear")
        classifier.net((patch - 0.5) / 0.5)
    handle.remove()
    assert np.allclose(found, torch.cat(seen).numpy(), atol=1e-5)


# --- Factors ----------------------------------------------------------------------------------------------------------


def planted(rows: int = 60, count: int = 4, channels: int = 30, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """U and W >= 0 that are unique up to order and length: each factor has a row and a channel of its own."""
    rng = np.random.default_rng(seed)
    u, w = rng.exponential(size=(rows, count)), rng.exponential(size=(count, channels))
    u[:count], w[:, :count] = np.eye(count), np.eye(count)
    return u.astype(np.float32), w.astype(np.float32)


def test_planted_factors_are_found():
    u, w = planted()
    found = factorise(u @ w, 4)
    assert found.error < 0.01
    assert found.explained > 0.999
    lengths = np.linalg.norm(w, axis=1)
    cosines = (w / lengths[:, None]) @ found.vectors.T
    order = cosines.argmax(1)
    assert sorted(order) == [0, 1, 2, 3]
    assert cosines.max(1).min() > 0.99
    for ours, theirs in zip(found.coefficients[:, order].T, u.T, strict=True):
        assert np.corrcoef(ours, theirs)[0, 1] > 0.99


def test_the_error_is_as_low_as_that_of_multiplicative_updates():
    a = np.random.default_rng(1).exponential(size=(50, 20)).astype(np.float32)
    rng = np.random.default_rng(2)
    u, w = rng.random((50, 5)), rng.random((5, 20))
    for _ in range(2000):  # Lee and Seung 2001
        w *= (u.T @ a) / (u.T @ u @ w + 1e-12)
        u *= (a @ w.T) / (u @ w @ w.T + 1e-12)
    reference = np.linalg.norm(a - u @ w) / np.linalg.norm(a)
    found = factorise(a, 5)
    rebuilt = found.coefficients @ found.vectors
    assert found.error == pytest.approx(np.linalg.norm(a - rebuilt) / np.linalg.norm(a), abs=1e-5)
    assert found.explained == pytest.approx(1 - ((a - rebuilt) ** 2).sum() / ((a - a.mean(0)) ** 2).sum(), abs=1e-5)
    assert found.error < reference * 1.03
    assert found.vectors.min() >= 0
    assert found.coefficients.min() >= 0
    assert np.allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-5)


def test_factors_depend_on_the_seed_alone_and_none_is_empty():
    a = np.random.default_rng(1).exponential(size=(30, 20)).astype(np.float32)
    assert np.array_equal(factorise(a, 5, 3).vectors, factorise(a, 5, 3).vectors)
    one = np.outer(np.arange(1, 9), np.arange(1, 7)).astype(np.float32)
    found = factorise(one, 3)
    assert np.linalg.norm(found.vectors, axis=1) == pytest.approx(1, abs=1e-5)
    assert factorise(np.zeros((8, 6), np.float32), 3).vectors.shape == (0, 6)


def test_projection_is_non_negative_least_squares():
    u, w = planted()
    factors = factorise(u @ w, 4)
    rows = np.random.default_rng(5).exponential(size=(7, 30)).astype(np.float32)
    expected = [scipy.optimize.nnls(factors.vectors.T.astype(float), row.astype(float))[0] for row in rows]
    assert np.allclose(factors.project(rows), expected, atol=0.02 * np.max(expected))


# --- Sobol indices ----------------------------------------------------------------------------------------------------


def ishigami(x: np.ndarray) -> np.ndarray:
    z = (2 * x - 1) * np.pi
    return np.sin(z[:, 0]) + 7 * np.sin(z[:, 1]) ** 2 + 0.1 * z[:, 2] ** 4 * np.sin(z[:, 0])


def test_the_total_indices_of_ishigamis_function():
    # Sobol and Levitan 1999, a = 7, b = 0.1.
    v1, v2, v13 = 0.5 * (1 + 0.1 * np.pi**4 / 5) ** 2, 49 / 8, 0.01 * np.pi**8 * (1 / 18 - 1 / 50)
    expected = np.array([v1 + v13, v2, v13]) / (v1 + v2 + v13)
    found = sobol.total_sobol(ishigami, 3, designs=4096)
    assert np.allclose(found, expected, atol=0.02)


def test_they_are_scipys():
    uniform = [scipy.stats.uniform()] * 3
    reference = scipy.stats.sobol_indices(func=lambda x: ishigami(x.T), n=4096, dists=uniform, rng=0)
    assert np.allclose(sobol.total_sobol(ishigami, 3, designs=4096), reference.total_order, atol=0.03)
    # And the estimator itself, on the very same values.
    seen = []
    found = sobol.total_sobol(lambda x: seen.append(ishigami(x)) or seen[0], 3, designs=64)
    a, b, mixed = np.split(seen[0], [64, 128])
    given = {"f_A": a[None], "f_B": b[None], "f_AB": mixed.reshape(3, 1, 64)}
    assert np.allclose(found, scipy.stats.sobol_indices(func=given, n=64).total_order, rtol=1e-5)


def test_the_indices_of_a_sum_are_its_shares_and_of_a_constant_zero():
    weights = np.array([3.0, -2.0, 1.0, 0.0])
    found = sobol.total_sobol(lambda x: x @ weights + 5, 4, designs=2048)
    assert np.allclose(found, weights**2 / np.sum(weights**2), atol=0.02)
    assert sobol.total_sobol(lambda x: np.full(len(x), 7.3, np.float32), 3).tolist() == [0, 0, 0]


def test_the_default_number_of_designs_orders_ten_inputs():
    weights = np.linspace(1, 4, 10)
    found = sobol.total_sobol(lambda x: x @ weights, 10)
    assert scipy.stats.spearmanr(found, weights).statistic > 0.85


# --- The rest of a network --------------------------------------------------------------------------------------------


def outputs(classifier: Classifier, layer: str, x: torch.Tensor) -> torch.Tensor:
    seen = []
    module = classifier.net.get_submodule(layer)
    handle = module.register_forward_hook(lambda m, a, out: seen.append(out.clone()))
    with torch.no_grad():
        classifier.net((x - classifier.mean) / classifier.std)
    handle.remove()
    return seen[-1]


@pytest.mark.parametrize("layer", ["bn2", "blocks.5.2.bn1", "blocks.3", "global_pool"])
def test_a_layers_own_output_gives_the_networks_own_logits(classifier, layer):
    # blocks.5.2.bn1 lies inside a residual block: what bypasses it comes from the one image.
    x = real_looking(1)
    own = outputs(classifier, layer, x)
    logits = sobol.rest(classifier, classifier.layer(layer), x, torch.cat([own, own * 0, own]))
    expected = classifier.shipped(x)[0]
    assert torch.allclose(logits[0], expected, atol=1e-4)
    assert torch.allclose(logits[2], expected, atol=1e-4)
    assert not torch.allclose(logits[1], expected, atol=0.1)
    assert not classifier.net.get_submodule(layer)._forward_hooks


def test_layers_that_shortcuts_bypass_are_known(classifier):
    x = real_looking(1)
    expected = {"bn2": False, "blocks.5.3": False, "blocks.5.3.bn1": True, "blocks.6.0.bn1": False}
    assert {name: sobol.bypassed(classifier, classifier.layer(name), x) for name in expected} == expected


def test_networks_that_read_the_number_of_images_early_run_on_copies():
    import timm

    from featvis.networks.names import ModelSpec

    net = timm.create_model("vit_tiny_patch16_224", img_size=64, depth=2, num_classes=7)
    vit = Classifier(net, ModelSpec("vit", "vit"), precision="float32")
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for layer in ("blocks.0", "blocks.1.attn.qkv", "blocks.1.mlp.act"):
        own = outputs(vit, layer, x)
        raw = torch.cat([own, 2 * own, own * 0])
        # The reference: one output at a time, plugged in by a hook of this test.
        for made, given in zip(sobol.rest(vit, vit.layer(layer), x, raw), raw, strict=True):
            handle = vit.net.get_submodule(layer).register_forward_hook(lambda m, a, o, given=given: given[None])
            with torch.no_grad():
                expected = vit.net((x - vit.mean) / vit.std)[0]
            handle.remove()
            assert torch.allclose(made, expected, atol=1e-4), layer


def test_zero_concepts_are_the_tail_on_zeros_and_all_of_them_the_image(classifier):
    x = real_looking(1)
    rows = outputs(classifier, LAYER, x)[0].flatten(1).T.numpy()
    # Every position is a factor: the reconstruction is whole.
    there = rows[np.linalg.norm(rows, axis=1) > 0]
    vectors = there / np.linalg.norm(there, axis=1, keepdims=True)
    whole = sobol.effects(classifier, LAYER, Factors(there, vectors, 0.0, 1.0), x[0], LABEL, designs=2)
    assert whole.logit == pytest.approx(float(classifier.shipped(x)[0, LABEL]), abs=1e-4)
    assert whole.rebuilt == pytest.approx(whole.logit, abs=0.05)
    # One factor that is all there is: without it the rest sees zeros.
    handle = classifier.net.bn2.register_forward_hook(lambda m, a, out: out * 0)
    zeros = float(classifier.shipped(x)[0, LABEL])
    handle.remove()
    one = np.abs(np.random.default_rng(0).normal(size=(1, 1280))).astype(np.float32)
    alone = sobol.effects(classifier, LAYER, Factors(one[:, :1], one / np.linalg.norm(one), 0.0, 1.0), x[0], LABEL)
    assert alone.rebuilt - float(alone.effect[0]) == pytest.approx(zeros, abs=1e-4)
    assert float(alone.importance[0]) == pytest.approx(1, abs=0.1)


def test_a_planted_concept_is_the_most_important_by_its_closed_form(classifier):
    """After bn2 the network is linear: a concept's index is its share of the squared contributions to the logit."""
    x = real_looking(1)
    means = outputs(classifier, LAYER, x)[0].mean((1, 2))
    weight = classifier.net.classifier.weight[LABEL].detach()
    order = (means * weight).argsort(descending=True)
    groups = [order[500:560], order[:60], order[60:120], order[560:620]]
    vectors = torch.zeros(4, 1280)
    for vector, group in zip(vectors, groups, strict=True):
        vector[group] = 1 / len(group) ** 0.5
    factors = Factors(np.ones((1, 4), np.float32), vectors.numpy(), 0.0, 1.0)
    found = sobol.effects(classifier, LAYER, factors, x[0], LABEL, designs=512)
    # A factor's own share of the layer, by projection on vectors that have no channel in common.
    expected = ((vectors @ means) * (vectors @ weight)).double()
    assert int(found.importance.argmax()) == 1
    assert torch.allclose(found.effect.double(), expected, atol=1e-3)
    assert torch.allclose(found.importance.double(), expected**2 / (expected**2).sum(), atol=0.05)


# --- Concepts ---------------------------------------------------------------------------------------------------------


def test_layers_that_have_concepts(classifier):
    x = real_looking(2)
    assert concepts.default_layer(classifier, x) == "bn2"
    assert concepts.check_layer(classifier, "bn2", x) == 0
    assert concepts.check_layer(classifier, "global_pool", x) == 0
    with pytest.raises(UserError, match="negative ones.*such as bn2"):
        concepts.check_layer(classifier, "blocks.6", x)
    with pytest.raises(UserError, match="no layer bn3: did you mean bn"):
        concepts.check_layer(classifier, "bn3", x)
    with pytest.raises(UserError, match="logits are the output"):
        concepts.check_layer(classifier, "logits", x)


def test_the_nearest_classes_are_relatives(classifier):
    near = [classifier.labels[i] for i in concepts.sisters(classifier, 292)[:6]]
    assert {"tiger cat", "jaguar", "leopard"} <= set(near)
    everything = concepts.sisters(classifier, 292)
    assert sorted([*everything, 292]) == list(range(1000))


@pytest.fixture(scope="module")
def found(classifier) -> Concepts:
    return concepts.find(classifier, LAYER, real_looking(2), LABEL, own=1, concepts=3, patch=112)


def test_concepts_stand_in_the_order_of_their_importance(classifier, found):
    importance = found.effects.importance
    assert torch.equal(importance, importance.sort(descending=True).values)
    assert len(found.places) == len(found.coefficients) == 8
    # The coefficients, the places and the vectors stayed together.
    rows = np.concatenate(list(concepts.activations(classifier, LAYER, real_looking(2), 112)))
    rebuilt = (found.coefficients @ found.vectors).numpy()
    assert np.linalg.norm(rows - rebuilt) / np.linalg.norm(rows) == pytest.approx(found.error, abs=1e-4)
    best = int(found.coefficients[:, 0].argmax())
    assert found.top(0, 1) == [found.places[best]]
    assert found.top(0, 100) != found.places
    assert found.places[0] == Place(0, 0, 0)


def test_too_many_concepts_are_refused(classifier):
    with pytest.raises(UserError, match="the 4 patches of the 1 images"):
        concepts.find(classifier, LAYER, real_looking(1), LABEL, concepts=5, patch=112)


@pytest.mark.parametrize("objective", ["dot", "cosine"])
def test_a_file_of_concepts_gives_units_that_can_be_maximised(classifier, found, tmp_path, objective):
    path = tmp_path / "concepts.safetensors"
    facts = {"layer": LAYER, "weights": classifier.weights_hash, "labels": ["a", "b", "c"], "objective": objective}
    found.save(path, facts)
    again, said = Concepts.load(path)
    assert torch.equal(again.vectors, found.vectors)
    assert again.places == found.places
    assert said["labels"] == ["a", "b", "c"]
    units = parse_units(f"direction:{path}:0-1", classifier)
    assert [u.label for u in units] == ["a", "b"]
    assert units[0].cosine == units[0].id.endswith("-cosine") == (objective == "cosine")

    def along(steps: int) -> float:
        """How far the layer's mean activation goes along the concept, read by a hook of this test."""
        generator = MACO(steps=steps, canvas=96, views=2, crop_side=(1.0, 0.8), phase_offset=True, precision="float32")
        generator.classifier = classifier
        canvas = classifier.preprocess(generator.predict_step(units[:1]).canvas)
        return float(outputs(classifier, LAYER, canvas)[0].mean((1, 2)) @ found.vectors[0])

    assert along(32) > 1.2 * along(1)
