"""What each part of the engine buys: a method's step with it and without it, in turn."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import contextmanager

from benchmark.perf.measure import generator, started, timed, units_of
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


def parts(method: str, classifier: Classifier, units: int, views: int, canvas: int, rounds: int) -> list[Part]:
    """The parts of the engine, and all together, for one method and batch; medians of the rounds' ratios.

    Args:
        method: a preset.
        classifier: the network.
        units: of the batch.
        views: a unit and step.
        canvas: side of the canvas in pixels.
        rounds: in which a step is made with each part and without it.
    """
    engine.prepare()
    made = generator(method, classifier, views, canvas)
    state = started(made, units_of(classifier, units))
    classifier.frozen()
    names, saved = [*switch.PARTS, ALL], dict[str, list[float]]()
    for number in range(rounds + 1):
        for name in names:
            whole = timed(lambda: made.step(state), classifier.device)
            with without(name):
                alone = timed(lambda: made.step(state), classifier.device)
            if number:  # the first round compiles, and makes what is kept
                saved.setdefault(name, []).append(1 - whole / alone)
    return [
        Part(classifier.name, method, str(classifier.dtype).removeprefix("torch."), units, views, canvas, rounds, name,
             statistics.median(values))
        for name, values in saved.items()
    ]  # fmt: skip
