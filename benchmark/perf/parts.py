"""What each part of the engine buys: a method's step with it and without it, in turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from benchmark.perf.measure import generator, repeats, started, timed, units_of
from benchmark.perf.record import Part
from featvis import engine
from featvis.engine import switch
from featvis.networks.classifier import Classifier

ALL = "all of them"


@contextmanager
def without(name: str) -> Iterator[None]:
    """The engine without a part, or without `ALL`, during the with block."""
    with switch.without(*(switch.PARTS if name == ALL else [name])):
        yield


def parts(
    method: str, classifier: Classifier, units: int, views: int, canvas: int, seconds: float,
    tell: Callable[[str], object] = lambda _: None,
) -> list[Part]:  # fmt: skip
    """The parts of the engine, and all together, for one method and batch; medians of the rounds' ratios.

    Args:
        method: a preset.
        classifier: the network.
        units: of the batch.
        views: a unit and step.
        canvas: side of the canvas in pixels.
        seconds: a part takes about four times this, as a row does, but is timed in a few rounds at least; a round is
            a step with each part and one without it. Less than a second: in two rounds.
        tell: gets what is being timed, in words.
    """
    engine.prepare()
    made = generator(method, classifier, views, canvas)
    state = started(made, units_of(classifier, units))
    classifier.frozen()
    names = [*switch.PARTS, ALL]

    def a_round(which: str) -> dict[str, float]:
        saved = {}
        for name in names:
            tell(f"{method}, {which}, {name}")
            whole = timed(lambda: made.step(state), classifier.device)
            with without(name):
                alone = timed(lambda: made.step(state), classifier.device)
            saved[name] = 1 - whole / alone
        return saved

    a_round("warming up")  # compiles, and makes what is kept
    start = time.perf_counter()
    found = [a_round("round 1")]  # says how long the others will take
    wanted = 4 * seconds * len(names) / (time.perf_counter() - start)
    rounds = repeats(wanted) if seconds >= 1 else 2
    found += [a_round(f"round {number} of {rounds}") for number in range(2, rounds + 1)]
    return [
        Part(classifier.name, method, str(classifier.dtype).removeprefix("torch."), units, views, canvas, rounds, name,
             statistics.median(saved[name] for saved in found))
        for name in names
    ]  # fmt: skip
