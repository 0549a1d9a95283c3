"""The public face: a network and units in, pictures out, in one call."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
import yaml
from torch import Tensor, nn
from tqdm import tqdm

from featvis.errors import UserError, nearest
from featvis.generators import Generator, Visualizations
from featvis.generators.arguments import accepted, class_at, fitted
from featvis.generators.callbacks import facts_of
from featvis.networks.classifier import Classifier
from featvis.networks.devices import Precision, default_device, usable
from featvis.networks.layers import split_tap
from featvis.networks.loading import Source, load
from featvis.networks.objectives import Objective, objective, taps_of
from featvis.networks.own.inputs import Numbers
from featvis.networks.own.modules import classifier_of
from featvis.networks.units import Unit, cut, parse_units
from featvis.paths import CONFIGS
from featvis.pictures import Pictures

Aims = Objective | Callable[..., Any] | Sequence[Objective | Callable[..., Any]]
"""What can be maximised besides units: objectives, and functions of activations."""
BATCH = 8
"""Units that are optimised together, unless told otherwise."""
COMMON_SIDE = 224
"""The input side that presets' canvases are meant for, in pixels."""
SHIFTS = ("jitter", "roll")
"""What presets give in pixels of their canvas."""


@dataclass(frozen=True)
class Aim(Unit):
    """An objective as a unit: what is maximised is a value, not a place in the network.

    Attributes:
        aim: the objective.
        other: its number among those of a call that say the same and are not: of other functions.
    """

    aim: Objective | None = None
    other: int = 0

    @property
    def id(self) -> str:
        """Its name in file names, `objective-1a2b3c4d`: of what it is, since its random stream hangs on it."""
        name = f"objective-{hashlib.sha256(self.objective.content.encode()).hexdigest()[:8]}"
        name += f"-{self.other}" if self.other else ""
        return name + (f"@{self.repeat}" if self.repeat else "")

    @property
    def text(self) -> str:
        """The objective as it reads."""
        return self.label

    @property
    def objective(self) -> Objective:
        """Itself."""
        assert self.aim is not None
        return self.aim


def classifier(
    net: str | nn.Module,
    precision: Precision = "auto",
    device: str | torch.device | None = None,
    **about: Any,
) -> Classifier:
    """A network as everything here takes it: frozen, with named units, taking images in [0, 1].

    Args:
        net: a timm name, an alias of featvis, `wrap:FILE`, any `torch.nn.Module`, or a `Classifier`, which stays one.
        precision: in which it computes; `auto`: a `Classifier` in its own, others in bfloat16 where that is fast.
        device: where; None: where a module is; for a name the GPU, if there is one.
        about: `mean`, `std`, `input_size`, `labels`, `preprocess` of a module, see
            `featvis.networks.own.modules.classifier_of`.

    Raises:
        UserError: for an unknown name, precision or device, or a module that cannot be run.

    Example:
        >>> import featvis
        >>> featvis.classifier("efficientnet_lite0").input_size
        (224, 224)
    """
    fitted("precision", precision, Precision)
    if not isinstance(net, str | nn.Module):
        raise UserError(f"net must be a name or a torch.nn.Module, not {net!r:.60}")
    device = None if device is None else usable(device)
    known = {k: v for k, v in about.items() if v is not None}
    if isinstance(net, nn.Module) and not isinstance(net, Classifier):
        return classifier_of(net, precision, device, **known)
    if known:
        raise UserError(f"{', '.join(known)} is for a module in memory; a network by name has its own")
    if isinstance(net, Classifier):
        net = net if precision == "auto" else net.in_precision(precision)
        return net if device is None else net.to(device)
    return load(net, precision, default_device() if device is None else device, "net")


def layers(net: str | nn.Module, **about: Any) -> pd.DataFrame:
    """The layers of a network that have units.

    Args:
        net: see `classifier`.
        about: see `classifier`.

    Returns:
        A row a layer, in the network's order: its name, type, number of units, shape for one image, and what a unit is.

    Example:
        >>> import featvis
        >>> print(featvis.layers("efficientnet_lite0").loc["blocks.2", "shape"])
        40 x 28 x 28
    """
    found = classifier(net, "float32", **about)
    modules = dict(found.net.named_modules())
    rows = [
        (name, type(modules[name]).__name__, layer.channels, " x ".join(map(str, layer.shape)), layer.what)
        for name, layer in found.layers().items()
    ]
    return pd.DataFrame(rows, columns=["layer", "type", "units", "shape", "unit"]).set_index("layer")


