"""The one exception that a user's input can cause: text in, one sentence out."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Sequence


class UserError(ValueError):
    """Bad input. The message is one sentence: what was wrong, and what would work (exit code 2)."""


class Unreachable(UserError):
    """A network whose weights are neither here nor can be downloaded now; nothing is wrong with its name.

    Args:
        reason: why.
        ways_out: what would help.
    """

    def __init__(self, reason: str, ways_out: str) -> None:
        super().__init__(f"{reason}: {ways_out}")
        self.reason = reason


def full_disk(error: BaseException) -> str | None:
    """What to say where a write failed because there is no room; None for any other error."""
    if not isinstance(error, OSError) or error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return None
    where = f" for {error.filename}" if error.filename else ""
    return (
        f"there is no room{where} ({error.strerror}); what is finished is safe and nothing is half-written: "
        "make room and run the same command again"
    )


MOST = 24
"""Names that are listed where none is close."""


def either(words: Sequence[str]) -> str:
    """What would work, in words.

    Example:
        >>> from featvis.errors import either
        >>> either(["a number", "a text", "null"])
        'a number, a text or null'
    """
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def nearest(word: str, known: Iterable[str], n: int = 3) -> str:
    """The known names closest to `word`, as the end of a sentence.

    Args:
        word: what was given.
        known: every name that would have worked.
        n: how many to name at most.

    Returns:
        `"did you mean a, b?"`, or, where nothing is close, the first few that exist.
    """
    names = list(dict.fromkeys(known))
    lowered = {name.lower(): name for name in reversed(names)}
    close = difflib.get_close_matches(word.lower(), lowered, n=n, cutoff=0.5)
    if close:
        return "did you mean " + ", ".join(lowered[c] for c in close) + "?"
    if not names:
        return "there is none to choose from"
    shown = ", ".join(names[:MOST])
    return f"choose one of {shown}" + (f" … ({len(names)} in all)" if len(names) > MOST else "")
