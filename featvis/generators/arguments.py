"""What a generator is made with: noted when it is made, checked against its annotations."""

from __future__ import annotations

import importlib
import inspect
import math
import re
import sys
from collections.abc import Sequence
from typing import Any

import lightning

from featvis.errors import UserError


class NotesArguments(type(lightning.LightningModule)):  # type: ignore[misc]
    """Notes what a generator is made with: Lightning's own way of finding that out fails behind decorators."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """An instance, which knows its arguments."""
        arguments = _arguments(cls, args, kwargs)
        _check_values(cls, arguments)
        self: Any = cls.__new__(cls, *args, **kwargs)
        object.__setattr__(self, "_arguments", arguments)
        self.__init__(*args, **kwargs)
        return self


PUBLIC = "featvis.generators"
"""Where the methods that come with featvis are imported from, whatever module they are written in."""


def public_name(cls: type) -> str:
    """How a class is imported: a configuration's name must not change because a file was moved."""
    public = _exported(cls.__qualname__) is cls
    return f"{PUBLIC if public else cls.__module__}.{cls.__qualname__}"


def _exported(name: str) -> Any:
    return getattr(sys.modules.get(PUBLIC), name, None)


def public_path(class_path: str) -> str:
    """A class path of a record as `public_name` writes it: before 0.2 it named the module that a method was in.

    Example:
        >>> public_path("featvis.generators.maco.MACO"), public_path("my_file.Mine")
        ('featvis.generators.MACO', 'my_file.Mine')
    """
    match = re.fullmatch(r"featvis\.(?:generators\.\w+|attacks|inversion)\.(\w+)", class_path)
    return f"{PUBLIC}.{match[1]}" if match is not None and _exported(match[1]) else class_path


def accepted(cls: type) -> list[str]:
    """The arguments that a generator class takes, its bases' included."""
    names: dict[str, None] = {}
    for base in cls.__mro__:
        if isinstance(base, NotesArguments) and "__init__" in vars(base):
            for name, parameter in inspect.signature(vars(base)["__init__"]).parameters.items():
                if name != "self" and parameter.kind is not parameter.VAR_KEYWORD:
                    names[name] = None
    return list(names)


def class_at(class_path: str) -> Any:
    """What a path such as `featvis.generators.MACO` names."""
    module, _, name = class_path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _arguments(cls: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Every argument of a class's constructors, its bases' included: the defaults, and what was given over them."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if isinstance(base, NotesArguments) and "__init__" in vars(base):
            parameters = list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]
            found |= {p.name: p.default for p in parameters if p.default is not p.empty}
    names = list(inspect.signature(cls.__init__).parameters)[1:]
    return found | dict(zip(names, args, strict=False)) | kwargs


def _check_values(cls: Any, arguments: dict[str, Any]) -> None:
    """Raise a UserError for a null where the annotation has none, and for a number that is not finite."""
    seen: set[str] = set()
    for base in cls.__mro__:
        if isinstance(base, NotesArguments) and "__init__" in vars(base):
            for name, parameter in inspect.signature(vars(base)["__init__"]).parameters.items():
                if name in seen:
                    # A method may take a null where its base does not.
                    continue
                seen.add(name)
                kind = str(parameter.annotation)
                typed = parameter.annotation is not parameter.empty and not any(
                    n in kind for n in ("None", "Optional", "Any")
                )
                if typed and name in arguments and arguments[name] is None:
                    raise UserError(f"{name} must not be null; leave it out to have its default")
    for name, value in arguments.items():
        for number in value if isinstance(value, list | tuple) else (value,):
            if isinstance(number, float) and not math.isfinite(number):
                raise UserError(f"{name} must be finite, not {value}")
