"""Networks by name: an alias, a timm tag, a file or `wrap:FILE` in, a frozen `Classifier` out."""

from __future__ import annotations

from dataclasses import replace

import torch

from featvis.errors import UserError
from featvis.networks import wrap
from featvis.networks.classifier import Classifier
from featvis.networks.devices import Precision
from featvis.networks.hub import download
from featvis.networks.weights import fill, local_spec, locate, metadata, resolve


def load(
    name: str, precision: Precision = "auto", device: str | torch.device = "cpu", flag: str = "--model"
) -> Classifier:
    """Load a classifier by alias, full timm tag, the stem of a file in the weights directory, or `wrap:FILE`.

    Args:
        name: see above; `featvis.networks.wrap` says what such a file holds.
        precision: `auto` takes bfloat16 where the hardware is fast at it.
        device: where to put it.
        flag: the option that gave the name, for messages.

    Raises:
        UserError: for an unknown name, weights that are not to be had, cut off, pickled, or of another network.
    """
    if name.startswith(wrap.PREFIX):
        net, spec, weights = wrap.build(name, flag)
        try:
            return Classifier(net, spec, source=weights.note, precision=precision).to(device)
        except UserError as error:
            raise UserError(f"{flag} {name}: {error}") from error
    spec = resolve(name, flag)
    weights = locate(spec)
    path = weights.path or download(spec)
    try:
        net = fill(spec, weights, path)
    except UserError as error:
        raise UserError(f"{flag} {name}: {error}") from error
    if weights.kind == "directory":
        local = local_spec(path.stem, path) if metadata(path) else spec
        spec = replace(
            spec,
            mean=local.mean or spec.mean,
            std=local.std or spec.std,
            input_size=local.input_size or spec.input_size,
        )
    return Classifier(net, spec, source=weights.note, precision=precision).to(device)


def check(name: str, flag: str = "--model") -> None:
    """Raise a UserError unless a network's name and weights are to be had, as far as a look without loading tells."""
    if name.startswith(wrap.PREFIX):
        wrap.read(name, flag)
    else:
        locate(resolve(name, flag))
