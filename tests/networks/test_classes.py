"""Whose classes: names, and what two networks share."""

from __future__ import annotations

import pytest
from torch import nn

from featvis.errors import UserError
from featvis.networks.classes import Classes
from featvis.networks.classifier import Classifier
from featvis.networks.names import ModelSpec
from featvis.networks.units import parse_units


def network(count: int, labels: tuple[str, ...] | None = None) -> Classifier:
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, count))
    half = (0.5, 0.5, 0.5)
    return Classifier(net, ModelSpec("tiny", "tiny", mean=half, std=half, input_size=(8, 8), labels=labels))


def test_a_class_is_found_by_synset_label_or_index(classifier):
    imagenet = Classes.of(classifier)
    assert [imagenet.find(t) for t in ("n02165456", "Ladybug", "giant_panda", "301", "1000", "ladybugs", "")] == [
        301, 301, 388, 301, None, None, None,
    ]  # fmt: skip
    # Two of ImageNet's classes are called crane: the bird and the machine.
    with pytest.raises(UserError, match="crane may be the classes 134 and 517"):
        imagenet.find("crane")
    with pytest.raises(UserError, match=r"--units crane: crane may be the classes 134 and 517 .*by its index \(134\)"):
        parse_units("ladybug, crane", classifier)
    assert [unit.index for unit in parse_units(" Giant_Panda, n02165456, 134", classifier)] == [388, 301, 134]


def test_a_label_that_is_another_classs_index_is_refused_but_its_own_is_not():
    assert [Classes.of(["0", "1", "2"]).find(str(i)) for i in range(4)] == [0, 1, 2, None]
    with pytest.raises(UserError, match="1 may be the classes 0 and 1"):
        Classes.of(["1", "0", "cat"]).find("1")
    assert Classes.of(["10", "20"]).find("10") == 0


def test_classes_without_names_are_nobody_elses(classifier):
    imagenet, own = Classes.of(classifier), Classes.of(network(10))
    assert (own.count, own.labels, own.synsets) == (10, (), ())
    assert not own.shared(imagenet)
    assert not own.shared(imagenet, [0, 1])
    assert not own.shared(Classes.of(network(10))), "ten unnamed classes may be any ten"
    assert not Classes.of([f"LABEL_{i}" for i in range(10)]).shared(own)
    assert own.find("3") == own.find("class 3") == own.find("Label_3") == 3
    assert own.find("class 10") is None
    assert [unit.index for unit in parse_units("class 3, 4", network(10))] == [3, 4]


def test_classes_are_shared_by_label_whatever_their_numbers(classifier):
    imagenet = Classes.of(classifier)
    own = Classes.of(network(4, ("Ladybug", "giant_panda", "crane", "my cat")))
    assert [own.counterpart(i, imagenet) for i in range(4)] == [301, 388, None, None]
    assert own.shared(imagenet, [0, 1])
    assert not own.shared(imagenet, [0, 2])
    assert own.shared(imagenet), "half of them"
    assert not Classes.of(["ladybug", "a", "b"]).shared(imagenet)
    assert Classes.of(["n02165456", "n99999999"]).counterpart(0, imagenet) == 301
    assert [imagenet.counterpart(i, own) for i in (301, 388, 134)] == [0, 1, None]
