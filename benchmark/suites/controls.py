"""Controls: rows of a suite that show what a method's scores are worth, `control: NAME` beside any preset."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from benchmark.records.seen import CONTROL, OTHER_SEED, RANDOM_NETWORK
from featvis.errors import UserError, nearest

WRONG, UNTOUCHED = "wrong images", "untouched seed"
CONTROLS = (RANDOM_NETWORK, WRONG, OTHER_SEED, UNTOUCHED)
"""The same method on the same architecture with random weights; with the images of another class; with another seed of
all random streams. And of a method that begins with an image: that image as it is, nothing optimised."""


def check_control(name: object, where: str) -> None:
    """Raise a UserError for a control that there is not.

    Args:
        name: as the suite has it.
        where: the file and the row, for the message.
    """
    if name not in CONTROLS:
        raise UserError(f"{where}.control is {name!r:.60}; {nearest(str(name), CONTROLS)}")


def named(sees: str, control: str | None) -> str:
    """What a row sees, with its control: so that controls stand below the methods, and are never the best of them.

    Example:
        >>> named("nothing", "random network"), named("nothing", None)
        ('nothing; control: random network', 'nothing')
    """
    return f"{sees}{CONTROL}{control}" if control else sees


def arguments_of(
    control: str | None, arguments: Mapping[str, Any], method: str, known: Collection[str]
) -> dict[str, Any]:
    """A row's arguments, changed as its control says.

    Args:
        control: its name, or None.
        arguments: of the generator.
        method: the row, for messages.
        known: what the generator takes.

    Raises:
        UserError: for images that the method does not see or begin with.
    """
    changed = dict(arguments)
    if control == RANDOM_NETWORK:
        # Its seed is 0 (`featvis.networks.loading`), whatever the suite's: the network is not what varies.
        changed["model"] = f"random:{arguments['model']}"
    elif control == OTHER_SEED:
        changed["seed"] = int(arguments["seed"]) + 1
    elif control == WRONG:
        if "whose" not in known:
            raise UserError(f"methods.{method}: the control {WRONG} is for methods that see images of the class")
        changed["whose"] = "next"
    elif control == UNTOUCHED:
        if "untouched" not in known:
            raise UserError(f"methods.{method}: the control {UNTOUCHED} is for methods that begin with an image")
        changed["untouched"] = True
    return changed
