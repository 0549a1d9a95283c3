"""What a step costs beside the network's own forward and input gradient: `python -m benchmark.speed`.

Both are timed in one process, in turn, and compared by the ratio of their medians, because a machine's speed drifts.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from jsonargparse import auto_cli

from benchmark.suite import Suite, build
from featvis.data import parse_units
from featvis.models import default_device


def measure(
    model: str = "efficientnet_lite0", units: str = "first:5", canvas: int = 256, views: int = 4, repeats: int = 7
) -> None:
    """Print, for each method, milliseconds a view for a whole step, for the network alone, and their ratio.

    Args:
        model: network, as in `featvis run`.
        units: optimised together.
        canvas: side of the canvas in pixels.
        views: views a step.
        repeats: timed steps.
    """
    device = default_device()
    suite = Suite(model=model, units=units, methods={})
    print(
        f"ms a view, medians of {repeats}; folded: the network with its batch norms folded; as shipped: as timm runs it"
    )
    print(f"{'method':22}{'step':>10}{'folded':>10}{'ratio':>8}{'as shipped':>13}{'ratio':>8}")
    for method in ("maco_coarse_to_fine", "fourier", "fourier_lucid", "cbr"):
        generator, _, _ = build(method, {}, suite, {"canvas": canvas, "views": views, "steps": 1})
        generator.to(device)
        classifier = generator.load_classifier()
        batch = parse_units(units, classifier)
        count = len(batch) * views
        limit = generator.micro_batch or (8 if device.type == "cpu" else 128)
        size = max(views, limit // views * views)
        inputs = [
            torch.rand(min(size, count - i), 3, *classifier.input_size, device=device) for i in range(0, count, size)
        ]

        step, folded, shipped = [], [], []
        for i in range(repeats + 1):
            # One step is the difference of two and one, so that what happens once an image does not count.
            generator.steps = 1
            one = timed(lambda: generator.predict_step(batch), device)  # noqa: B023
            generator.steps = 3
            three = timed(lambda: generator.predict_step(batch), device)  # noqa: B023
            if i:
                step.append((three - one) / 2)
                folded.append(timed(lambda: alone(classifier, inputs), device))  # noqa: B023
                shipped.append(timed(lambda: alone(classifier.shipped, inputs), device))  # noqa: B023
        a, b, c = (statistics.median(times) / count * 1000 for times in (step, folded, shipped))
        print(f"{method:22}{a:10.2f}{b:10.2f}{a / b:8.2f}{c:13.2f}{a / c:8.2f}")


def alone(network: Callable[[torch.Tensor], torch.Tensor], inputs: list[torch.Tensor]) -> None:
    """Forward and input gradient of a network, and nothing else."""
    for x in inputs:
        x = x.detach().requires_grad_()
        torch.autograd.grad(network(x)[:, 0].sum(), x)


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of a call, the device's queue included."""
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    auto_cli(measure)
