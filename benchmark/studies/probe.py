"""The layers of networks, looked into: channels from early to late layers, and pixels against frequencies.

In: networks, layers and methods. Out, in a folder: images, a record a method and network, two figures and a page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.records.record import Measurement
from benchmark.report import montage
from benchmark.report.figures import Array
from benchmark.report.montage import Panel, Strip, Tile
from benchmark.report.spectra import mean_magnitude, read_rgb, spectra
from benchmark.running.produce import folder_of, of_images, produce
from benchmark.studies.means import mean_of
from benchmark.studies.photographs import activation, canvas
from benchmark.suites.methods import build
from benchmark.suites.suite import Suite
from featvis.errors import UserError
from featvis.generators import Generator
from featvis.networks.classifier import Classifier
from featvis.networks.devices import default_device
from featvis.networks.layers import stages
from featvis.networks.units import Unit, parse_units, permutation

SUITE = "probe"
CUTOFF = 0.25
"""Of the Nyquist frequency: what lies above counts as high."""


@dataclass(frozen=True)
class Options:
    """What to look at.

    Attributes:
        layers: by name; empty: five from early to late.
        channels: how many of each layer, the first ones of a fixed permutation.
        method: preset of the hierarchy.
        compare: presets of the comparison, on the first channel of each layer.
        budget: steps, views and canvas, None where the preset's.
        seed: of all random streams.
        batch_size: units optimised together.
    """

    layers: tuple[str, ...]
    channels: int
    method: str
    compare: tuple[str, ...]
    budget: Mapping[str, int | None]
    seed: int
    batch_size: int


@dataclass(frozen=True)
class Probe:
    """A network with the units that are looked at, layer by layer."""

    network: Classifier
    rows: tuple[tuple[str, tuple[Unit, ...]], ...]

    @property
    def units(self) -> list[Unit]:
        """All of them, from early to late."""
        return [unit for _, units in self.rows for unit in units]

    @property
    def firsts(self) -> list[Unit]:
        """One of each layer."""
        return [units[0] for _, units in self.rows]


def prepare(network: Classifier, options: Options) -> Probe:
    """The units of a network.

    Raises:
        UserError: for an unknown layer, or one with fewer channels than asked for.
    """
    names = options.layers or tuple(stages(network.measured(), 5))
    if not names:
        raise UserError(f"{network.alias} has no layer with positions; name some with --layers")
    rows = []
    for name in names:
        count = network.layer(name).channels
        if options.channels > count:
            raise UserError(f"--channels {options.channels}: layer {name} of {network.alias} has {count} channels")
        chosen = "+".join(map(str, permutation(count)[: options.channels]))
        rows.append((name, tuple(parse_units(f"{name}:{chosen}", network, "--layers"))))
    return Probe(network, tuple(rows))


def generator(method: str, network: Classifier, model: str, options: Options) -> Generator:
    """A method as its preset and the options have it, with the network."""
    row = Suite(model=model, units="", methods={}, seed=options.seed)
    made, _, _ = build(method, {}, row, options.budget)
    made.classifier = network
    made.check_transforms()
    return made


def run(probes: Mapping[str, Probe], options: Options, out: Path, command: str) -> int:
    """Make what is missing, the records, the figures and the page; 1 where a unit failed."""
    code = 0
    compared: dict[str, dict[str, Path]] = {}
    hierarchy: dict[str, Path] = {}
    for model, probe in probes.items():
        folders, finished = {}, {}
        for method in dict.fromkeys((options.method, *options.compare)):
            made = generator(method, probe.network, model, options)
            units = probe.units if method == options.method else probe.firsts
            folders[method] = folder_of(made, out, method)
            finished[method] = made, units, produce(made, units, folders[method], options.batch_size)
        # Lightning takes the network off its device at the end.
        probe.network.to(default_device())
        # Once all are there: each is also compared with that of the pixels.
        for method, (made, units, failed) in finished.items():
            code |= bool(failed)
            done = [u for u in units if u.id not in failed]
            metrics = measure(probe, done, folders[method], made, folders.get("am_pixel"))
            record = of_images(
                made, units, failed, metrics, out, suite=SUITE, method=method, preset=method, command=command
            )
            record.write(record.record_path(out))
        hierarchy[model] = folders[options.method]
        compared[model] = {m: folders[m] for m in options.compare}
    report(probes, hierarchy, compared, options, out)
    return code


def report(
    probes: Mapping[str, Probe],
    hierarchy: Mapping[str, Path],
    compared: Mapping[str, Mapping[str, Path]],
    options: Options,
    out: Path,
) -> None:
    """The figures and the page; prints where they are, and the numbers of the comparison."""
    panels = []
    for model, probe in probes.items():
        strips = []
        for name, row in probe.rows:
            shape = " x ".join(map(str, probe.network.layer(name).shape))
            tiles = tuple(Tile(hierarchy[model] / f"{u.id}.png", f"channel {u.index}") for u in row)
            strips.append(Strip(f"{name} ({shape})", tiles))
        panels.append(Panel(probe.network.alias, tuple(strips)))
    below = f"Early layers above, late ones below; {options.method}, channels drawn by a fixed permutation."
    figures = [("Channels from early to late layers.", montage.draw(panels, out / "figures" / "hierarchy.png", below))]
    comparison = []
    for model, probe in probes.items():
        if not compared[model]:
            continue
        strips = []
        files = {m: [folder / f"{u.id}.png" for u in probe.firsts] for m, folder in compared[model].items()}
        files = {m: [p for p in paths if p.is_file()] for m, paths in files.items()}
        for method, paths in files.items():
            pictures = list(read_rgb(paths))
            share = float(np.mean([high_share(x) for x in pictures])) if pictures else float("nan")
            heading = f"{method}: {100 * share:.0f} % of the energy above Nyquist / 4"
            print(f"{probe.network.alias:24} {heading}")
            folder = compared[model][method]
            strips.append(Strip(heading, tuple(Tile(folder / f"{u.id}.png", u.label) for u in probe.firsts)))
        comparison.append(Panel(f"{probe.network.alias}: pixels and frequencies", tuple(strips)))
        path = out / "figures" / f"spectra-{probe.network.alias}.png"
        figures += [(f"{probe.network.alias}: mean spectra.", p) for p in spectra(files, None, path)]
    if comparison:
        path = montage.draw(comparison, out / "figures" / "pixels-and-frequencies.png")
        figures.insert(1, ("The same units, ascended in pixels and in frequencies.", path))
    lead = "Each picture was optimised for one channel of a layer. From early to late, edges and textures become parts."
    page = montage.write_page(out, "Channels from early to late layers", lead, [*panels, *comparison], figures)
    for what, paths in (("figures", [p for _, p in figures]), ("page", [page])):
        print(f"{what:8} {', '.join(map(str, paths))}")


def high_share(image: Array) -> float:
    """The share of an image's energy above a quarter of the Nyquist frequency (Zhu and Cangelosi 2025, section 3.2).

    Args:
        image: (H, W, 3) in [0, 1].

    Returns:
        In 0..1: the sum of |F|^2 over all channels of the decorrelated colours at frequencies f > .125 cycles a pixel,
        over that at all frequencies but zero.
    """
    h, w = image.shape[:2]
    power = mean_magnitude([image]) ** 2
    f = np.hypot(np.fft.fftfreq(h)[:, None], np.fft.rfftfreq(w)[None, :])
    # A column of the half spectrum stands for two, but the first and, of an even width, the last.
    twice = np.full(f.shape[1], 2.0)
    twice[0] = 1
    twice[-1] = 1 if w % 2 == 0 else 2
    power = power * twice
    return float(power[:, f > CUTOFF / 2].sum() / power[:, f > 0].sum())


def correlation(a: Array, b: Array) -> float:
    """Pearson's correlation of two images' values, (H, W, 3) each."""
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def measure(
    probe: Probe, units: Sequence[Unit], folder: Path, made: Generator, pixels: Path | None
) -> list[Measurement]:
    """What each layer's units reached, and how much of the pictures is fine detail, from the files."""
    # What another machine, whose networks compute in another precision, reads off the same files.
    network = probe.network.in_precision("float32")
    reached = {u.id: activation(network, u, canvas(folder / f"{u.id}.png", network)) for u in units}
    pictures = {u.id: next(iter(read_rgb([folder / f"{u.id}.png"]))) for u in units}
    first = {u.id for u in probe.firsts}
    found = []
    for name, row in probe.rows:
        values = [reached[u.id] for u in row if u.id in reached]
        what = network.layer(name).what
        text = f"Activation of the units of {name} on the whole canvas, as read back from its file, {what}; their mean."
        found.append(mean_of(f"activation_{name}", values, {"text": text, "layer": name}, name))
    text = (
        "Share of the energy (decorrelated colours, the mean left out) above a quarter of the Nyquist frequency, mean "
        "over one unit a layer."
    )
    shares = [high_share(pictures[i]) for i in pictures if i in first]
    found.append(mean_of("high_share", shares, {"text": text}))
    if pixels is not None and pixels != folder:
        text = "Correlation of a unit's picture with that of am_pixel, mean over one unit a layer."
        values = [
            correlation(pictures[i], next(iter(read_rgb([pixels / f"{i}.png"]))))
            for i in pictures
            if i in first and (pixels / f"{i}.png").is_file()
        ]
        found.append(mean_of("pixel_correlation", values, {"text": text}))
    return found
