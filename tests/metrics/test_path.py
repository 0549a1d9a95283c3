"""The path curve against plain loops over pairs, and what it must be for pictures that are photographs or nothing."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featvis.errors import UserError
from featvis.metrics.functional.path import class_sums, path_gaps, path_similarity


def cosine(a, b):
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def by_pairs(x, labels, natural, natural_labels):
    """The definition: means of cosines over pairs, one by one."""
    own, unit = [], []
    for picture, label in zip(x, labels, strict=True):
        same = [cosine(picture, p) for p, k in zip(natural, natural_labels, strict=True) if k == label]
        other = [cosine(picture, p) for p, k in zip(natural, natural_labels, strict=True) if k != label]
        own.append(np.mean(same) - np.mean(other))
        rows = [i for i, k in enumerate(natural_labels) if k == label]
        within = [cosine(natural[i], natural[j]) for i in rows for j in rows if i != j]
        across = [cosine(natural[i], natural[j]) for i in rows for j in range(len(natural)) if j not in rows]
        unit.append(np.mean(within) - np.mean(across))
    return own, unit


def drawn(seed, classes=3, each=(4, 2, 5), n=6, d=7):
    rng = np.random.default_rng(seed)
    centres = rng.random((classes, d)) * 2
    natural_labels = np.repeat(np.arange(classes), each)
    natural = centres[natural_labels] + rng.random((len(natural_labels), d))
    labels = rng.integers(classes, size=n)
    return centres[labels] + rng.random((n, d)) * 3, labels, natural, natural_labels


@pytest.mark.parametrize("seed", range(4))
def test_the_gaps_are_means_over_pairs(seed):
    x, labels, natural, natural_labels = drawn(seed)
    own, unit = by_pairs(x, labels, natural, natural_labels)
    given_ = [torch.from_numpy(a) for a in (x, labels, natural, natural_labels)]
    classes = torch.arange(3)
    found = path_gaps(given_[0], given_[1], *class_sums(given_[2], given_[3], classes), classes)
    np.testing.assert_allclose(found[0].numpy(), own, atol=1e-8)
    np.testing.assert_allclose(found[1].numpy(), unit, atol=1e-8)
    assert float(path_similarity(*given_)) == pytest.approx(np.sum(own) / np.sum(unit), abs=1e-7)


def test_sums_add_up_over_batches_and_an_image_without_activations_counts_nowhere():
    x, _, natural, labels = (torch.from_numpy(a) for a in drawn(0))
    natural = torch.cat([natural, torch.zeros(2, natural.shape[1], dtype=natural.dtype)])
    labels = torch.cat([labels, torch.tensor([0, 1])])
    classes = torch.tensor([2, 0, 1])
    whole = class_sums(natural, labels, classes)
    parts = [class_sums(n, k, classes) for n, k in zip(natural.split(5), labels.split(5), strict=True)]
    torch.testing.assert_close(whole[0], sum(p[0] for p in parts))
    assert whole[1].tolist() == sum(p[1] for p in parts).tolist() == [5, 4, 2]
    own, unit = path_gaps(torch.cat([x[:1], 0 * x[:1]]), torch.tensor([0, 0]), *whole, classes)
    assert own.isnan().tolist() == unit.isnan().tolist() == [False, True]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 99), scale=st.floats(0.01, 100), data=st.data())
def test_neither_length_nor_order_matters(seed, scale, data):
    x, labels, natural, natural_labels = (torch.from_numpy(a) for a in drawn(seed))
    value = float(path_similarity(x, labels, natural, natural_labels))
    order = torch.tensor(data.draw(st.permutations(range(len(natural)))))
    lengths = torch.rand(len(x), 1, generator=torch.Generator().manual_seed(seed), dtype=x.dtype) + 0.1
    again = path_similarity(x * lengths * scale, labels, natural[order] * scale, natural_labels[order])
    assert float(again) == pytest.approx(value, abs=1e-6)


def test_photographs_are_at_one_and_pictures_of_nothing_at_zero():
    rng = np.random.default_rng(0)
    centres, labels = rng.random((4, 30)), np.repeat(np.arange(4), 300)
    natural = torch.from_numpy(centres[labels] + rng.random((1200, 30)))
    others = torch.from_numpy(centres[labels] + rng.random((1200, 30)))
    label = torch.from_numpy(labels)
    assert float(path_similarity(others, label, natural, label)) == pytest.approx(1, abs=0.02)
    same_for_all = torch.from_numpy(np.tile(rng.random((1, 30)), (4, 1)))
    assert float(path_similarity(same_for_all, torch.arange(4), natural, label)) == pytest.approx(0, abs=1e-9)
    caricature = torch.from_numpy(centres - centres.mean(0))
    assert float(path_similarity(caricature, torch.arange(4), natural, label)) > 1.5


def test_what_cannot_be_said_is_nan_and_what_is_wrong_a_sentence():
    natural, labels = torch.eye(3), torch.tensor([0, 0, 1])
    x = torch.ones(3, 3)
    own, unit = path_gaps(
        x, torch.tensor([0, 1, 5]), *class_sums(natural, labels, torch.tensor([0, 1])), torch.arange(2)
    )
    assert own.isnan().tolist() == unit.isnan().tolist() == [False, True, True]  # one photograph; another class
    # Photographs of one class are no more alike than of several.
    assert math.isnan(path_similarity(x, torch.tensor([0, 0, 0]), natural, labels))
    alone = class_sums(natural, torch.tensor([0, 0, 0]), torch.tensor([0]))
    assert path_gaps(x, torch.tensor([0, 0, 0]), *alone, torch.tensor([0]))[0].isnan().all()
    with pytest.raises(UserError, match="not finite"):
        path_similarity(x * torch.nan, labels, natural, labels)
