"""What an attack's command asks for: texts in, a checked job out; nothing is written."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import yaml

from benchmark.studies.photographs import check_rgb, found_in
from featvis.data.files import check_image, with_names
from featvis.errors import UserError
from featvis.generators.attack import Attack, Pair, pair_up
from featvis.networks.classes import Classes
from featvis.networks.classifier import Classifier
from featvis.networks.devices import default_device
from featvis.networks.loading import load
from featvis.networks.units import parse_classes
from featvis.paths import CONFIGS

FLAGS = {"lr": "--alpha", "epsilon": "--epsilon", "tv": "--tv"}
"""Arguments of the Attack as the command calls them."""


@dataclass(frozen=True)
class Setting:
    """A row of the table: the attack that all images undergo.

    Attributes:
        method: the row's name, which says all that differs from the preset.
        preset: the file of configs/attack.
        arguments: of `Attack`, but for the network.
    """

    method: str
    preset: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Job:
    """All that a command will do, checked.

    Attributes:
        out: the folder.
        networks: those that attack, by alias.
        judges: those that look at the examples, the attackers first, by alias.
        settings: of the attacks.
        pairs: images and targets, the same for all networks.
        batch_size: pairs optimised together.
        command: what does it anew.
    """

    out: Path
    networks: dict[str, Classifier]
    judges: dict[str, Classifier]
    settings: list[Setting]
    pairs: list[Pair]
    batch_size: int
    command: str


def settings(preset: str, epsilons: Sequence[str], overrides: Mapping[str, Any]) -> list[Setting]:
    """A setting for each epsilon.

    Args:
        preset: a name in configs/attack.
        epsilons: as the user wrote them, `0.05` or `4/255`; none: the preset's.
        overrides: arguments of `Attack` over the preset's, None for those that were not given.

    Raises:
        UserError: for a value that the Attack refuses.
    """
    text = (CONFIGS / "attack" / f"{preset}.yaml").read_text(encoding="utf-8")
    base = yaml.safe_load(text)["model"]["init_args"]
    given = {k: v for k, v in overrides.items() if v is not None}
    names = {"lr": "alpha", "tv": "tv", "steps": "steps", "seed": "seed"}
    said = [f"{names[k]}-{v:g}" for k, v in given.items() if k in names and v != base.get(k, 0)]
    if (sign := given.get("sign", base["sign"])) != base["sign"]:
        said.append("sign" if sign else "plain")
    found = []
    for text in epsilons or [""]:
        own = {"epsilon": _fraction(text)} if text else {}
        part = [f"eps-{text.replace('/', '-')}"] * bool(own)
        setting = Setting("-".join([preset, *part, *said]), preset, base | given | own)
        try:
            Attack(**setting.arguments)
        except UserError as error:
            raise UserError(re.sub(r"^\w+", lambda m: FLAGS.get(m[0], m[0]), str(error))) from error
        found.append(setting)
    return list({s.method: s for s in found}.values())


def _fraction(text: str) -> float:
    try:
        return float(Fraction(text))
    except (ValueError, ZeroDivisionError, OverflowError):
        raise UserError(f"--epsilon {text} is not a number; write for example 0.05 or 4/255") from None


def find_networks(models: Sequence[str], others: Sequence[str]) -> tuple[dict[str, Classifier], dict[str, Classifier]]:
    """Those that attack, and those that judge (the attackers too), by alias.

    Raises:
        UserError: for networks that cannot be loaded, or that do not have the same classes.
    """
    if not models:
        raise UserError("MODEL is empty; name a network, for example efficientnet_lite0")
    device = default_device()
    attackers = {m: load(m, "float32", device, "MODEL") for m in models}
    judges = attackers | {m: load(m, "float32", device, "--others") for m in others if m not in attackers}
    first = next(iter(judges.values()))
    for name, network in judges.items():
        check_rgb(network, "MODEL" if name in attackers else "--others", "an attack")
        if network is not first and not _alike(network, first):
            flag = "MODEL" if name in attackers else "--others"
            raise UserError(f"{flag} {name} has other classes than {first.alias}; name networks of the same classes")
    by_alias = {n.alias: n for n in judges.values()}
    if twice := next((n for n in judges.values() if by_alias[n.alias] is not n), None):
        both = f"{twice.given} and {by_alias[twice.alias].given}"
        raise UserError(f"--others: {both} would both be called {twice.alias} in tables; rename one of the files")
    return {n.alias: n for n in attackers.values()}, by_alias


def _alike(a: Classifier, b: Classifier) -> bool:
    """Whether two networks have the same classes in the same order; classes without names are nobody else's."""
    named = Classes.of(a)
    return bool(named.labels or named.synsets) and a.labels == b.labels


def find_pairs(path: Path, targets: str, classifier: Classifier, limit: int | None, seed: int) -> list[Pair]:
    """The pairs that --images, --targets and --limit ask for.

    Raises:
        UserError: for images that are missing or cannot be decoded, targets that are no classes, or an image that is
            of its target's class already.
    """
    classes = None if targets == "random" else parse_classes(targets, classifier, "--targets")
    folder = path.parent.parent if path.is_file() else path
    files = with_names(folder, found_in(path), classifier, "--images")[:limit]
    for file in files:
        check_image(file.path, classifier.channels)
    try:
        return pair_up(files, classes, classifier, seed)
    except UserError as error:
        raise UserError(f"--targets {targets}: {error}") from error
