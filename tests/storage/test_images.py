"""The image file: whole or not there."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from featvis.storage import images

FACTS = {"unit": "301", "config_hash": "0123456789ab", "score": 1.5}


def example(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (13, 17, 3), np.uint8), rng.integers(0, 256, (13, 17), np.uint8)


def test_round_trip_and_what_pillow_sees(tmp_path):
    rgb, alpha = example()
    images.write(tmp_path / "a.png", rgb, alpha, FACTS)
    pixels, facts = images.read(tmp_path / "a.png")
    assert np.array_equal(pixels[..., :3], rgb)
    assert np.array_equal(pixels[..., 3], alpha)
    assert facts == FACTS
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "RGBA"
        assert json.loads(image.info["featvis"]) == FACTS
        assert np.array_equal(np.asarray(image)[..., :3], rgb)


def test_the_same_picture_has_the_same_bytes(tmp_path):
    for name, facts in (("a", FACTS), ("b", dict(reversed(FACTS.items())))):
        images.write(tmp_path / f"{name}.png", *example(), facts)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@given(st.floats(0, 0.9999))
@settings(deadline=None, max_examples=60)
def test_a_file_cut_anywhere_is_noticed(tmp_path_factory, part):
    folder = tmp_path_factory.mktemp("cut")
    images.write(folder / "a.png", *example(), FACTS)
    whole = (folder / "a.png").read_bytes()
    assert images.verify(folder / "a.png", FACTS["config_hash"]) is None
    # The last 12 bytes are the end mark, without which every pixel is still there.
    (folder / "a.png").write_bytes(whole[: int(part * (len(whole) - 12))])
    assert images.verify(folder / "a.png", FACTS["config_hash"]) is not None


def test_a_changed_byte_or_another_configuration_is_noticed(tmp_path):
    path = tmp_path / "a.png"
    images.write(path, *example(), FACTS)
    assert "other" in str(images.verify(path, "other"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    assert images.verify(path, FACTS["config_hash"]) is not None
    Image.new("RGB", (4, 4)).save(path)
    assert "RGBA" in str(images.verify(path, FACTS["config_hash"]))
    assert images.verify(tmp_path / "none.png", FACTS["config_hash"]) is not None


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    images.write(tmp_path / "a.png", *example(), FACTS)
    before = (tmp_path / "a.png").read_bytes()

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    for name in ("a.png", "b.png"):
        with pytest.raises(OSError, match="No space left"):
            images.write(tmp_path / name, *example(1), FACTS)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == before
