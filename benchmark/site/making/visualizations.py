"""Visualizations for pages: a network and units in; what each method makes of them, as pictures of the site, out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from benchmark.arguments import command_line
from benchmark.running.produce import folder_of, produce
from benchmark.site.making.options import Options, Subject
from benchmark.site.model import Picture, Shown
from benchmark.site.pictures import Shelf
from benchmark.studies import probe
from featvis.generators import Generator
from featvis.networks.devices import default_device
from featvis.networks.units import Unit, base_of
from featvis.storage import images

SPELLED = {"steps": "steps", "views": "crops", "canvas": "canvas"}
"""How the flags are called that a generator's arguments are set by."""


def generator(subject: Subject, method: str, options: Options) -> Generator:
    """A method with the network, as its preset and the options have it."""
    given = probe.Options((), options.channels, method, (), options.budget, options.seed, options.batch_size)
    return probe.generator(method, subject.network, subject.model, given)


def visualize(
    subject: Subject, methods: Sequence[str], units: Sequence[Unit], options: Options, work: Path, shelf: Shelf
) -> tuple[dict[str, tuple[Shown, ...]], dict[str, float], list[str]]:
    """Make what is missing of units' visualizations.

    Args:
        subject: the network.
        methods: presets.
        units: several repeats of a unit are pictures of one.
        options: the budget.
        work: folder of the images.
        shelf: of the site's pictures.

    Returns:
        By the id of a unit (without its repeat), what the methods made of it, in their order; by the same the
        activation that the first picture of one reaches whose method maximises it; and what is missing, in words.
    """
    shown: dict[str, list[Shown]] = {}
    reached: dict[str, float] = {}
    missing: list[str] = []
    for method in methods if units else ():
        made = generator(subject, method, options)
        folder = folder_of(made, work, method)
        produce(made, units, folder, options.batch_size)
        # Lightning takes the network off its device at the end.
        subject.network.to(default_device())
        pictures: dict[str, list[Picture]] = {}
        for unit in units:
            path = folder / f"{unit.id}.png"
            if facts := images.facts(path):
                command = line(subject, method, unit, options)
                pictures.setdefault(base_of(unit.id), []).append(picture(shelf, path, facts, method, unit, command))
                if facts.get("activation") is not None:
                    reached.setdefault(base_of(unit.id), float(facts["activation"]))
            else:
                missing.append(absent(subject, unit.text, method))
        for name, found in pictures.items():
            shown.setdefault(name, []).append(Shown(method, tuple(found)))
    return {name: tuple(found) for name, found in shown.items()}, reached, missing


def absent(subject: Subject, what: str, method: str) -> str:
    """A picture that is missing, in words."""
    return f"{what} of {subject.alias} by {method}"


def line(subject: Subject, method: str, unit: Unit, options: Options) -> str:
    """The command that makes a picture."""
    flags = {
        "model": subject.network.given, "methods": method, "units": unit.text,
        **{SPELLED[k]: v for k, v in options.budget.items()}, "seed": options.seed,
    }  # fmt: skip
    return command_line("run", flags)


def picture(shelf: Shelf, path: Path, facts: Mapping[str, Any], method: str, unit: Unit, command: str) -> Picture:
    """An image file of a generator as a picture of the site."""
    source = ["visualization", facts.get("config_hash"), unit.id]
    return shelf.put(
        source, lambda: Image.open(path), f"{method} visualization of {unit.label}", told(facts, method), command, True
    )


def told(facts: Mapping[str, Any], method: str) -> dict[str, str]:
    """The facts of an image file that people read."""
    said = {"method": method, "unit": str(facts.get("unit")), "label": str(facts.get("label"))}
    for name in ("logit", "activation"):
        if isinstance(value := facts.get(name), int | float):
            said[name] = f"{value:.3f}"
    said |= {name: str(facts[name]) for name in ("steps", "views", "seed", "config_hash") if name in facts}
    return said
