"""Classes in words: the file of a text tower's embeddings, made and read, against NumPy; and files that are none."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from featvis.data.extractors.clip import class_embeddings, classes_file, read_classes, write_classes
from featvis.errors import UserError
from featvis.networks.classes import Classes

NAMES, SYNSETS = ["tench", "great white shark"], ["n01440764", "n01484850"]
TEMPLATES = ["a photo of a {}.", lambda name: f"the {name}, drawn", "{}"]


def tower(sentences: list[str]) -> torch.Tensor:
    """Embeddings that depend on each letter and its place."""
    found = torch.zeros(len(sentences), 7)
    for row, sentence in zip(found, sentences, strict=True):
        for i, letter in enumerate(sentence):
            row[(i * i + ord(letter)) % 7] += ord(letter) % 11 - 5
    return found


def test_a_class_is_the_mean_direction_of_its_sentences(tmp_path):
    path = write_classes(tmp_path / classes_file("clip_vitb16"), tower, NAMES, TEMPLATES, SYNSETS)
    assert path.name == "clip_vitb16.classes.safetensors"
    want = []
    for name in NAMES:
        said = [f"a photo of a {name}.", f"the {name}, drawn", name]
        found = tower(said).double().numpy()
        mean = (found / np.linalg.norm(found, axis=1, keepdims=True)).mean(0)
        want.append(mean / np.linalg.norm(mean))
    read = read_classes(path)
    np.testing.assert_allclose(read.text.numpy(), want, rtol=1e-5)
    assert read.prompts == "3 sentences: a photo of a tench., …"
    assert read.classes == Classes(2, tuple(SYNSETS), tuple(NAMES))


def test_classes_are_found_by_synset_and_by_name(tmp_path):
    read = read_classes(write_classes(tmp_path / "x.safetensors", tower, NAMES, TEMPLATES, SYNSETS))
    assert Classes(1, ("n01484850",)).counterpart(0, read.classes) == 1
    named = read_classes(write_classes(tmp_path / "y.safetensors", tower, NAMES, TEMPLATES, prompts="mine"))
    assert named.prompts == "mine"
    assert Classes.of(["cat", "Great_white shark"]).counterpart(1, named.classes) == 1
    assert Classes.of(["cat", "Great_white shark"]).counterpart(0, named.classes) is None


def test_what_cannot_be_made():
    with pytest.raises(UserError, match="templates is empty"):
        class_embeddings(tower, NAMES, [])
    with pytest.raises(UserError, match=r"gives \(1, 7\) for 3 sentences about tench"):
        class_embeddings(lambda said: tower(said[:1]), NAMES, TEMPLATES)
    with pytest.raises(UserError, match="2 names and 1 synsets"):
        write_classes("nowhere", tower, NAMES, TEMPLATES, SYNSETS[:1])


@pytest.mark.parametrize(
    ("tensors", "facts"),
    [
        ({"text": torch.eye(2)}, {"labels": json.dumps(["cat"])}),
        ({"text": torch.eye(2)}, {}),
        ({"text": torch.eye(2)[0]}, {"labels": json.dumps(["cat", "dog"])}),
        ({"text": torch.zeros(2, 2)}, {"labels": json.dumps(["cat", "dog"])}),
        ({"text": torch.full((2, 2), torch.nan)}, {"labels": json.dumps(["cat", "dog"])}),
        ({"words": torch.eye(2)}, {"labels": json.dumps(["cat", "dog"])}),
        ({"text": torch.eye(2)}, {"labels": "cat, dog"}),
        ({"text": torch.eye(2)}, {"labels": "3"}),
    ],
)
def test_a_file_that_holds_no_classes_is_named(tensors, facts, tmp_path):
    save_file(tensors, tmp_path / "bad.safetensors", metadata=facts)
    with pytest.raises(UserError, match=r"bad\.safetensors cannot be used .*write_classes"):
        read_classes(tmp_path / "bad.safetensors")


def test_a_cut_file_and_none_are_named(tmp_path):
    whole = write_classes(tmp_path / "whole.safetensors", tower, NAMES, TEMPLATES).read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-8])
    for name in ("cut", "none"):
        with pytest.raises(UserError, match=rf"{name}\.safetensors cannot be used"):
            read_classes(tmp_path / f"{name}.safetensors")
