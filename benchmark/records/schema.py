"""Plain JSON or YAML data in, a typed dataclass out, or one sentence that names the file and the key."""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from collections.abc import Sequence
from typing import Any, Literal

from featvis.errors import UserError, nearest

FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
"""What a suite, a network and a row may be called: their names become parts of file names."""


def as_file_name(text: str, otherwise: str) -> str:
    """A name after `FILE_NAME` for what people called as they liked; `otherwise` where nothing of theirs is left.

    Example:
        >>> as_file_name("my best pictures", "folder"), as_file_name("図", "folder")
        ('my_best_pictures', 'folder')
    """
    return re.sub(r"[^A-Za-z0-9_.+-]", "_", text).strip("_.+-") or otherwise


def parse(kind: type, data: Any, source: str) -> Any:
    """`data` as the dataclass `kind`, whose annotations are the schema.

    Args:
        kind: a dataclass of str, int, float, bool, Any, Literal, tuples, dicts, optionals and further dataclasses.
        data: what a JSON or YAML reader gave.
        source: the file's name, for messages.

    Raises:
        UserError: an unknown or missing key, a wrong type, or a number that is not finite.
    """
    return parse_value(kind, data, source, "")


def parse_value(kind: Any, value: Any, source: str, key: str) -> Any:
    """`value` as the annotated type `kind`, or a UserError with file and key; a dataclass by its annotations."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        _finite(value, source, key)
        return value
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        return parse_value(next(a for a in arguments if a is not type(None)), value, source, key)
    if origin is Literal:
        if not any(value == a and type(value) is type(a) for a in arguments):
            raise UserError(f"{source}: {key} is {value!r}, but must be {' or '.join(map(repr, arguments))}.")
        return value
    if dataclasses.is_dataclass(kind):
        return _record(kind, value, source, key)
    if origin is tuple:
        open_ended = arguments[-1] is Ellipsis
        if not isinstance(value, (list, tuple)) or not (open_ended or len(value) == len(arguments)):
            expected = "a list" if open_ended else f"a list of {len(arguments)}"
            raise UserError(f"{source}: {key} is {value!r:.60}, but must be {expected}.")
        if open_ended and _plain(arguments[0], value):
            return tuple(value)
        kinds = [arguments[0]] * len(value) if open_ended else arguments
        pairs = enumerate(zip(kinds, value, strict=True))
        return tuple(parse_value(k, v, source, f"{key}[{i}]") for i, (k, v) in pairs)
    if origin is dict:
        if not isinstance(value, dict):
            raise UserError(f"{source}: {key} is {value!r:.60}, but must be an object.")
        if wrong := [k for k in value if not isinstance(k, arguments[0])]:
            raise UserError(f"{source}: {key} has the key {wrong[0]!r}, but its keys must be texts.")
        return {k: parse_value(arguments[1], v, source, f"{key}.{k}") for k, v in value.items()}
    # bool is an int to Python, not to a reader; an integer is a fine float.
    fits = isinstance(value, (int, float) if kind is float else kind) and (kind is bool or not isinstance(value, bool))
    if not fits:
        names = {float: "a number", int: "an integer", str: "a text", bool: "true or false"}
        raise UserError(f"{source}: {key} is {value!r:.60}, but must be {names[kind]}.")
    if kind is float:
        _finite(value, source, key)
        return float(value)
    return value


def _plain(kind: Any, values: Sequence[Any]) -> bool:
    """Whether a list is as it should be at a glance: the scores of each unit are most of a file."""
    if kind is str:
        return all(type(v) is str for v in values)
    optional = kind == float | None
    return (optional or kind is float) and all(
        (type(v) is float and math.isfinite(v)) or (optional and v is None) for v in values
    )


def _record(kind: Any, value: Any, source: str, key: str) -> Any:
    prefix = f"{key}." if key else ""
    if not isinstance(value, dict):
        raise UserError(f"{source}: {key or 'the file'} is {value!r:.60}, but must be an object.")
    hints = typing.get_type_hints(kind)
    for name in value:
        if name not in hints:
            raise UserError(f"{source}: unknown key {prefix}{name}; {nearest(str(name), hints)}")
    required = {f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING} | (
        {"schema"} & set(hints)
    )
    for name in sorted(required - set(value)):
        raise UserError(f"{source}: {prefix}{name} is missing.")
    return kind(**{name: parse_value(hints[name], value[name], source, f"{prefix}{name}") for name in value})


def _finite(value: Any, source: str, key: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{source}: {key} is {value}; an absent number is null, with its reason.")
    if isinstance(value, dict):
        for name, item in value.items():
            _finite(item, source, f"{key}.{name}")
    if isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            _finite(item, source, f"{key}[{i}]")