def visualize(
    net: str | nn.Module,
    units: str | Aims,
    method: str | type[Generator] | Generator = "maco",
    *,
    batch_size: int = BATCH,
    device: str | torch.device | None = None,
    precision: Precision = "auto",
    mean: Numbers | None = None,
    std: Numbers | None = None,
    input_size: int | Sequence[int] | None = None,
    labels: Sequence[str] | None = None,
    preprocess: Any = None,
    progress: bool = True,
    **options: Any,
) -> Pictures:
    """Pictures that excite units of a network.

    Args:
        net: any `torch.nn.Module`, left exactly as it is; or a timm name, an alias of featvis, `wrap:FILE`.
        units: a text as on the command line (`layer4:12-15, ladybug`, see `featvis.networks.units`); or an objective,
            or a list of them: values such as `featvis.channel("layer4", 12) - featvis.logit(3)`, or any function of
            activations, `lambda a: a["layer4"][:, 12] * a["logits"][:, 3]`: each layer is (N, C), its mean over
            positions, and `a["layer4[:]"]` (N, positions, C); it gives one number a view, (N,).
        method: a row of the suite `quick` (`maco`, `fourier`, `cbr`: what we found best for little time), a preset of
            configs/generator (`maco_paper`, `am_lucid`, ...), a class, or a generator as it is.
        batch_size: units that are optimised together.
        device: where to run; None: where a module is; for a name the GPU, if there is one.
        precision: of the network; `auto` takes bfloat16 where the hardware is fast at it.
        mean: of a module's input channels in [0, 1]; only needed where it does not say so itself, as timm's,
            torchvision's and open_clip's do.
        std: their deviation.
        input_size: (h, w) of its input, or one side, in pixels.
        labels: a name a class.
        preprocess: what says mean, std and size instead: torchvision's transforms, a Hugging Face processor.
        progress: show a bar.
        options: of the method: `steps`, `views`, `canvas`, `lr`, `seed` and so on. Canvases of presets, which are for
            inputs of 224 pixels, shrink with the network's, and so does what they shift them by.

    Returns:
        The pictures, which a notebook shows.

    Raises:
        UserError: for an unknown method, option or unit (with the nearest), a canvas of which the transforms leave
            nothing, or a network that cannot be run.

    Example:
        >>> import featvis
        >>> out = featvis.visualize("efficientnet_lite0", "ladybug", steps=2, canvas=48, progress=False)
        >>> out.names, out["ladybug"].size
        (['ladybug'], (48, 48))
    """
    about = {"mean": mean, "std": std, "input_size": input_size, "labels": labels, "preprocess": preprocess}
    if isinstance(method, Generator):
        if options:
            raise UserError(f"{', '.join(options)} is for a method by name; this generator is made already")
        made = method
        made.classifier = classifier(net, made.precision if precision == "auto" else precision, device, **about)
        made.precision = made.classifier.precision
        # Of this network from now on, whatever it was made with.
        made.source = Source(made.classifier)
    else:
        found = classifier(net, precision, device, **about)
        made = _made(method, found, precision, options)
    network = made.load_classifier()
    wanted = _units(units, network)
    made.check_units(wanted)
    made.to(network.device)
    batches, config_hash = cut(wanted, batch_size, made.together), made.config_hash()
    parts, facts = list[Visualizations](), list[list[dict[str, Any]]]()
    with tqdm(total=made.steps * len(batches), desc=type(made).__name__, disable=not progress, leave=False) as bar:
        made.listeners = [_Bar(bar)]
        try:
            for batch in batches:
                part = made.predict_step(batch)
                parts.append(part)
                # Now: a generator may be given another network before the pictures are saved, and keeps no batch.
                facts.append([facts_of(made, config_hash, part, i) for i in range(len(part.units))])
        finally:
            made.listeners = []
    return Pictures(made, parts, facts)


class _Bar:
    def __init__(self, bar: Any) -> None:
        self.bar = bar

    def on_optimization_step(self, trainer: Any, generator: Generator, step: int, score: Tensor, state: Any) -> None:
        self.bar.update(1)


class _Asked(Mapping[str, Tensor]):
    """The activations of an example, each computed when it is asked for: so a function shows what it reads."""

    def __init__(self, network: Classifier) -> None:
        self.network, self.seen = network, dict[str, Tensor]()

    def __getitem__(self, tap: str) -> Tensor:
        if tap not in self.seen:
            with torch.no_grad():
                self.seen[tap] = self.network.activations(self.network.example(2), frozenset({tap}))[tap]
        return self.seen[tap]

    def __iter__(self) -> Iterator[str]:
        return iter(self.network.layers())

    def __len__(self) -> int:
        return len(self.network.layers())


