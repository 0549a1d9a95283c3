"""The embedded reference, remade in part from the images that it was made of."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from benchmark.scoring.packs import fingerprint
from benchmark.scoring.references import bank as make_bank
from benchmark.scoring.references import nearest, spectrum
from featvis.data.files import ImageFile, digest, list_images
from featvis.data.reference import EMBEDDED, NearestJob, read_bank, read_provenance, read_spectrum
from featvis.data.sets import FolderImages
from featvis.errors import UserError
from featvis.networks.loading import load

NETWORKS = ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"]


@pytest.mark.parametrize("name", NETWORKS)
def test_banks_are_what_the_networks_make_of_the_images(sample, name, tmp_path):
    network = load(name, "float32")
    bank = read_bank(EMBEDDED, network.name)
    assert bank is not None
    assert bank.weights_hash == network.weights_hash
    classes = [0, 17, 130, 301, 323, 500, 640, 871, 953, 999]
    source = FolderImages(sample, network.synsets, classes=classes)
    made = make_bank(source, network, tmp_path)
    at = [int((bank.labels == label).nonzero()[0, 0]) for label in made.labels]
    assert made.labels.tolist() == source.labels
    assert torch.equal(made.digests, bank.digests[at])
    assert torch.equal(made.predictions, bank.predictions[at])
    assert torch.allclose(made.logits, bank.logits[at], atol=2e-3)
    # float16 keeps eleven bits.
    assert torch.allclose(made.features, bank.features[at], rtol=2e-3, atol=2e-3)
    assert torch.equal(made.rows(torch.tensor([3, 1])), made.features[[3, 1]])


def test_the_flat_distance_to_the_stream_is_that_of_the_kept_features(sample, tmp_path):
    # The embedded bank keeps the flattened features of ten classes; the job keeps none, and comes to the same numbers.
    network = load(NETWORKS[0], "float32")
    bank = read_bank(EMBEDDED, network.name)
    assert bank is not None
    a, b = (int(bank.labels[i]) for i in bank.flat_rows[:2])
    source = FolderImages(sample, network.synsets, classes=[a, b])
    picture = source.open(source.rows[b][0])
    # Once as a picture of class a; once of its own class, where it must not be its own neighbour.
    openers = {a: [lambda: (picture[0], 0)], b: [lambda: picture, lambda: (picture[0], 0)]}
    found = nearest(source, network, openers, "test", tmp_path)
    flat = [bank.flat[bank.flat_rows.tolist().index(int((bank.labels == c).nonzero()[0, 0]))] for c in (a, b)]
    squared, cosine = ({c: near[key] for c, near in found.items()} for key in ("squared", "cosine"))
    assert float(squared[a][0]) == pytest.approx(float((flat[0] - flat[1]).double().square().sum()), rel=2e-3)
    assert float(cosine[a][0]) == pytest.approx(1 - float(torch.cosine_similarity(*flat, dim=0)), rel=2e-3)
    assert squared[b][0] == cosine[b][0] == torch.inf
    assert float(squared[b][1]) < 1e-3 * float(squared[a][0])
    assert float(cosine[b][1]) < 1e-3
    assert isinstance(NearestJob(network, openers, "test").facts["layer"], str)


def test_the_networks_know_what_they_see():
    # 86.5, 88.0 and 89.3 % of whole images, two points below what timm's centre crop of 87 % gives; a mistake in
    # mean, std, colours or order costs tens.
    for name, least in zip(NETWORKS, (0.86, 0.87, 0.88), strict=True):
        bank = read_bank(EMBEDDED, f"tf_{name}.in1k")
        assert bank is not None
        assert len(bank.labels) == 1000
        assert float((bank.predictions == bank.labels).float().mean()) > least


def test_the_spectrum_of_the_held_out_classes_is_remade_exactly(sample, tmp_path):
    bank = read_bank(EMBEDDED, "tf_efficientnet_lite0.in1k")
    assert bank is not None
    source = FolderImages(sample, load(NETWORKS[0]).synsets, classes=bank.flat_classes)
    assert len(source) == 10
    made = read_spectrum(spectrum(source, tmp_path))["magnitude"]
    assert torch.allclose(made, read_spectrum()["real"], rtol=1e-4)
    # All 1000 images deviate from ten of them as means of random magnitudes do, not more.
    ratio = (read_spectrum()["magnitude"] / made).log()
    assert 0.05 < float(ratio.std()) < 0.6


def test_a_broken_reference_is_said_in_a_sentence(tmp_path):
    shutil.copy(EMBEDDED / f"tf_{NETWORKS[0]}.in1k.safetensors", tmp_path)
    (tmp_path / "provenance.json").write_text("half a fi")
    with pytest.raises(UserError, match=r"provenance.json cannot be read .*make it anew"):
        read_bank(tmp_path, f"tf_{NETWORKS[0]}.in1k")
    save_file({"features": torch.zeros(1)}, tmp_path / "bare.safetensors")
    with pytest.raises(UserError, match=r"bare.safetensors cannot be read .*make it anew"):
        read_bank(tmp_path, "bare")


def test_provenance_tells_the_image_set(sample):
    facts = read_provenance()
    files = list_images(sample, [])
    assert facts["images"] == len(files) == 1000
    assert facts["sha256"] == fingerprint(sample, files)
    assert json.loads((EMBEDDED / "provenance.json").read_text())["skipped"] == 0


def test_every_asset_is_small():
    sizes = {p.name: p.stat().st_size for p in EMBEDDED.iterdir()}
    assert len(sizes) == 5
    assert max(sizes.values()) < 5e6


def test_a_broken_bank_is_said_to_be_broken(tmp_path):
    whole = (EMBEDDED / "tf_efficientnet_lite0.in1k.safetensors").read_bytes()
    (tmp_path / "x.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"x\.safetensors cannot be read"):
        read_bank(tmp_path, "x")
    with pytest.raises(UserError, match="featvis reference --spectrum"):
        read_spectrum(tmp_path)
    assert read_bank(tmp_path, "none") is None


def test_digests_are_of_the_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "b").write_bytes(b"x")
    (tmp_path / "c").write_bytes(b"y")
    a, b, c = (digest(tmp_path / n) for n in "abc")
    assert a == b != c
    assert ImageFile(tmp_path / "a", None).label is None
    assert np.iinfo(np.int64).max >= a > 0
