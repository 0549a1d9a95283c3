"""DINOv2 and CLIP as networks without classes: random weights of their layout against a ViT that is written anew."""

from __future__ import annotations

import json

import numpy as np
import pytest
import safetensors.torch
import torch
from extractors import CLIP, DINO, SMALL, TAGS, put, vit

from featvis.data.extractors.clip import embeddings_of
from featvis.networks import hub
from featvis.networks.classes import Classes
from featvis.networks.loading import load
from featvis.networks.own.modules import classifier_of


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FEATVIS_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


def pictures(side: int) -> torch.Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(5))


def close(got: torch.Tensor, want: np.ndarray) -> None:
    assert want.std() > 0.3
    np.testing.assert_allclose(got.double().numpy(), want, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("alias", ["dinov2_vits14", "dinov2_vitl14"])
def test_dinov2_gives_its_cls_token_at_224(alias, folder):
    state = put(folder, alias, 224)
    network = load(alias, "float32")
    assert (network.name, network.input_size, network.num_classes) == (TAGS[alias], (224, 224), 32)
    found = network.features(pictures(224))
    close(found["pooled"], vit(state, pictures(224).double().numpy(), **DINO))
    assert torch.equal(found["logits"], found["pooled"])
    assert torch.equal(embeddings_of(network, found["pooled"]), found["pooled"])


def test_positions_of_weights_for_518_are_resampled(folder):
    """The size that DINOv2's weights are published for; the metadata of such a file may say it."""
    state = put(folder, "dinov2_vits14", 518)
    path = folder / "dinov2_vits14.safetensors"
    facts = {"create_kwargs": json.dumps(SMALL), "input_size": "[3, 518, 518]", "architecture": TAGS["dinov2_vits14"]}
    safetensors.torch.save_file(safetensors.torch.load_file(path), path, metadata=facts)
    network = load("dinov2_vits14", "float32")
    assert network.input_size == (224, 224)
    grid = torch.from_numpy(state["pos_embed"][:, 1:]).reshape(1, 37, 37, 32).permute(0, 3, 1, 2)
    resampled = torch.nn.functional.interpolate(grid, (16, 16), mode="bicubic", antialias=True)
    state["pos_embed"] = np.concatenate([state["pos_embed"][:, :1], resampled.flatten(2).transpose(1, 2).numpy()], 1)
    close(network.features(pictures(224))["pooled"], vit(state, pictures(224).double().numpy(), **DINO))


def test_clip_gives_its_token_before_and_after_the_projection(folder):
    state = put(folder, "clip_vitl14_336", 336)
    network = load("clip_vitl14_336", "float32")
    found = network.features(pictures(336))
    token = vit(state, pictures(336).double().numpy(), **CLIP)
    close(found["pooled"], token)
    close(found["logits"], token @ state["head.weight"].T + state["head.bias"])
    torch.testing.assert_close(embeddings_of(network, found["pooled"]), found["logits"], rtol=1e-4, atol=1e-4)


def test_an_extractor_has_no_class_in_common_with_anyone(folder, classifier):
    put(folder, "dinov2_vits14", 224)
    put(folder, "dinov2_vitl14", 224)
    small, large = (load(alias, "float32") for alias in ("dinov2_vits14", "dinov2_vitl14"))
    assert small.synsets == []
    assert (small.labels[0], small.labels[-1]) == ("dimension 0", "dimension 31")
    for other in (large, classifier):
        assert not Classes.of(small).shared(Classes.of(other))
        assert not Classes.of(other).shared(Classes.of(small), [0])


def test_a_thousand_dimensions_are_not_imagenets_classes():
    import timm

    net = timm.create_model("vit_tiny_patch16_224", num_classes=0, embed_dim=1000, depth=1, num_heads=2).eval()
    assert classifier_of(net, "float32").synsets == []
    # A head that somebody puts there makes it a classifier again.
    net.head = torch.nn.Linear(1000, 1000)
    assert len(classifier_of(net, "float32").synsets) == 1000


def test_classes_in_words_are_no_network(folder):
    put(folder, "dinov2_vits14", 224)
    safetensors.torch.save_file({"text": torch.eye(2)}, folder / "clip_vitl14_336.classes.safetensors")
    listed = {spec.alias for spec, _, _ in hub.available()}
    assert "dinov2_vits14" in listed
    assert not any("classes" in alias for alias in listed)
