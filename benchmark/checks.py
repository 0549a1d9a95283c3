"""What can be known to be wrong with a command before torch is imported: options in; nothing, or a UserError, out.

What needs the network, a class of the user's, or the images themselves is found later, by the code that uses them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmark.arguments import FOLDERS, check_out, split
from benchmark.records import columns
from benchmark.suites import suite as suites
from benchmark.suites.presets import own_methods, read_preset
from featvis.data import imagenette
from featvis.errors import UserError, nearest
from featvis.limits import check_limit
from featvis.networks.names import check_name, weights_directory
from featvis.networks.own import wrap
from featvis.paths import importable


def check_networks(names: Iterable[str], flag: str) -> None:
    """Refuse a name that is no alias, no local file, no `wrap:FILE` that can be read, and no timm tag."""
    weights_directory()
    for name in names:
        if name.startswith(wrap.PREFIX):
            wrap.read(name, flag)
        else:
            check_name(name, flag)


def check_method(name: str, values: Mapping[str, Any] | None = None) -> None:
    """Refuse a row of a suite whose preset does not exist, or whose class certainly does not.

    Args:
        name: the row's.
        values: what the suite says of it.
    """
    given = values or {}
    class_path, preset = given.get("class_path"), given.get("preset")
    if class_path is None and preset is None and "." in name:
        class_path = name
    if class_path is None:
        class_path, _ = read_preset(preset or name)
    check_class(class_path)


def check_class(class_path: str, flag: str = "--methods") -> None:
    """Refuse a class path whose package is not there, or that names a class of featvis's own which is none."""
    module, _, name = class_path.rpartition(".")
    top = module.partition(".")[0]
    importable(Path.cwd())
    reason = None
    try:
        if not top:
            reason = "no module in front of the last dot"
        elif importlib.util.find_spec(top) is None:
            reason = f"there is no module {top}"
        elif module == "featvis.generators" and name not in ("Generator", "Visualizations", *own_methods()):
            reason = f"featvis.generators has no {name}; {nearest(name, own_methods())}"
    except (ImportError, ValueError) as error:
        reason = str(error)
    if reason is not None:
        raise UserError(f"the method {class_path} ({flag}) cannot be imported ({reason}); name a class as module.Class")


def check_images(spec: str | None, flag: str) -> None:
    """Refuse a folder of images that is not there; Imagenette is fetched where it is opened."""
    if spec is None or spec.startswith(("hfds/", "wds/", "hfids/", "tfds/", "torch/")):
        return
    if Path(spec).is_dir():
        return
    if spec == imagenette.NAME and flag not in ("FOLDER", "--images"):
        imagenette.source(flag)
        return
    raise UserError(f"{flag} {spec} is not a folder; name one with images in it (one folder a class, named by synset)")


def check_apart(folder: str, out: str) -> None:
    """Refuse an `--out` in the folder whose images are read: those written there would be read as its own."""
    if Path(out).resolve().is_relative_to(Path(folder).resolve()):
        raise UserError(
            f"--out {out} lies in FOLDER {folder}, whose images those written there would become; name a folder "
            "elsewhere with --out"
        )


def check_pictures(images: str | None) -> None:
    """Refuse `--images` that is missing, or names nothing."""
    if images is None:
        raise UserError("--images is missing; name a folder of images, or one image")
    if not Path(images).is_file():
        check_images(images, "--images")


def check_photographs(
    images: str | None, limit: int | None, model: str, out: str, command: str, **budget: int | None
) -> Path:  # fmt: skip
    """Refuse what is wrong with a command that makes something of each photograph; where the photographs are.

    Args:
        images: `--images`.
        limit: `--limit`.
        model: one network or several.
        out: folder of everything.
        command: whose folder that is.
        budget: see `check_budget`.
    """
    check_pictures(images)
    check_budget(**budget)
    if limit is not None and limit < 1:
        raise UserError(f"--limit must be at least 1, not {limit}")
    check_models(model)
    check_out(Path(out), command)
    return Path(str(images))


def check_metrics(groups: Iterable[str]) -> None:
    """Refuse a group of metrics that there is not."""
    columns.check(groups, "--metrics")


def check_models(text: str) -> None:
    """Refuse a list of networks that is empty, or names one that there is not."""
    if not split(text):
        raise UserError("MODEL is empty; name one, for example efficientnet_lite0")
    check_networks(split(text), "MODEL")


def check_budget(**values: int | None) -> None:
    """Refuse numbers outside of `featvis.limits.LIMITS`, whose keys the arguments are named by."""
    for name, value in values.items():
        check_limit(name, value)


def check_run(path: str, flags: Mapping[str, Any], devices: int, out: str | None) -> None:
    """Refuse what is wrong with `featvis run`'s suite and the flags over it.

    Args:
        path: of the suite, or its name.
        flags: as the command has them, None where they were not given.
        devices: how many.
        out: folder of the run, or None.
    """
    check_budget(
        devices=devices, steps=flags["steps"], views=flags["crops"], canvas=flags["canvas"],
        batch_size=flags["batch_size"],
    )  # fmt: skip
    name, suite, _ = suites.read_with(path, flags)
    check_limit("batch_size", suite.batch_size)
    for method, row in suite.methods.items():
        check_method(method, row)
    check_networks([suite.model], "--model")
    check_networks(suite.classifiers, f"classifiers of --suite {name}:")
    check_networks([suite.frechet], f"frechet of --suite {name}:")
    check_networks(suite.observers or (), f"observers of --suite {name}:")
    for key in FOLDERS:
        check_images(getattr(suite, key), f"--{key.replace('_', '-')}")
    check_out(Path(out or "runs"))
