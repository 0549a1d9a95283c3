"""Feature accentuation, end to end: images and units in; canvases, a record, a figure and a page out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmark.records.record import Measurement
from benchmark.report.montage import Panel, Strip
from benchmark.running.produce import folder_of, of_images, produce
from benchmark.studies.means import mean_of
from benchmark.studies.photographs import activation, canvas, found_in, publish, strip
from featvis.data.files import as_seen
from featvis.generators.rivals.accentuation import Accentuated, Accentuation, units_of
from featvis.networks.classifier import Classifier
from featvis.networks.devices import default_device
from featvis.networks.objectives import LOGITS
from featvis.networks.units import Unit

SUITE = "accentuate"


def find(images: Path, units: Sequence[Unit], limit: int | None, network: Classifier) -> list[Unit]:
    """Each unit in each image, checked.

    Raises:
        UserError: for a folder without an image, or a file that is none.
    """
    return units_of(found_in(images).paths[:limit], units, network.channels)


def run(made: Accentuation, units: Sequence[Unit], batch_size: int, out: Path, command: str) -> int:
    """Make what is missing, the record, the figure and the page; 1 where an image failed."""
    network = made.load_classifier()
    folder = folder_of(made, out, made.mode)
    failed = produce(made, units, folder, batch_size)
    network.to(default_device())
    done = [u for u in units if isinstance(u, Accentuated) and u.id not in failed]
    # What another machine, whose networks compute in another precision, reads off the same files.
    measuring = network.in_precision("float32")
    before = {u.id: activation(measuring, u, as_seen(u.path, network.input_size, network.channels)) for u in done}
    after = {u.id: activation(measuring, u, canvas(folder / f"{u.id}.png", network)) for u in done}
    # A caricature is of no unit.
    layers = list(dict.fromkeys(u.layer for u in done)) if made.mode == "accentuate" else []
    metrics = [_measure(layer, [u for u in done if u.layer == layer], after) for layer in layers]
    record = of_images(made, units, failed, metrics, out, suite=SUITE, method=made.mode, command=command)
    record.write(record.record_path(out))
    strips = []
    for unit in done:
        rise = f", {unit.label}: {before[unit.id]:.2f} to {after[unit.id]:.2f}" if layers else ""
        said = f"{unit.path.stem}{rise}"
        print(f"{network.alias} {said}")
        strips.append(strip(said, unit, folder / f"{unit.id}.png", made.mode, out, network))
    report(made, strips, out)
    return 1 if failed else 0


def _measure(layer: str, units: Sequence[Accentuated], reached: Mapping[str, float]) -> Measurement:
    text = "The unit's activation on the whole canvas, as read back from its file; mean over units and images."
    shown = "logit" if layer == LOGITS else layer
    # Several units in one photograph go together.
    return mean_of(
        f"activation_{layer}", [reached[u.id] for u in units], {"text": text, "layer": layer}, shown,
        groups=[str(u.path) for u in units],
    )  # fmt: skip


def report(made: Accentuation, strips: Sequence[Strip], out: Path) -> None:
    """Image, canvas, transparency and both, side by side, with the activation before and after."""
    network = made.load_classifier()
    panels = [Panel(f"{network.alias}, kept near the image at {made.layer()}", tuple(strips))]
    publish(
        out,
        f"{made.mode}-{network.alias}",
        "Feature accentuation",
        "What of an image excites a unit, brought out in the image itself. Beside each name: the unit's activation "
        "for the image and for the canvas.",
        "Image, canvas, transparency, both (Hamblin et al. 2024).",
        panels,
    )
