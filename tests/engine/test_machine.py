"""Groups of units side by side: the same images as one after the other, whatever is read of the network."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from featvis.engine import machine
from featvis.engine.machine import side_by_side, workers_for
from featvis.generators import MACO
from featvis.networks.units import parse_units


@pytest.fixture
def two_threads(monkeypatch):
    monkeypatch.setattr(machine, "_prepared", True)
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def test_pieces_are_done_once_each_by_workers_that_share_the_threads(two_threads):
    done, threads, both_at_work = [], {}, threading.Barrier(2)

    def work(piece: int) -> None:
        done.append(piece)
        threads[piece] = (threading.get_ident(), torch.get_num_threads())
        if piece < 2:  # so that one worker does not get them all
            both_at_work.wait(600)

    side_by_side(work, range(5))
    assert sorted(done) == list(range(5))
    here = threading.get_ident()
    assert {threads[i][1] for i in range(4)} == {1}
    assert len({threads[i][0] for i in range(4)}) == 2
    # What is left over has all threads, and no other is left with fewer than before.
    assert threads[4] == (here, 2)
    assert torch.get_num_threads() == 2


def test_one_thread_or_one_piece_needs_no_worker(two_threads):
    here = []
    side_by_side(lambda piece: here.append(threading.get_ident()), [0])
    torch.set_num_threads(1)
    side_by_side(lambda piece: here.append(threading.get_ident()), [0, 1, 2])
    assert set(here) == {threading.get_ident()}
    assert (workers_for(0), workers_for(7)) == (1, 1)


def test_an_error_comes_out_and_nothing_goes_on_behind_it(two_threads):
    running, started = set(), []

    def work(piece: int) -> None:
        started.append(piece)
        running.add(piece)
        try:
            time.sleep(0.02)
            if piece == 1:
                raise ValueError("piece 1")
        finally:
            running.discard(piece)

    with pytest.raises(ValueError, match="piece 1"):
        side_by_side(work, range(40))
    assert not running
    assert len(started) < 40


@pytest.mark.parametrize("units", ["1,2,301,323,555", "blocks.1:0-2,blocks.3:5,301"], ids=["classes", "layers"])
def test_images_do_not_depend_on_who_makes_them(classifier, units, two_threads):
    """Units of several layers read the one network through hooks while another thread is in it."""
    chosen = parse_units(units, classifier)
    made = {}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        method = MACO(model="efficientnet_lite0", steps=1, canvas=64, views=2, micro_batch=2)
        method.classifier = classifier
        made[threads] = method.predict_step(chosen)
    # One step: after it, NAdam has made of every rounding of a small gradient a whole step.
    assert torch.allclose(made[1].scores, made[2].scores, rtol=1e-3, atol=1e-4)
    assert len(set(made[1].scores[0].tolist())) == 5
    for one, two in zip(made[1].alpha, made[2].alpha, strict=True):
        assert float((one - two).abs().max()) < 0.02 * float(one.max())
