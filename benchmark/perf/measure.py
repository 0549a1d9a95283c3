"""Timing: a network and a method in, milliseconds a view out, taken apart."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import timm
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmark.perf.record import Around, Timing
from benchmark.suites.methods import build
from benchmark.suites.suite import Suite
from featvis import engine
from featvis.engine.switch import without
from featvis.errors import UserError
from featvis.generators import Generator, passes
from featvis.generators.batches import Units
from featvis.generators.callbacks import ImageWriter, StepProgress
from featvis.generators.state import Optimisation
from featvis.networks.classifier import Classifier
from featvis.networks.devices import Precision
from featvis.networks.loading import load
from featvis.networks.names import resolve
from featvis.networks.units import Unit, parse_units
from featvis.networks.weights import locate

SIDE = 2048
"""Of the matrices that a machine is measured by."""
REPEATS = (3, 15)
"""Fewest and most timed rounds of a row."""


def repeats(wanted: float) -> int:
    """How many rounds to time where time allows so many."""
    return int(min(max(wanted, REPEATS[0]), REPEATS[1]))


def network(name: str, precision: Precision, device: torch.device) -> tuple[Classifier, bool]:
    """A network with its weights where they are on this machine, else with random ones: speed does not depend on them.

    Returns:
        The network, and whether its weights are random.
    """
    spec = resolve(name, "--models")
    try:
        here = locate(spec).path is not None
    except UserError:
        here = False
    if here:
        return load(name, precision, device, "--models"), False
    torch.manual_seed(0)
    try:
        net = timm.create_model(spec.name, pretrained=False, **spec.create_kwargs)
    except Exception as error:  # timm raises what it likes
        raise UserError(f"--models {name}: timm cannot build {spec.name} ({error})") from error
    return Classifier(net, spec, "random weights", precision).to(device), True


def generator(method: str, classifier: Classifier, views: int, canvas: int, steps: int = 1000) -> Generator:
    """A method with a network that is loaded already."""
    made, _, _ = build(
        method,
        {},
        Suite(model=classifier.alias, units="", methods={}),
        {"canvas": canvas, "views": views, "steps": steps},
    )
    made.classifier, made.precision = classifier, classifier.precision
    return made.to(classifier.device)


def units_of(classifier: Classifier, count: int) -> list[Unit]:
    """The first classes."""
    return parse_units(f"first:{count}", classifier)


def started(method: Generator, units: list[Unit]) -> Optimisation:
    """A batch before its first step."""
    method._objectives = {unit: method.objective(unit) for unit in units}
    return method.optimisation(units)


def as_shipped(classifier: Classifier) -> Callable[[Tensor], Tensor]:
    """timm's network with PyTorch's operations alone, which `Classifier.shipped` runs with our attention."""

    def through(x: Tensor) -> Tensor:
        with without("attention"):
            return classifier.shipped(x)

    return through


class Floor:
    """Forward and input gradient of a network for the views of one step, in the method's micro-batches; nothing else.

    Args:
        method: whose network, precision and micro-batches are taken.
        units: how many.
        shipped: take the network as timm ships it, its batch norms not folded, its attention PyTorch's.
    """

    def __init__(self, method: Generator, units: int, shipped: bool = False) -> None:
        classifier = method.load_classifier()
        self.network = as_shipped(classifier) if shipped else classifier
        self.inputs = [
            torch.rand((u.stop - u.start) * (v.stop - v.start), 3, *classifier.input_size, device=method.device)
            for u, v in method._chunks(units)
        ]

    def __call__(self) -> None:
        """One pass."""
        for x in self.inputs:
            x = x.detach().requires_grad_()
            torch.autograd.grad(self.network(x)[:, 0].sum(), x)


def gflop(classifier: Classifier) -> float:
    """10^9 products and sums of the matrix products and convolutions in a view's forward pass and input gradient."""
    x = torch.rand(1, classifier.channels, *classifier.input_size, device=classifier.device, requires_grad=True)
    # PyTorch counts none in a CPU's fused attention.
    with FlopCounterMode(display=False) as counted, sdpa_kernel(SDPBackend.MATH), without("attention"):
        torch.autograd.grad(classifier.shipped(x)[:, 0].sum(), x)
    return float(counted.get_total_flops()) / 1e9


class Matrices:
    """A large matrix product, of which a machine does as many operations a second as of anything.

    Args:
        dtype: of the factors.
        device: where they are.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.a, self.b = (torch.randn(SIDE, SIDE, device=device).to(dtype) for _ in range(2))

    def __call__(self) -> None:
        """One."""
        torch.mm(self.a, self.b)

    @staticmethod
    def rate(seconds: float) -> float:
        """10^9 products and sums a second."""
        return 2 * SIDE**3 / 1e9 / seconds


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of a call, the device's queue included."""
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


