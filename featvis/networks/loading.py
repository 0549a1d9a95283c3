"""Networks by name: an alias, a timm tag, a file or `wrap:FILE` in, a frozen `Classifier` out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import safetensors.torch
import timm
import torch
from torch import nn

from featvis.errors import UserError
from featvis.networks.classifier import Classifier
from featvis.networks.devices import Precision
from featvis.networks.hub import download
from featvis.networks.names import ModelSpec, completed, resolve
from featvis.networks.own import wrap
from featvis.networks.own.modules import baked, classifier_of, unwrapped, version
from featvis.networks.own.outputs import Sealed, is_sealed, plain
from featvis.networks.weights import Weights, fill, locate

RANDOM = "random:"
"""Before a name: the same architecture, untrained, which is a control."""


class Source:
    """Where a generator's network comes from: a name, a module in memory, or a classifier that is there already.

    Args:
        model: see above.
    """

    def __init__(self, model: str | nn.Module) -> None:
        self.model, self._version = model, (0, tuple[str, ...]())

    @property
    def name(self) -> str:
        """How it is called; a module is no value that could be written down, but its class has a name."""
        return self.model if isinstance(self.model, str) else type(self.model).__name__

    def asked(self, precision: Precision) -> Precision:
        """In which precision it will compute: a classifier that is there has its own, unless another is asked for."""
        return self.model.precision if isinstance(self.model, Classifier) and precision == "auto" else precision

    def changed(self) -> bool:
        """Whether somebody has written to a module's weights since it was loaded: a pass over all of them."""
        live = not isinstance(self.model, str | Classifier)
        return live and self._version != version(cast(nn.Module, self.model))

    def load(self, precision: Precision, device: torch.device) -> Classifier:
        """The classifier: a name's is put on a device, a module's stays where the module is."""
        if isinstance(self.model, Classifier):
            return self.model.in_precision(self.asked(precision))
        if isinstance(self.model, str):
            return load(self.model, precision, device)
        self._version = version(self.model)
        return classifier_of(self.model, precision)


def load(
    name: str, precision: Precision = "auto", device: str | torch.device = "cpu", flag: str = "--model"
) -> Classifier:
    """Load a classifier by alias, full timm tag, the stem of a file in the weights directory, or `wrap:FILE`.

    Args:
        name: see above; `featvis.networks.own.wrap` says what such a file holds.
        precision: `auto` takes bfloat16 where the hardware is fast at it.
        device: where to put it.
        flag: the option that gave the name, for messages.

    Raises:
        UserError: for an unknown name, weights that cannot be found, are cut off, pickled, or of another network.
    """
    if name.startswith(RANDOM):
        return _randomised(name, precision, device, flag)
    if name.startswith(wrap.PREFIX):
        net, spec, weights = wrapped(name, flag)
        try:
            return Classifier(net, spec, source=weights.note, precision=precision).to(device)
        except UserError as error:
            raise UserError(f"{flag} {name}: {error}") from error
    spec = resolve(name, flag)
    weights = locate(spec)
    path = weights.path or download(spec)
    try:
        spec = completed(spec, path) if weights.kind == "directory" else spec
        net = fill(spec, weights, path)
    except UserError as error:
        raise UserError(f"{flag} {name}: {error}") from error
    return Classifier(net, spec, source=weights.note, precision=precision).to(device)


def _randomised(name: str, precision: Precision, device: str | torch.device, flag: str) -> Classifier:
    """The architecture of `random:NAME`, as timm makes it from the seed 0, with everything else as NAME has it.

    Raises:
        UserError: for a network that is none of timm's, whose making nobody knows; or see `load`.
    """
    given = name.removeprefix(RANDOM)
    trained = load(given, precision, device, flag)
    if not trained.reentrant:
        raise UserError(f"{flag} {given}: random weights are for timm's networks, which are made by their names")
    spec = resolve(given, flag)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = timm.create_model(trained.name, pretrained=False, **spec.create_kwargs)
    mean, std = (tuple(values.flatten().tolist()) for values in (trained.mean, trained.std))
    spec = replace(
        spec, alias=f"random-{trained.alias}", name=f"{trained.name}, random weights of seed 0", given=name,
        mean=mean, std=std, input_size=trained.input_size,
    )  # fmt: skip
    return Classifier(net, spec, source="random weights of seed 0", precision=precision).to(device)


def check(name: str, flag: str = "--model") -> None:
    """Raise a UserError unless a network's name is known and its weights can be found; nothing is loaded."""
    if name.startswith(wrap.PREFIX):
        wrap.read(name, flag)
    else:
        locate(resolve(name, flag))


def wrapped(name: str, flag: str = "--model") -> tuple[nn.Module, ModelSpec, Weights]:
    """The module of `wrap:FILE`, filled with its weights, in eval mode.

    Raises:
        UserError: when it cannot be imported or made, or the weights are not its own.
    """
    spec, values = wrap.read(name, flag)
    path = Path(name.removeprefix(wrap.PREFIX))
    make = wrap.imported(spec.name, path.parent, f"{flag} {name}")
    try:
        # Every process of a run must get the same network, whatever is random in making it.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            net = make(**(values.get("init_args") or {}))
    except Exception as error:  # anyone's code may raise anything
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UserError(f"{flag} {name}: {spec.name} cannot be made ({reason:.200})") from error
    if not isinstance(net, nn.Module):
        raise UserError(f"{flag} {name}: {spec.name} gives a {type(net).__name__}, not a torch.nn.Module")
    net = unwrapped(net)
    weights = Weights("directory", path, f"as {spec.name} makes it")
    if values.get("weights") is not None:
        weights = Weights("directory", path.parent / str(values["weights"]), str(path.parent / str(values["weights"])))
        _fill_wrapped(net, path.parent / str(values["weights"]), f"{flag} {name}")
    return (Sealed(net.eval()) if is_sealed(net) else plain(baked(net.eval()))), spec, weights


def _fill_wrapped(net: nn.Module, path: Path, what: str) -> None:
    if path.suffix != ".safetensors":
        raise UserError(f"{what}: weights must be a .safetensors file (pickles are never loaded), not {path.name}")
    try:
        state = safetensors.torch.load_file(path)
    except Exception as error:  # see weights._read
        raise UserError(f"{what}: the weights {path} cannot be read ({' '.join(str(error).split()):.160})") from error
    try:
        net.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise UserError(
            f"{what}: the weights {path} are of another network ({' '.join(str(error).split()):.200})"
        ) from error