def _aim(given: Objective | Callable[..., Any], network: Classifier) -> Objective:
    if isinstance(given, Objective):
        return given
    asked = _Asked(network)
    try:
        given(asked)
    except UserError:
        raise
    except Exception as error:  # anyone's code may raise anything
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UserError(f"the function of activations cannot be computed ({reason:.200})") from error
    if not asked.seen:
        raise UserError(
            "the function of activations reads no layer; it is given a dict of them: lambda a: a['layer4'][:, 0]"
        )
    return objective(given, *asked.seen)


def _units(units: str | Aims, network: Classifier) -> list[Unit]:
    if isinstance(units, str):
        return parse_units(units, network, "units")
    given: list[Any] = list(units) if isinstance(units, Sequence) else [units]
    if not given or not all(callable(one) for one in given):
        raise UserError(
            "units must be a text such as 'layer4:12-15, ladybug', objectives such as featvis.channel('layer4', 12), "
            "or functions of activations"
        )
    given = [_aim(one, network) for one in given]
    for aim in given:
        _check(aim, network)
    alike, seen, found = dict[str, list[tuple[int, ...]]](), Counter[tuple[str, int]](), list[Unit]()
    for i, aim in enumerate(given):
        # Functions without a name all say the same, and are images of one unit only where they are one function.
        functions, others = tuple(map(id, aim.unsaid)), alike.setdefault(aim.content, [])
        if functions not in others:
            others.append(functions)
        other = others.index(functions)
        found.append(Aim("objective", i, str(aim), seen[aim.content, other], aim=aim, other=other))
        seen[aim.content, other] += 1
    return found


def _check(aim: Objective, network: Classifier) -> None:
    """Raise a UserError for a layer, a place or a channel that a network does not have."""
    for _, term in aim.terms:
        for tap in taps_of(term):
            name, where = split_tap(tap)
            layer = network.layer(name)
            layer.check(where)
            index = getattr(term, "index", 0)
            if not 0 <= index < layer.channels:
                raise UserError(f"{aim}: layer {name} has the units 0 to {layer.channels - 1}, so no {index}")


def _made(
    method: str | type[Generator], network: Classifier, precision: Precision, options: dict[str, Any]
) -> Generator:  # fmt: skip
    cls, arguments = _preset(method) if isinstance(method, str) else (method, {})
    if not (isinstance(cls, type) and issubclass(cls, Generator)):
        raise UserError(f"method must be a name such as 'maco', a Generator or its class, not {cls!r:.60}")
    side = arguments.get("canvas")
    if "canvas" not in options and isinstance(side, int) and max(network.input_size) < COMMON_SIDE:
        # Sampled at a few of its pixels, a large canvas would be noise to a small network.
        smaller = max(16, round(side * max(network.input_size) / COMMON_SIDE))
        shifts = {k: max(1, round(v * smaller / side)) for k, v in arguments.items() if k in SHIFTS and v}
        arguments = {**arguments, "canvas": smaller, **shifts}
    known = accepted(cls)
    for name in options:
        if name not in known:
            raise UserError(f"{cls.__name__} takes no {name}; {nearest(name, known)}")
    own = {"model": network, "precision": precision}
    made = cls(**{**arguments, **{k: v for k, v in own.items() if k in known}, **options})
    if "model" not in known:
        made.source = Source(network)
    return made


def _preset(name: str) -> tuple[type[Generator], dict[str, Any]]:
    """A method by name, as `featvis run` finds it: a row of the suite quick, else a preset."""
    rows = yaml.safe_load((CONFIGS / "suite" / "quick.yaml").read_text(encoding="utf-8"))["methods"]
    row = dict(rows.get(name) or {})
    path = CONFIGS / "generator" / f"{row.pop('preset', name)}.yaml"
    if not path.is_file():
        known = sorted({*rows, *(p.stem for p in (CONFIGS / "generator").glob("*.yaml"))})
        raise UserError(f"unknown method {name}: {nearest(name, known)}")
    model = yaml.safe_load(path.read_text(encoding="utf-8"))["model"]
    arguments = {**(model.get("init_args") or {}), **row}
    # YAML has lists where the methods have tuples.
    return class_at(model["class_path"]), {k: tuple(v) if isinstance(v, list) else v for k, v in arguments.items()}


__all__ = ["Pictures", "classifier", "layers", "visualize"]
