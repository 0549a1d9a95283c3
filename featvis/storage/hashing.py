"""What names a configuration or a file: plain data, or a path, in; 12 hex digits out. No torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from featvis.errors import UserError


def canonical(data: Any, what: str = "the configuration") -> str:
    """The one JSON text of plain data: keys sorted, no spaces.

    Args:
        data: JSON values.
        what: it is called in the message.

    Raises:
        UserError: for what JSON has no notation for, NaN and infinity included.

    Example:
        >>> canonical({"b": 1, "a": [True, None]})
        '{"a":[true,null],"b":1}'
    """
    try:
        return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UserError(f"{what[0].upper()}{what[1:]} cannot be written as JSON: {error}.") from None


def config_hash(config: Mapping[str, Any]) -> str:
    """12 hex digits of the SHA-256 of a configuration's canonical JSON; the order of keys does not matter.

    Raises:
        UserError: see `canonical`.

    Example:
        >>> config_hash({"steps": 8, "lr": 1.0}) == config_hash({"lr": 1.0, "steps": 8})
        True
    """
    return hashlib.sha256(canonical(config).encode("utf-8", "surrogateescape")).hexdigest()[:12]


def file_hash(path: Path) -> str:
    """12 hex digits of the SHA-256 of a file's bytes.

    Raises:
        OSError: when it cannot be read.

    Example:
        >>> from pathlib import Path
        >>> size = Path("empty").write_bytes(b"")
        >>> file_hash(Path("empty"))
        'e3b0c44298fc'
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]
