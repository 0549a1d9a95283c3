"""Accentuation from photographs of other classes: which ones, untouched or not, and what is refused."""

from __future__ import annotations

import gc
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import LABELS, network

import featvis
from featvis.data.files import digest
from featvis.errors import UserError
from featvis.generators import SeededAccentuation
from featvis.networks.units import parse_units


def made(tiny, images, **options):
    given = {"model": tiny, "images": str(images), "layer": "1", "steps": 3, "canvas": 16, "views": 2, **options}
    return SeededAccentuation(**given)


def test_a_seed_is_a_photograph_of_another_class_and_untouched_it_is_the_canvas(tiny, pictures):
    by_digest = {digest(path): path for path in pictures.rglob("*.png")}
    method, control = made(tiny, pictures), made(tiny, pictures, untouched=True)
    units = parse_units(",".join(f"{label}@0-3" for label in LABELS), tiny)
    found = control.optimise(units)
    for unit, canvas in zip(units, found.canvas, strict=True):
        (seen,) = method.photographs(unit)
        assert control.photographs(unit) == (seen,)
        assert by_digest[seen].parent.name != unit.label
        assert method.about(unit)["image"] == by_digest[seen].name
        image = np.asarray(Image.open(by_digest[seen]), dtype=np.float32).transpose(2, 0, 1) / 255
        assert np.abs(canvas.numpy() - image).max() < 1.5 / 255, "but for a level of 8 bits"
    assert len({method.photographs(unit) for unit in units}) > 4
    changed = method.optimise(units[:2]).canvas
    assert (changed - found.canvas[:2]).abs().amax(dim=(1, 2, 3)).min() > 2 / 255
    assert (control.config()["init_args"]["steps"], method.config()["init_args"]["steps"]) == (0, 3)
    assert method.config_hash() != control.config_hash()


def test_the_draw_depends_on_the_seed_and_the_unit_alone(tiny, pictures):
    units = parse_units("cat@0-9,4:1", tiny)
    drawn = [made(tiny, pictures).photographs(unit) for unit in units]
    assert [made(tiny, pictures).photographs(unit) for unit in reversed(units)] == drawn[::-1]
    assert [made(tiny, pictures, seed=1).photographs(unit) for unit in units] != drawn
    moved = shutil.copytree(pictures, pictures.parent / "elsewhere")
    assert made(tiny, moved).config_hash() == made(tiny, pictures).config_hash()
    # One that cannot be decoded is passed over; of an image of another size the middle is seen.
    (unit,) = parse_units("cat", tiny)
    first = made(tiny, moved).photographs(unit)
    for path in moved.rglob("*.png"):
        if (digest(path),) == first:
            path.write_bytes(b"no picture")
        else:
            Image.open(path).convert("L").resize((40, 24)).save(path)
    other = made(tiny, moved).seed_of(unit)
    assert other.digest != first[0]
    assert other.image.shape == (3, 16, 16)
    assert torch.equal(other.image[0], other.image[2])


def live() -> int:
    """The numbers in all tensors that somebody holds."""
    gc.collect()
    return sum(o.numel() for o in gc.get_objects() if type(o) is torch.Tensor)


def test_no_image_is_held_before_a_run_and_those_of_a_batch_alone_in_it(tiny, pictures):
    units = parse_units("cat@0-5,dog@0-5,4:1@0-5", tiny)
    wanted = [made(tiny, pictures).photographs(unit) for unit in units]
    alone = [made(tiny, pictures).optimise([unit]).canvas for unit in units[::6]]
    method = made(tiny, pictures)
    method.check_units(units)
    before = live()
    assert [method.photographs(unit) for unit in units] == wanted
    assert live() == before, "a digest needs no canvas"
    for unit, canvas in zip(units[::6], alone, strict=True):
        assert torch.equal(method.optimise([unit]).canvas, canvas)
        assert live() - before == 3 * 16 * 16, "of the unit at hand alone"
        assert method.about(unit)["seen"] == [f"{method.photographs(unit)[0]:016x}"]
    assert len({id(method.seed_of(unit)) for unit in units}) == len(set(wanted)) < len(units), "shared by its units"


def test_seeds_of_the_units_own_class_and_no_seeds_are_refused(tiny, pictures):
    shutil.rmtree(pictures / "dog")
    shutil.rmtree(pictures / "fox")
    units = parse_units("cat", tiny)
    with pytest.raises(UserError, match="images of cat alone, and with a seed of the unit's own class"):
        made(tiny, pictures).check_units(units)
    made(tiny, pictures).check_units(parse_units("dog", tiny))
    with pytest.raises(UserError, match="name a set of them"):
        SeededAccentuation(model=tiny)
    with pytest.raises(UserError, match="has no layer layer9"):
        made(tiny, pictures, layer="layer9").check_units(units)
    for path in (pictures / "cat").iterdir():
        path.write_bytes(b"no picture")
    with pytest.raises(UserError, match="no image of another class than dog can be decoded"):
        made(tiny, pictures).photographs(parse_units("dog", tiny)[0])


def test_the_photographs_are_of_other_classes_of_the_network_at_hand(tiny, pictures):
    other = network()
    other.labels = list(reversed(LABELS))
    method = made(tiny, pictures)
    by_digest = {digest(path): path.parent.name for path in pictures.rglob("*.png")}
    for net in (tiny, other):
        out = featvis.visualize(net, "cat@0-9", method, progress=False)
        shown = {by_digest[method.photographs(unit)[0]] for unit in out.units}
        assert "cat" not in shown, net.labels
        assert len(shown) > 1
