"""What the studies of photographs share: a folder in, its images; pictures of each in, a figure and a page out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from benchmark.report import montage
from benchmark.report.montage import Panel, Strip, Tile
from benchmark.running.produce import put_down
from featvis.data.files import as_input, find_images, open_rgb
from featvis.data.walk import Found
from featvis.errors import UserError
from featvis.networks.classifier import Classifier
from featvis.networks.units import ImageUnit, Unit


def found_in(images: Path) -> Found:
    """The images of a folder, or one image; what else is there is said.

    Raises:
        UserError: for a folder without an image.
    """
    found = Found([images]) if images.is_file() else find_images(images, "--images")
    if left := found.describe():
        print(f"featvis: left out of {images.name}: {left}", file=sys.stderr)
    return found


def check_rgb(network: Classifier, flag: str, what: str) -> None:
    """Raise a UserError for a network of other channels than RGB, for what cannot do with them."""
    if network.channels != 3:
        many = f"{network.channels} channel{'s' * (network.channels != 1)}"
        raise UserError(f"{flag} {network.given} takes {many}; {what} is of networks that take RGB")


def canvas(file: Path, network: Classifier) -> Float[Tensor, "c h w"]:
    """A finished canvas in [0, 1] as the network takes it, read back from its file and resized as it is for scores."""
    return as_input(open_rgb(file), network.input_size, network.channels).to(network.device)


@torch.no_grad()
def activation(network: Classifier, unit: Unit, seen: Float[Tensor, "c h w"]) -> float:
    """A unit's activation for an image of the network's input size."""
    return float(unit.objective(network.activations(seen[None].to(network.device), unit.objective.taps)))


def strip(said: str, unit: ImageUnit, file: Path, name: str, out: Path, network: Classifier) -> Strip:
    """A photograph, what was made of it, its transparency, and both (the columns of Fel et al. 2023, figure 6a).

    Args:
        said: of the photograph and its picture.
        unit: with the photograph.
        file: of the picture.
        name: what the picture is.
        out: folder of everything, which gets the photograph as the network sees it.
        network: that sees them.
    """
    seen = put_down(out, network.input_size, unit, network.channels)
    return Strip(
        said,
        (Tile(seen, "image"), Tile(file, name), Tile(file, "transparency", "mask"), Tile(file, "both", "over_grey")),
    )


def publish(out: Path, name: str, title: str, about: str, caption: str, panels: Sequence[Panel]) -> None:
    """Write the figure `<out>/figures/<name>.png` and the page, and say where they are."""
    figure = montage.draw(panels, out / "figures" / f"{name}.png")
    page = montage.write_page(out, title, about, panels, [(caption, figure)])
    print(f"figure   {figure}\npage     {page}")