class Clock:
    """Adds up the seconds of each stage of a step."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds = device, dict[str, float]()

    def __call__(self, name: str) -> Clock._Stage:
        """A stage, for a with statement."""
        return Clock._Stage(self, name)

    class _Stage:
        def __init__(self, clock: Clock, name: str) -> None:
            self.clock, self.name = clock, name

        def _now(self) -> float:
            if self.clock.device.type == "cuda":
                torch.cuda.synchronize()
            return time.perf_counter()

        def __enter__(self) -> None:
            self.start = self._now()

        def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
            spent = self.clock.seconds
            spent[self.name] = spent.get(self.name, 0.0) + self._now() - self.start


@contextmanager
def stages(device: torch.device) -> Iterator[dict[str, float]]:
    """The seconds of each stage of the steps in the with block."""
    clock, kept = Clock(device), passes.stage
    passes.stage = clock
    try:
        yield clock.seconds
    finally:
        passes.stage = kept


def measure(
    method: str, classifier: Classifier, random: bool, units: int, views: int, canvas: int, seconds: float
) -> Timing | float:
    """One row of the table; or, where a round would take longer than `seconds`, the seconds that it would take."""
    engine.prepare()
    made = generator(method, classifier, views, canvas)
    device, count, once = classifier.device, units * views, Floor(made, 1)
    once()
    expected = timed(once, device) / sum(len(x) for x in once.inputs) * count
    if expected > seconds:
        return expected
    floor, shipped = Floor(made, units), Floor(made, units, True)
    state = started(made, units_of(classifier, units))
    made.step(state)
    floor()
    shipped()
    product = Matrices(classifier.dtype, device)
    product()
    whole, alone, unfolded, products = [], [], [], []
    rounds = repeats(3 * seconds / (3.4 * expected))
    for _ in range(rounds):
        whole.append(timed(lambda: made.step(state), device))
        alone.append(timed(floor, device))
        unfolded.append(timed(shipped, device))
        products.append(timed(product, device))
    with stages(device) as spent:
        few = max(2, rounds // 3)
        for _ in range(few):
            made.step(state)
    # The stages in proportion: taken one by one, they cost a GPU its queue.
    total = statistics.median(whole)
    scale = 1000 / count * total / sum(spent.values())
    return Timing(
        model=classifier.name,
        random_weights=random,
        method=method,
        precision=str(classifier.dtype).removeprefix("torch."),
        units=units,
        views=views,
        canvas=canvas,
        rounds=rounds,
        step_ms=1000 * total / count,
        network_ms=1000 * statistics.median(alone) / count,
        shipped_ms=1000 * statistics.median(unfolded) / count,
        overhead=statistics.median(a / b for a, b in zip(whole, alone, strict=True)),
        times_shipped=statistics.median(a / b for a, b in zip(whole, unfolded, strict=True)),
        stages_ms={name: value * scale for name, value in spent.items()},
        gflop=gflop(classifier),
        matrices=Matrices.rate(statistics.median(products)),
    )


def around(method: str, classifier: Classifier, canvas: int) -> Around:
    """What Lightning and the callbacks add to a step, and what writing an image takes, in milliseconds."""
    steps, count, spent = 400, 4, Clock(torch.device("cpu"))

    class Still(type(generator(method, classifier, 1, canvas))):  # type: ignore[misc]
        """The method without its steps: what is left is the Trainer and the callbacks."""

        def step(self, state: Optimisation) -> torch.Tensor:
            state.step += 1
            return state.scores[state.step - 1]

        def _on_canvas(self, canvas: torch.Tensor, units: list[Unit]) -> torch.Tensor:
            return torch.zeros(len(units))

    class Writer(ImageWriter):
        def write_on_batch_end(self, *args: Any, **kwargs: Any) -> None:
            with spent("writing"):
                super().write_on_batch_end(*args, **kwargs)

    made = Still(**{**generator(method, classifier, 1, canvas, steps)._arguments})
    made.classifier = classifier
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            accelerator="cpu" if classifier.device.type == "cpu" else "auto", devices=1, logger=False,
            enable_checkpointing=False, enable_model_summary=False, inference_mode=False,
            callbacks=[Writer(str(Path(folder) / "x")), StepProgress()],
        )  # fmt: skip
        data = Units(f"first:{count}", batch_size=count)
        whole = timed(lambda: trainer.predict(made, datamodule=data, return_predictions=False), classifier.device)
    return Around(
        canvas=canvas,
        lightning_ms_a_step=1000 * (whole - spent.seconds["writing"]) / steps,
        writing_ms_an_image=1000 * spent.seconds["writing"] / count,
    )


def check(models: Sequence[str], methods: Sequence[str], canvas: int) -> None:
    """Raise a UserError for a network or a method that is not known, before anything is timed."""
    for name in models:
        resolve(name, "--models")
    for method in methods:
        build(method, {}, Suite(model=models[0], units="", methods={}), {"canvas": canvas, "views": 1, "steps": 1})
