"""The rows of a suite: presets and class paths in, generators out."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

from benchmark.arguments import sentence
from benchmark.suites.controls import arguments_of
from benchmark.suites.presets import read_preset
from benchmark.suites.suite import Suite
from featvis.errors import UserError, nearest
from featvis.generators import Generator
from featvis.generators.arguments import accepted
from featvis.paths import importable


def build(
    method: str, values: Mapping[str, Any], suite: Suite, options: Mapping[str, Any], natural: Path | None = None
) -> tuple[Generator, str | None, str]:
    """The generator of a row of a suite, its preset's name and its class path.

    `natural` is the folder of the spectrum that a method keeps, where it is not the embedded one.

    Raises:
        UserError: for an unknown preset, class or argument, with the nearest names.
    """
    given = dict(values)
    preset, class_path = given.pop("preset", None), given.pop("class_path", None)
    given.pop("transparency", None)
    control = given.pop("control", None)
    if class_path is None and preset is None and "." in method:
        class_path = method
    arguments: dict[str, Any] = {}
    if class_path is None:
        preset = preset or method
        class_path, arguments = read_preset(preset)
    arguments |= given | {k: v for k, v in options.items() if v is not None}
    arguments |= {"model": suite.model, "seed": suite.seed}
    cls = find_class(class_path)
    known = accepted(cls)
    if natural is not None and "spectrum" in known:
        arguments["spectrum"] = str(natural)
    if suite.seen_data is not None and "images" in known:
        arguments["images"] = suite.seen_data
    for key in given:
        if key in ("model", "seed"):
            raise UserError(f"methods.{method}: {key} is the whole suite's; write it beside methods, not into it")
        if key not in known:
            raise UserError(f"methods.{method}: {cls.__name__} takes no {key}; {nearest(str(key), known)}")
    arguments = arguments_of(control, arguments, method, known)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls, "generator", fail_untyped=False)
    try:
        generator = parser.instantiate_classes(parser.parse_object({"generator": arguments})).generator
    except UserError as error:
        raise UserError(f"{error} (method {method})") from error
    except ArgumentError as error:
        text = sentence(str(error), lambda key: f"methods.{method}.{key.removeprefix('generator.')}")
        raise UserError(text) from error
    return generator, preset if values.get("class_path") is None and "." not in method else None, class_path


def find_class(class_path: str) -> type[Generator]:
    """The generator class of a path such as `featvis.generators.MACO`; the current folder counts as importable.

    Raises:
        UserError: when it cannot be imported or is no Generator.
    """
    module, _, name = class_path.rpartition(".")
    importable(Path.cwd())
    try:
        if not module or module.startswith("."):
            raise ImportError("no module in front of the last dot")
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"the method {class_path} (--methods) cannot be imported ({error}); name a class as module.Class"
        ) from error
    if not (inspect.isclass(found) and issubclass(found, Generator)):
        raise UserError(
            f"the method {class_path} (--methods) is no subclass of featvis.generators.Generator; name one that is"
        )
    return found
