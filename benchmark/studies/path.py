"""The path curve of a run: its pictures and photographs of their classes in, a table and a figure a network out.

A diagnostic, not a column: it says where in a network visualizations are taken as photographs of their class are, and
where not (Geirhos et al. 2023).
"""

from __future__ import annotations

import itertools
import math
import random
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import torch
from jaxtyping import Float64
from torch import Tensor
from tqdm import tqdm

from benchmark.records.record import Record, load_all
from benchmark.report.agreement import agreements
from benchmark.report.gallery import build_page
from benchmark.report.paths import curves
from benchmark.report.tables.numbers import by_model
from benchmark.scoring.pictures import pictures_of
from featvis.data.files import fit, to_tensor
from featvis.data.sets import ImageSet, open_images
from featvis.errors import UserError
from featvis.intervals import expanded
from featvis.metrics import bootstrap
from featvis.metrics.functional.path import class_sums, path_gaps, ratio
from featvis.metrics.resampling import Statistic
from featvis.networks.classifier import Classifier
from featvis.networks.devices import default_device
from featvis.networks.layers import stages
from featvis.networks.loading import load
from featvis.networks.objectives import LOGITS
from featvis.networks.units import class_of, classes_of
from featvis.storage.images import write_atomic

BATCH = 16
MOST_LAYERS = 12


@dataclass
class Photographs:
    """What the curve needs of them, layer by layer.

    Attributes:
        classes: which.
        sums: (classes, width) a layer.
        counts: (classes,) a layer.
    """

    classes: Tensor
    sums: dict[str, Float64[Tensor, "k d"]] = field(default_factory=dict)
    counts: dict[str, Float64[Tensor, " k"]] = field(default_factory=dict)

    def add(self, layer: str, found: Tensor, labels: Tensor) -> None:
        """A batch's activations."""
        sums, counts = class_sums(found, labels, self.classes)
        self.sums[layer] = sums + self.sums.get(layer, 0.0)
        self.counts[layer] = counts + self.counts.get(layer, 0.0)


def run(folder: Path, data: str, layers: Sequence[str], each: int, out: Path, model: str | None = None) -> None:
    """Write the curves of a run's rows, and print where they are.

    Args:
        folder: of the run.
        data: the photographs, as `featvis run --data` takes them; of several splits the held-out one.
        layers: by name; empty: up to `MOST_LAYERS` blocks from early to late, and the logits.
        each: at most so many photographs of a class.
        out: where `tables/` and `figures/` go.
        model: where the `wrap:FILE` of the records lies here.

    Raises:
        UserError: for a run without pictures of classes, data without two photographs of any of them, or an unknown
            layer.
    """
    found = load_all(folder / "records")
    groups = by_model(found)
    shown = [(g, rows) for g in groups if (rows := [r for r in g if _pictured(folder, r)])]
    if not shown:
        raise UserError(f"RUN {folder} holds no pictures of classes, which photographs could be compared with")
    written = []
    for group, rows in shown:
        first = group[0]
        given = model if model and first.given else first.given
        network = load(given or first.alias, "float32", default_device())
        names = list(layers) or [*blocks(network), LOGITS]
        for name in names:
            network.layer(name)
        classes = classes_of(unit for record in rows for unit in record.units)
        natural = photographs(network, open_images(data, network, "frechet"), classes, names, each)
        points = [p for record in rows for p in curve(network, folder, record, natural, names)]
        facts = {"suite": first.suite, "model": first.model, "alias": first.alias}
        frame = pd.DataFrame([facts | point for point in points])
        table = out / "tables" / first.suite / f"{first.alias}_path.csv"
        write_atomic(table, frame.to_csv(index=False, lineterminator="\n").encode())
        name = "path" if len(shown) == 1 else f"path-{first.suite}-{first.alias}"
        title = f"{first.alias}, suite {first.suite}: the path of photographs"
        written += [table, curves(frame, out / "figures" / f"{name}.png", title)]
        print(_text(frame))
    if out == folder and (folder / "index.html").is_file():
        # The run's page shows what lies in its folder of figures.
        written.append(build_page(found, folder, agreements(found)))
    print("\n".join(map(str, written)))


def blocks(network: Classifier) -> list[str]:
    """The blocks of a network, or some of them, evenly spaced; where it has none, layers from early to late."""
    measured = network.measured()
    for count in range(MOST_LAYERS, 2, -1):
        names = stages(measured, count)
        if all(name.rpartition(".")[2].isdecimal() for name in names):
            return names
    return stages(measured, MOST_LAYERS)


def _pictured(folder: Path, record: Record) -> bool:
    return (
        record.images is not None
        and record.status == "done"
        and bool(classes_of(record.units))
        and (folder / record.images).is_dir()
    )


