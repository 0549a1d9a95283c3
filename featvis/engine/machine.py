"""What a command may change of its process: pieces of work on a thread each.

Few threads a piece lose less time waiting for each other than many.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache
from typing import TypeVar

import torch

from featvis.engine.switch import on

T = TypeVar("T")
MOST = 4
"""Pieces at once, which bounds their memory."""
_prepared = False


def prepare() -> None:
    """Give the process to the engine: commands call it once, at their beginning; programs that use featvis may.

    From then on the parts of a batch are optimised side by side, by threads that share PyTorch's threads out among
    them. It changes how fast images are made, and not what is in them. Without it they are one after the other.

    And float32 is float32 on NVIDIA's cards too, whose convolutions PyTorch else leaves to TF32, of ten bits.
    """
    global _prepared
    torch.backends.cudnn.allow_tf32 = False
    _prepared = True


def workers_for(pieces: int) -> int:
    """How many of so many pieces are worked on at once."""
    if not (_prepared and on("side by side")):
        return 1
    return max(1, min(pieces, torch.get_num_threads(), MOST))


def side_by_side(work: Callable[[T], object], pieces: Sequence[T]) -> None:
    """Do `work` on each of the pieces, which must not depend on one another.

    In a process that is `prepare`d as many at a time as there are threads of PyTorch's, at most `MOST`, share these out
    among them; pieces that are left over have all the threads, one after the other. In any other process all do.

    Raises:
        BaseException: the first that a piece raised, once those at work with it have ended.
    """
    at_once = workers_for(len(pieces))
    together = len(pieces) // at_once * at_once if at_once > 1 else 0
    if together:
        pool = _pool(at_once, torch.get_num_threads())
        futures: list[Future[object]] = []
        try:
            for piece in pieces[:together]:
                futures.append(pool.submit(work, piece))
            for future in futures:
                future.result()
        except BaseException:
            for future in futures:
                future.cancel()
            wait(futures)
            raise
    for piece in pieces[together:]:
        work(piece)


@cache
def _pool(workers: int, threads: int) -> ThreadPoolExecutor:
    """Workers that share PyTorch's threads out among them."""
    all_there = threading.Barrier(workers + 1)

    def start() -> None:
        torch.set_num_threads(threads // workers)
        # The number is a thread's own from the first time that it is read; before, it is what was set last by any.
        torch.get_num_threads()
        all_there.wait()

    pool = ThreadPoolExecutor(workers, thread_name_prefix="featvis")
    try:
        for _ in range(workers):
            pool.submit(start)
        all_there.wait()
    except BaseException:
        # Nobody may wait for those that did not come.
        all_there.abort()
        pool.shutdown(wait=False)
        raise
    # The last number set, by whichever thread, is what new threads begin with.
    torch.set_num_threads(threads)
    return pool


# A forked process has none of its parent's threads.
os.register_at_fork(after_in_child=_pool.cache_clear)
