"""Feature inversion, end to end: images and layers in; canvases, a record a layer, a figure and a page out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F

from benchmark.records.record import Measurement
from benchmark.report.montage import Panel
from benchmark.running.produce import folder_of, of_images, produce
from benchmark.studies.means import mean_of
from benchmark.studies.photographs import canvas, found_in, publish, strip
from featvis.data.files import as_seen
from featvis.errors import UserError
from featvis.generators.inversion import Inversion, Inverted, units_of
from featvis.networks.classifier import Classifier
from featvis.networks.devices import default_device
from featvis.networks.features import grey
from featvis.networks.layers import stages, tap
from featvis.networks.units import Unit

SUITE = "invert"


def find(network: Classifier, layers: Sequence[str], images: Path, limit: int | None) -> tuple[list[str], list[Path]]:
    """The layers and the images, checked.

    Raises:
        UserError: for an unknown layer, or a folder or file without an image.
    """
    names = list(layers)
    if not names:
        blocks = stages(network.measured(), 5)
        if not blocks:
            raise UserError(f"{network.alias} has no layer with positions; name one with --layer")
        names = list(dict.fromkeys((blocks[min(1, len(blocks) - 1)], blocks[-1])))
    paths = found_in(images).paths[:limit]
    units_of(paths, names, network)
    return names, paths


def run(made: Inversion, layers: Sequence[str], paths: Sequence[Path], batch_size: int, out: Path, command: str) -> int:
    """Make what is missing, the record of each layer, the figure and the page; 1 where an image failed."""
    network = made.load_classifier()
    units = units_of(paths, layers, network)
    folder = folder_of(made, out, made.domain)
    failed = produce(made, units, folder, batch_size)
    # Lightning takes the network off its device at the end.
    network.to(default_device())
    made.to(default_device())
    # What another machine, whose networks compute in another precision, reads off the same files.
    measuring = network.in_precision("float32")
    reached = {u.id: agreement(measuring, u, folder / f"{u.id}.png") for u in units if u.id not in failed}
    metrics = [
        _measure(layer, [reached[u.id] for u in units if u.layer == layer and u.id in reached]) for layer in layers
    ]
    record = of_images(made, units, failed, metrics, out, suite=SUITE, method=made.domain, command=command)
    record.write(record.record_path(out))
    for metric in metrics:
        said = "no image" if metric.value is None else f"cosine {metric.value:.3f} over {metric.n} images"
        print(f"{network.alias} {metric.label}: {said}")
    report(network, layers, units, reached, folder, out)
    return 1 if failed else 0


@torch.no_grad()
def agreement(network: Classifier, unit: Unit, path: Path) -> float:
    """The cosine of a layer's activations for the canvas, as read back from its file, and for the image."""
    assert isinstance(unit, Inverted)
    seen = grey(canvas(path, network)[None], network.channels)
    image = as_seen(unit.path, network.input_size, network.channels)[None].to(network.device)
    everywhere = tap(unit.layer, ":")
    found = network.activations(torch.cat([seen, image]), frozenset({everywhere}))[everywhere].flatten(1)
    return float(F.cosine_similarity(found[0], found[1], dim=0))


def _measure(layer: str, values: Sequence[float]) -> Measurement:
    text = f"Cosine of the activations of {layer}, all positions and channels, for the canvas (its file) and the image."
    return mean_of(f"cosine_{layer}", values, {"text": text, "layer": layer}, layer)


def report(
    network: Classifier,
    layers: Sequence[str],
    units: Sequence[Unit],
    reached: dict[str, float],
    folder: Path,
    out: Path,
) -> None:
    """The four columns of Fel et al. 2023, figure 6a, for each layer: image, canvas, transparency, both."""
    panels = []
    for layer in layers:
        strips = []
        for unit in units:
            if not isinstance(unit, Inverted) or unit.layer != layer:
                continue
            said = f", cosine {reached[unit.id]:.3f}" if unit.id in reached else ""
            file = folder / f"{unit.id}.png"
            strips.append(strip(f"{unit.path.stem}{said}", unit, file, "inversion", out, network))
        panels.append(Panel(f"{network.alias}, {layer}", tuple(strips)))
    publish(
        out,
        f"inversion-{network.alias}",
        "Feature inversion",
        "What a layer keeps of an image: a canvas that does to the layer what the image does. What the canvas has "
        "lost, the layer does not see.",
        "Image, inversion, transparency, both (Fel et al. 2023, figure 6a).",
        panels,
    )