def photographs(
    network: Classifier, source: ImageSet, classes: Sequence[int], layers: Sequence[str], each: int
) -> Photographs:
    """The photographs of some classes as the network's layers have them; one that cannot be read is told and left out.

    Raises:
        UserError: when no class has two of them, or only one class has any.
    """
    found = Photographs(torch.tensor(sorted(classes), device=network.device))
    rows = {label: source.rows.get(label, []) for label in sorted(classes)}
    _check_enough(source, [len(r) for r in rows.values()])
    # Not the first ones: files are often sorted by what they show.
    drawn = [(i, label) for label, r in rows.items() for i in random.Random(label).sample(r, min(each, len(r)))]
    bar = tqdm(total=len(drawn), desc=f"photographs in {network.alias}", unit="image")
    for batch in _batches(drawn):
        views, known = [], []
        for i, label in batch:
            try:
                views.append(to_tensor(fit(source.open(i)[0], network.input_size)))
                known.append(label)
            except OSError as error:
                tqdm.write(f"featvis: {source.where(i)} is left out: {error}", file=sys.stderr)
        labels = torch.tensor(known, device=network.device)
        for layer, values in _activations(network, torch.stack(views), layers).items() if views else ():
            found.add(layer, values, labels)
        bar.update(len(batch))
    bar.close()
    _check_enough(source, next(iter(found.counts.values())).int().tolist() if found.counts else [0])
    return found


def _check_enough(source: ImageSet, counts: Sequence[int]) -> None:
    """Refuse what tells no class from another."""
    if max(counts) < 2 or sum(map(bool, counts)) < 2:
        raise UserError(
            f"--data {source.name} has photographs of {sum(map(bool, counts))} of the run's classes, at most "
            f"{max(counts)} of each; the path needs several classes, and at least two of each"
        )


def curve(
    network: Classifier, folder: Path, record: Record, natural: Photographs, layers: Sequence[str]
) -> Iterator[dict[str, object]]:
    """The points of a row's curve: method, layer, value, its 95 % interval over the units (`low`, `high`), n units."""
    transparent = bool((record.config.get("evaluation") or {}).get("transparency"))
    units = [u for u in record.units if class_of(u) is not None]
    units = [u for u in units if (folder / str(record.images) / f"{u}.png").is_file()]
    gaps: dict[str, list[tuple[Tensor, Tensor]]] = {layer: [] for layer in layers}
    for batch in _batches(units):
        pictures = pictures_of(folder / str(record.images), batch, transparent)
        views = torch.cat([network.preprocess(to_tensor(p.image)[None].to(network.device)) for p in pictures])
        labels = torch.tensor([int(str(p.label)) for p in pictures], device=network.device)
        for layer, values in _activations(network, views, layers).items():
            place = (natural.sums[layer], natural.counts[layer], natural.classes)
            gaps[layer].append(path_gaps(values, labels, *place))
    # Several images of a unit are one unit.
    classes = torch.tensor([class_of(u) for u in units])
    for layer in layers:
        own, unit = (torch.cat(part).cpu() for part in zip(*gaps[layer], strict=True))
        kept = ~own.isnan()
        member = (classes[kept].unique()[:, None] == classes[kept]).double()
        own, unit = member @ own[kept], member @ unit[kept]
        value = float(ratio(own.sum(), unit.sum()))
        low = high = math.nan
        if len(own) > 1 and not math.isnan(value):
            low, high = bootstrap(_resampled(own, unit), len(own), level=expanded(len(own)))
        yield {"method": record.method, "layer": layer, "value": value, "low": low, "high": high, "n": len(own)}


def _resampled(own: Tensor, unit: Tensor) -> Statistic:
    return lambda counts: ratio(counts @ own, counts @ unit)


@torch.no_grad()
def _activations(network: Classifier, views: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
    """All positions and channels of each layer, flattened: (N, width)."""
    taps = {layer if layer == LOGITS else f"{layer}[:]": layer for layer in layers}
    found = network.activations(views.to(network.device), frozenset(taps))
    return {layer: found[tap].flatten(1) for tap, layer in taps.items()}


def _batches(items: Sequence[tuple[int, int]] | Sequence[str]) -> Iterator[list]:
    it = iter(items)
    while batch := list(itertools.islice(it, BATCH)):
        yield batch


def _text(frame: pd.DataFrame) -> str:
    """The curves for a terminal: layers down, rows of the run across."""
    table = frame.pivot(index="layer", columns="method", values="value")
    ordered = table.loc[list(dict.fromkeys(frame["layer"])), list(dict.fromkeys(frame["method"]))]
    ordered.columns.name = ordered.index.name = None
    return str(ordered.to_string(float_format="{:.2f}".format, na_rep="—"))
