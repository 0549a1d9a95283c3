"""Other libraries' MACO on our work: `horama` and `dreamlens`, from a folder of their own (`make perf-peers`).

They share our process and our torch, and take turns with our generators, a step of each at a time. Each runs as its
documentation shows it; with timm's network frozen, in channels_last and under autocast, which is what anyone can do;
and with our network, so that no one can say that it was held back.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import importlib.metadata
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
import torch
from lightning import seed_everything
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from benchmark.perf.measure import as_shipped, generator, started, timed, units_of
from benchmark.perf.peers_record import PeerPictures, PeerTiming
from benchmark.report.montage import Panel, Strip, Tile, draw
from featvis.data.reference import read_spectrum
from featvis.errors import UserError
from featvis.metrics import LogitMagnitude, Transferability
from featvis.networks.classifier import Classifier
from featvis.networks.units import Unit, classes_of
from featvis.storage.images import write_atomic

LIBRARIES = ("horama", "dreamlens")
OURS = ("maco", "maco_coarse_to_fine")
DOCUMENTED, TUNED, HELPED = "as documented", "tuned", "with our network"
UNITS = 8
"""That we optimise together; the others take one at a time."""


@dataclass(frozen=True)
class Peer:
    """Another library in one way of running it.

    Attributes:
        library: its name.
        version: of the package.
        how: `DOCUMENTED`, `TUNED` or `HELPED`.
        network: the one that it was given, in words.
        draw: a class and a number of steps to a canvas (3, H, W) in [0, 1].
    """

    library: str
    version: str
    how: str
    network: str
    draw: Callable[[int, int], Tensor]


class _Visible(nn.Module):
    """A network as a part of a module, with a last layer that puts out the logits of `run`, for hooks."""

    def __init__(self, network: nn.Module, run: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.network, self.logits, self.run = network, nn.Identity(), run

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.logits(self.run(x)))


def find(folder: Path) -> dict[str, ModuleType]:
    """The libraries, from the folder that `make perf-peers` fills.

    Raises:
        UserError: when one cannot be imported.
    """
    found = {}
    sys.path.append(str(folder))
    for name in LIBRARIES:
        try:
            found[name] = importlib.import_module(name)
        except ImportError as error:
            raise UserError(
                f"--folder {folder}: {name} cannot be imported ({error}); `make perf-peers` installs it"
            ) from error
    return found


def peers(folder: Path, classifier: Classifier, views: int, canvas: int) -> list[Peer]:
    """Each library in each way of running it, on the work of `views` views of a canvas.

    Raises:
        UserError: when one cannot be imported.
    """
    modules = find(folder)
    versions = {name: importlib.metadata.version(name) for name in modules}
    plain = copy.deepcopy(classifier.net).to(memory_format=torch.contiguous_format).requires_grad_(True)
    mean, std = classifier.mean, classifier.std

    def normalise(x: Tensor) -> Tensor:
        return (x - mean) / std

    dtype = str(classifier.dtype).removeprefix("torch.")
    networks = {
        DOCUMENTED: "as timm ships it, float32",
        TUNED: f"as timm ships it, frozen, channels_last, autocast to {dtype}",
        HELPED: f"ours, {dtype}",
    }
    horama = partial(_horama, modules["horama"], views, canvas, classifier.input_size[0], classifier.device)
    dreamlens = partial(_dreamlens, modules["dreamlens"], views, canvas, classifier.input_size)
    draws: dict[tuple[str, str], Callable[[int, int], Tensor]] = {
        ("horama", DOCUMENTED): partial(horama, lambda x: plain(normalise(x))),
        ("horama", TUNED): partial(horama, as_shipped(classifier)),
        ("horama", HELPED): partial(horama, classifier),
        ("dreamlens", DOCUMENTED): partial(dreamlens, plain, normalise),
        ("dreamlens", TUNED): partial(dreamlens, _Visible(classifier.net, as_shipped(classifier)), _as_it_is),
        ("dreamlens", HELPED): partial(dreamlens, _Visible(classifier.net, classifier.forward), _as_it_is),
    }
    return [Peer(library, versions[library], how, networks[how], draw) for (library, how), draw in draws.items()]


def _as_it_is(x: Tensor) -> Tensor:
    """For networks that take RGB in [0, 1]."""
    return x


def _horama(
    module: ModuleType, views: int, canvas: int, side: int, device: torch.device,
    network: Callable[[Tensor], Tensor], label: int, steps: int,
) -> Tensor:  # fmt: skip
    # It would download its magnitude, unless that lies in the current folder; the canvas is standardised, so that of
    # the embedded spectrum may stand in for it.
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        np.save("spectrum_decorrelated.npy", read_spectrum()["magnitude"].numpy())
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
            image, _ = module.maco(
                lambda images: network(images)[:, label].mean(), total_steps=steps, learning_rate=1.0,
                image_size=canvas, model_input_size=side, noise=0.05 / 5, values_range=(0.0, 1.0),
                crops_per_iteration=views, device=device,
            )  # fmt: skip
    return image.detach()


def _dreamlens(
    module: ModuleType, views: int, canvas: int, size: tuple[int, int], network: nn.Module,
    normalise: Callable[[Tensor], Tensor], label: int, steps: int,
) -> Tensor:  # fmt: skip
    # Without a preprocess of ours it would apply ImageNet's mean and deviation, whatever the network's are.
    visualizer = module.FeatureVisualizer(network, preprocess=normalise)
    config = module.MacoConfig(width=canvas, height=canvas, input_shape=(3, *size), steps=steps, crops=views)
    image: Any = visualizer.maco(module.FeatureTarget.for_class(label), config).image
    return torch.as_tensor(image).squeeze(0).detach()


def time_steps(classifier: Classifier, others: Sequence[Peer], units: list[Unit], views: int, canvas: int, steps: int,
               rounds: int) -> list[PeerTiming]:  # fmt: skip
    """Milliseconds a view of a step: ours for `UNITS` units and for one, theirs for one, in turn.

    A peer's step is the difference between a run of `steps` + 1 steps and one of a single step, so that what happens
    once an image does not count against it.
    """
    device, label = classifier.device, classes_of([units[0].id])[0]
    rows: list[tuple[str, str, str, int]] = []
    ours = f"ours, {str(classifier.dtype).removeprefix('torch.')}"
    works: list[Callable[[], float]] = []
    for method in OURS:
        for count in (UNITS, 1):
            made = generator(method, classifier, views, canvas, steps * (rounds + 1))
            state = started(made, units_of(classifier, count))
            rows.append(("featvis", method, ours, count))
            works.append(partial(_our_step, made, state, steps, device))
    for peer in others:
        rows.append((f"{peer.library} {peer.version}", peer.how, peer.network, 1))
        works.append(partial(_their_step, peer, label, steps, device))
    for work in works:
        work()
    taken: list[list[float]] = [[] for _ in works]
    for _ in tqdm(range(rounds), desc="steps, in turn", unit="round"):
        for times, work, (*_, count) in zip(taken, works, rows, strict=True):
            times.append(1000 * work() / (count * views))
    return [
        PeerTiming(
            library, how, network, count, statistics.median(times),
            statistics.median(a / b for a, b in zip(times, taken[0], strict=True)),
        )
        for (library, how, network, count), times in zip(rows, taken, strict=True)
    ]  # fmt: skip


def _our_step(made: Any, state: Any, steps: int, device: torch.device) -> float:
    def work() -> None:
        for _ in range(steps):
            made.step(state)

    return timed(work, device) / steps


def _their_step(peer: Peer, label: int, steps: int, device: torch.device) -> float:
    one = timed(lambda: peer.draw(label, 1), device)
    return (timed(lambda: peer.draw(label, steps + 1), device) - one) / steps


@torch.no_grad()
def score(
    canvases: Tensor, labels: Tensor, target: Classifier, judges: Sequence[Classifier]
) -> dict[str, dict[str, Any]]:
    """The scores of canvases (N, 3, H, W) in [0, 1], as `featvis run` defines them: logit, and top-1 a judge."""
    logit = LogitMagnitude()
    logit.update(target.shipped(target.preprocess(canvases)).cpu(), labels)
    found = {"logit": logit.result()}
    for judge in (target, *judges):
        top1 = Transferability(judge.name)
        top1.update(judge.shipped(judge.preprocess(canvases)).cpu(), labels)
        found[f"top-1 {judge.alias}"] = top1.result()
    return found


def pictures(
    classifier: Classifier, others: Sequence[Peer], units: list[Unit], views: int, canvas: int, steps: int,
    target: Classifier, judges: Sequence[Classifier], out: Path,
) -> tuple[list[PeerPictures], Path]:  # fmt: skip
    """Every library's pictures of the same units with as many steps and crops, their scores, and a contact sheet."""
    labels = torch.tensor(classes_of(u.id for u in units), dtype=torch.long)
    makers: list[tuple[str, Callable[[], Iterator[Tensor]]]] = [
        (f"featvis {method}", partial(_our_pictures, method, classifier, units, views, canvas, steps))
        for method in OURS
    ]
    makers += [
        (f"{p.library} {p.version}", partial(_their_pictures, p, labels.tolist(), steps))
        for p in others
        if p.how == HELPED
    ]
    rows, strips = [], []
    with tqdm(total=len(makers) * len(units), desc="pictures", unit="image") as bar:
        for name, maker in makers:
            start, drawn, tiles = time.perf_counter(), [], []
            for i, image in enumerate(maker()):
                # Scored as it is saved: in 8 bits.
                pixels = image.mul(255).round().clamp(0, 255).to(torch.uint8).cpu()
                drawn.append(pixels)
                path = out / "pictures" / name.replace(" ", "-") / f"{labels[i]}.png"
                buffer = io.BytesIO()
                Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(buffer, "PNG")
                write_atomic(path, buffer.getvalue())
                tiles.append(Tile(path, classifier.labels[labels[i]]))
                bar.update()
            seconds = (time.perf_counter() - start) / len(units)
            scores = score(torch.stack(drawn).float().div(255).to(target.device), labels, target, judges)
            rows.append(PeerPictures(name, steps, views, canvas, len(units), seconds, scores))
            strips.append(Strip(name, tuple(tiles)))
    title = f"{steps} steps of {views} crops, canvas {canvas}, {classifier.alias}"
    return rows, draw([Panel(title, tuple(strips))], out / "peers.png")


def _our_pictures(
    method: str, classifier: Classifier, units: list[Unit], views: int, canvas: int, steps: int
) -> Iterator[Tensor]:
    made = generator(method, classifier, views, canvas, steps)
    for start in range(0, len(units), UNITS):
        yield from made.predict_step(units[start : start + UNITS]).canvas


def _their_pictures(peer: Peer, labels: Sequence[int], steps: int) -> Iterator[Tensor]:
    for label in labels:
        seed_everything(label, verbose=False)  # dreamlens draws its phases from NumPy
        yield peer.draw(label, steps)
