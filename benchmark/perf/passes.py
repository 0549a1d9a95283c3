"""What passes over real images cost, and a network's convolutions: `python -m benchmark.perf.passes`.

What is compared is timed in one process, in turn, and compared by the ratio of the medians, because a machine's speed
drifts.
"""

from __future__ import annotations

import resource
import statistics
import tempfile
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jsonargparse import auto_cli
from safetensors import safe_open
from safetensors.torch import save_file
from tabulate import tabulate
from torch.nn import Module
from torch.utils.data import DataLoader
from tqdm import tqdm

from benchmark import launch
from benchmark.perf.measure import network, timed
from featvis import engine
from featvis.data import sweep
from featvis.data.reference import CHUNK, IMAGENET_IMAGES, BankJob
from featvis.data.sets import ImageSet, open_images
from featvis.engine.convolutions import FrozenChain, FrozenConv2d
from featvis.engine.fold import fold_batch_norms
from featvis.metrics import deep_knn
from featvis.networks.classifier import Classifier
from featvis.networks.devices import default_device
from featvis.networks.loading import load


def reference(
    data: str, model: str = "efficientnet_lite0", workers: int = 2, repeats: int = 3, images: int = 1000
) -> None:
    """Print images a second of the extraction of features, of the bare network with the same workers, and the memory.

    Args:
        data: real images, as in `featvis run`.
        model: network.
        workers: processes that read and decode, for both.
        repeats: timed passes of each.
        images: of the data that are used.
    """
    launch.quiet()
    classifier = load(model, "float32", default_device())
    source = open_images(data, classifier)
    rows = range(min(images, len(source)))
    passes: dict[str, list[float]] = {"extraction": [], "bare network": []}
    peaks = []
    for i in range(repeats):
        for count in (len(rows) // 2, len(rows)) if i == 0 else (len(rows),):
            job, todo = BankJob(classifier), sweep.chunks(rows[:count], CHUNK)
            with tempfile.TemporaryDirectory() as folder:
                seconds = timed(lambda: sweep.run(source, job, todo, Path(folder), workers=workers), classifier.device)  # noqa: B023
            peaks.append((count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))
        passes["extraction"].append(len(rows) / seconds)
        passes["bare network"].append(
            len(rows) / timed(lambda: bare(source, classifier, rows, workers), classifier.device)
        )
    medians = {name: statistics.median(rates) for name, rates in passes.items()}
    for name, rates in passes.items():
        print(f"{name:13} {medians[name]:7.1f} images a second (all: {', '.join(f'{r:.1f}' for r in rates)})")
    ratio = statistics.median(a / b for a, b in zip(passes["extraction"], passes["bare network"], strict=True))
    print(f"ratio         {ratio:7.2f} (median of the ratios of neighbouring passes)")
    print("peak memory   " + ", ".join(f"{mb:.0f} MB after {count} images" for count, mb in peaks[:2]))


@torch.no_grad()
def bare(source: ImageSet, classifier: Classifier, rows: Sequence[int], workers: int) -> None:
    """Read the images and run the network's forward pass, and nothing else."""
    batches = sweep.Batches(source, classifier.input_size, sweep.chunks(rows, CHUNK), sweep.BATCH)
    for batch in DataLoader(batches, batch_size=None, num_workers=workers, collate_fn=sweep.as_is):
        classifier.shipped(batch.views.to(classifier.device).float().div_(255))


def neighbours(
    images: int = IMAGENET_IMAGES, width: int = 768, queries: int = 500, k: int = 1000, folder: str | None = None
) -> None:
    """Print the time and the memory of the Deep-KNN search of a synthetic float16 bank, mapped into memory.

    Args:
        images: in the bank.
        width: of their features.
        queries: visualizations.
        k: which neighbour (Sun et al. 2022 take 1000 for all of ImageNet).
        folder: for the bank's files; default: a temporary one.
    """
    with tempfile.TemporaryDirectory(dir=folder) as place:
        generator = torch.Generator().manual_seed(0)
        blocks = []
        for i, start in enumerate(range(0, images, 2**16)):
            rows = torch.randn(min(2**16, images - start), width, generator=generator).half()
            path = Path(place) / f"{i:05d}.safetensors"
            save_file({"features": rows}, path)
            with safe_open(path, framework="pt") as file:
                blocks.append(file.get_tensor("features"))
        sought = torch.randn(queries, width, generator=generator)
        stop, peak = threading.Event(), [anonymous_memory()]
        before = peak[0]

        def watch() -> None:
            while not stop.wait(0.05):
                peak[0] = max(peak[0], anonymous_memory())

        watcher = threading.Thread(target=watch)
        watcher.start()
        seconds = timed(lambda: deep_knn(sought, blocks, k), torch.device("cpu"))
        stop.set()
        watcher.join()
        size = sum(b.numel() * 2 for b in blocks) / 2**30
        above = (peak[0] - before) / 2**30
        print(f"{queries} queries, neighbour {k} in a bank of {images} x {width} float16 ({size:.2f} GB)")
        print(f"{seconds:.1f} s, {above:.2f} GB of memory above the bank")


def convolutions(model: str = "efficientnet_lite0", views: int = 8, repeats: int = 9) -> None:
    """Print, for each convolution of a network, the time of its input's gradient in PyTorch and in ours.

    Args:
        model: network; without its weights, with random ones.
        views: in a batch.
        repeats: timed calls of each, in turn; their medians are printed.
    """
    launch.quiet()
    engine.prepare()
    classifier, _ = network(model, "auto", default_device())
    x = torch.rand(views, 3, *classifier.input_size, device=classifier.device)
    inputs: dict[str, list[tuple[FrozenConv2d, torch.Size]]] = {}

    def seen(module: Module, args: Any) -> None:
        assert isinstance(module, FrozenConv2d)
        height, width = args[0].shape[2:]
        (down, across), (s, _) = module.kernel_size, module.stride
        name = (
            f"{module.in_channels} to {module.out_channels} in {module.groups}, {height}x{width}, {down}x{across}/{s}"
        )
        name += {None: "", 6.0: ", ReLU6"}.get(module.bound, ", ReLU")
        inputs.setdefault(name, []).append((module, args[0].shape))

    def one_by_one(module: Module, args: Any) -> None:
        x = args[0]
        for conv in module.children():
            for each in conv.children():
                x = each(x)

    # As a step has it; a classifier hands no such network out.
    net = fold_batch_norms(classifier.net, x[:1], freeze=classifier.reentrant)
    net = classifier.frozen() if net is None else net.to(classifier.dtype)
    modules = list(net.modules())
    handles = [m.register_forward_pre_hook(seen) for m in modules if isinstance(m, FrozenConv2d)]
    # A chain does not call its convolutions as modules.
    handles += [m.register_forward_pre_hook(one_by_one) for m in modules if isinstance(m, FrozenChain)]
    with torch.no_grad(), torch.autocast(x.device.type, classifier.dtype, enabled=classifier.dtype != torch.float32):
        net(x)
    for handle in handles:
        handle.remove()
    rows = []
    for name, calls in tqdm(inputs.items(), unit="convolution"):
        conv, shape = calls[0]
        given = torch.rand(shape, device=x.device).to(classifier.dtype, memory_format=torch.channels_last)
        given.requires_grad_()
        with torch.autocast(x.device.type, classifier.dtype, enabled=classifier.dtype != torch.float32):
            ways = [(y, torch.randn_like(y)) for y in (conv.plain(given), conv(given))]
        taken: list[list[float]] = [[], []]
        for _ in range(repeats + 1):
            for times, (y, gradient) in zip(taken, ways, strict=True):
                work = partial(torch.autograd.grad, y, given, gradient, retain_graph=True)
                times.append(1000 * timed(work, x.device) / views)
        theirs, ours = (statistics.median(times[1:]) for times in taken)
        rows.append((len(calls) * theirs, [name, len(calls), f"{theirs:.3f}", f"{ours:.3f}", f"{theirs / ours:.1f}"]))
    print(f"{classifier.name}, {classifier.dtype}, {views} views: milliseconds a view of one input gradient")
    head = ["channels in groups, input, kernel/stride", "how many", "PyTorch", "ours", "times"]
    print(tabulate([row for _, row in sorted(rows, reverse=True)], head, tablefmt="pipe", disable_numparse=True))


def anonymous_memory() -> int:
    """Bytes of this process's memory that are no mapped file; Linux only."""
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(text.split("RssAnon:")[1].split()[0]) * 1024


if __name__ == "__main__":
    auto_cli({"reference": reference, "neighbours": neighbours, "convolutions": convolutions})
