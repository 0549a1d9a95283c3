"""What a generator is made with: noted when it is made, checked against its annotations."""

from __future__ import annotations

import importlib
import inspect
import math
import operator
import os
import re
import sys
from collections.abc import Iterator, Sequence
from numbers import Real
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import lightning

from featvis.errors import UserError, either


class NotesArguments(type(lightning.LightningModule)):  # type: ignore[misc]
    """Notes what a generator is made with: Lightning's own way of finding that out fails behind decorators."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """An instance, which knows its arguments."""
        hints = _hints(cls)
        named = [fitted(name, value, hints.get(name, Any)) for name, value in zip(_names(cls), args, strict=False)]
        args = (*named, *args[len(named) :])
        kwargs = {name: fitted(name, value, hints.get(name, Any)) for name, value in kwargs.items()}
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
    """The arguments that a generator class takes, and its bases as far as they are handed on (`**kwargs`)."""
    parameters = [p for init in _inits(cls) for p in list(inspect.signature(init).parameters.values())[1:]]
    return list(dict.fromkeys(p.name for p in parameters if p.kind is not p.VAR_KEYWORD))


def _inits(cls: type) -> Iterator[Any]:
    """The constructors that what a class is made with reaches, its own first."""
    for base in cls.__mro__:
        if isinstance(base, NotesArguments) and "__init__" in vars(base):
            init = vars(base)["__init__"]
            yield init
            if all(p.kind is not p.VAR_KEYWORD for p in inspect.signature(init).parameters.values()):
                return


def _hints(cls: type) -> dict[str, Any]:
    """The types of the arguments, but of `model`: whatever a class says of it, it may be given a classifier."""
    found: dict[str, Any] = {"model": Any}
    for init in _inits(cls):
        try:
            found = get_type_hints(init) | found
        except Exception:  # anyone's annotations may say anything, or what is there for type checkers alone
            continue
    return found


KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", type(None): "null"}


def fitted(name: str, value: Any, hint: Any) -> Any:
    """A value as its annotation has it: numbers and paths of any library as Python's own, lists as tuples.

    Args:
        name: for the message.
        value: what was given; None, and what is not finite, is checked elsewhere.
        hint: the annotation: of texts, numbers, true or false, tuples and literals; anything else is not checked.

    Raises:
        UserError: for another type or number of values, or one that is not among those of a literal.

    Example:
        >>> import numpy as np
        >>> from featvis.generators.arguments import fitted
        >>> fitted("canvas", [np.int64(32), 48], int | tuple[int, int])
        (32, 48)
        >>> fitted("canvas", (32,), int | tuple[int, int])
        Traceback (most recent call last):
        featvis.errors.UserError: canvas must be a whole number or 2 values, each a whole number, not (32,)
    """
    if value is None:
        return None
    try:
        return _fit(value, hint)
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"{name} must be {_words(hint)}, not {value!r:.60}") from None


def _fit(value: Any, hint: Any) -> Any:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        for one in inner:
            try:
                return _fit(value, one)
            except (TypeError, ValueError):
                continue
        raise TypeError
    if origin is Literal:
        if value not in inner:
            raise ValueError
    elif origin is tuple:
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise TypeError
        each = [inner[0]] * len(value) if inner[-1] is Ellipsis else inner
        return tuple(_fit(v, one) for v, one in zip(value, each, strict=True))
    elif hint is str:
        return os.fspath(value)
    elif hint in (int, float):
        if isinstance(value, bool) or not (hint is int or isinstance(value, Real)):
            raise TypeError
        # 1 and 1.0 are one configuration; what is published has 1.0.
        return operator.index(value) if hint is int else float(value)
    elif hint in KINDS and not isinstance(value, hint):
        raise TypeError
    return value


def _words(hint: Any) -> str:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        words = [_words(one) for one in inner]
    elif origin is Literal:
        words = list(map(str, inner))
    elif origin is tuple:
        count = "any number of" if inner[-1] is Ellipsis else len(inner)
        words = [f"{count} values, each {_words(inner[0])}"]
    else:
        words = [KINDS.get(hint, str(hint))]
    return either(words)


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
    return found | dict(zip(_names(cls), args, strict=False)) | kwargs


def _names(cls: Any) -> list[str]:
    return list(inspect.signature(cls.__init__).parameters)[1:]


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
