"""jsonargparse's errors as one sentence of ours: what was wrong with which option, what was given, what would work."""

from __future__ import annotations

import functools
import inspect
import os
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NoReturn

from jsonargparse import ArgumentParser

from featvis.errors import UserError, either, nearest

KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text", "tuple": "a list"}
SWITCHES = ("--dry_run", "--spectrum", "--files_only", "--sign", "--render_only", "--check_only")
"""Flags that stand without a value."""
_KEY = re.compile(r'Parser key "([\w.\[\]-]+)":\s*')


def user_error(error: BaseException | None) -> UserError | None:
    """The UserError that an error was raised from, or None; jsonargparse wraps what a constructor raises."""
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__ or error.__context__
    return error


def sentence(message: str, spell: Callable[[str], str]) -> str:
    """A message of jsonargparse, in one sentence.

    Args:
        message: over any number of lines.
        spell: how the user writes a key.
    """
    text = " ".join(message.split())
    key, kinds = _KEY.search(text), _kinds(text)
    given = re.search(r"Given value:(.*)$", text) or re.search(r".*Got value:(.*)$", text)
    if key is not None and kinds and given is not None:
        value = given[1].strip()[:80] or "empty text"
        return f"{spell(key[1])} must be {kinds}, not {value}"
    if (missing := re.search(r"argument --([\w.-]+): expected one argument", text)) is not None:
        return f"{spell(missing[1])} needs a value"
    return _KEY.sub(lambda m: f"{spell(m[1])}: ", text).replace("Problems parsing config", spell("config"))


def _kinds(text: str) -> str:
    """The types that a message would have accepted, in words."""
    union = re.search(r"Subtypes: \[(.*?)\] Errors:", text)
    expected = re.search(r"Expected an? (.*?)\. Got value:", text)
    named = union or expected
    if named is None:
        return ""
    found = [KINDS[name] for name in re.findall(r"<class '(\w+)'>", named[1]) if name in KINDS]
    found += [f"a list of {m[1].count(',') + 1}" for m in re.finditer(r"tuple\[([^\]]*)\]", named[1])]
    found += [item for m in re.finditer(r"Literal\[([^\]]*)\]", named[1]) for item in m[1].replace("'", "").split(", ")]
    words = list(dict.fromkeys(found))
    return either(words)


class OneSentenceParser(ArgumentParser):
    """A parser whose errors are one sentence, raised as `UserError`. Options are spelled with dashes."""

    def spell(self, key: str) -> str:
        """An option as the user writes it; an argument without a flag in capitals, as the help has it."""
        flags = [flag for action in self._actions if action.dest == key for flag in action.option_strings]
        known = any(action.dest == key for action in self._actions)
        return key.upper() if known and not flags else f"--{key.replace('_', '-')}"

    def format_help(self, *args: Any, **kwargs: Any) -> str:
        """jsonargparse's, with options as they are written: with dashes, and switches without a value."""
        text = re.sub(rf"({'|'.join(SWITCHES)})\s+\{{true,false\}}", r"\1", super().format_help(*args, **kwargs))
        return re.sub(r"(?<![\w-])--([a-z]\w*)", lambda m: self.spell(m[1]), text)

    def options(self) -> list[str]:
        """Every option as the user writes it."""
        own = [a.dest for a in self._actions if a.option_strings]
        return [self.spell(k) for k in own if k not in ("help", "config", "print_config") and not k.endswith(".help")]

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the error that the user's arguments caused."""
        if (cause := user_error(ex)) is not None:
            raise cause
        text = " ".join(message.split())
        if (missing := re.search(r"following arguments are required: (.*)$", text)) is not None:
            # A command's own are named command.argument here, and have no flag.
            names = [n.rpartition(".")[2].upper() if "." in n else self.spell(n) for n in missing[1].split(", ")]
            is_are = "is" if len(names) == 1 else "are"
            raise UserError(f"{' and '.join(names)} {is_are} missing; see --help") from ex
        unknown = re.search(r"Key '([\w.-]+)' is not expected|[Uu]nrecognized arguments: (\S+)", text)
        if unknown is not None and unknown[2] is not None and not unknown[2].startswith("-"):
            raise UserError(f"unexpected argument {unknown[2]}: an option is written --name value") from ex
        if unknown is not None:
            option = (unknown[1] or unknown[2]).lstrip("-").split("=")[0]
            option = f"--{option}" if option.upper() == self.spell(option) else self.spell(option)
            raise UserError(f"unknown option {option}: {nearest(option, self.options())}") from ex
        raise UserError(sentence(message, self.spell)) from ex


FOLDERS = ("data", "frechet_data", "spectrum_data", "seen_data")
"""Flags that name something on this machine: a record keeps its name alone."""


_PLACE = re.compile(r"(?<=wrap:)[^,:]*/[^,:]*|(?<![^,:=])(?:~[^,:/]*|\.\.)?/(?!/)[^,:]*")
"""A path in an argument: that of a network's file, or one that leads out of the folder that a command runs in."""


def split(text: str | None) -> list[str]:
    """The items of a list written with commas."""
    return [item.strip() for item in (text or "").split(",") if item.strip()]


def command_line(command: str, flags: Mapping[str, Any], *words: str) -> str:
    """A command as a user writes it; flags that were not given, and where images lie on this machine, are left out.

    The file of a suite or of a network stays where it was named, because `featvis rerun` reads it; what is published
    goes through `without_places`.
    """
    spelled = ["featvis", command, *words]
    for key, value in flags.items():
        if value is not None:
            text = _named(str(value)) if key in FOLDERS else str(value)
            spelled += [f"--{key.replace('_', '-')}", shlex.quote(text)]
    return " ".join(spelled)


def _named(spec: str) -> str:
    """An image set without the place where it lies."""
    kind, slash, rest = spec.partition("/")
    if slash and kind in ("hfds", "wds"):
        return spec if kind == "hfds" and not rest.startswith(("/", ".")) else f"{kind}/{Path(rest).name}"
    return Path(spec).name or spec


@functools.lru_cache(maxsize=1024)
def without_places(command: str) -> str:
    """A command line for people elsewhere: of each file that it names the name alone, not where it lies here.

    Example:
        >>> from benchmark.arguments import without_places
        >>> without_places("featvis run --suite /home/me/x.yaml --model wrap:/home/me/net.yaml --units blocks.2:0-3")
        'featvis run --suite x.yaml --model wrap:net.yaml --units blocks.2:0-3'
    """
    try:
        words = shlex.split(command)
    except ValueError:  # of a record that somebody wrote by hand
        return command
    suites = (before == "--suite" for before in ["", *words])
    return shlex.join(Path(w).name if suite else names_alone(w) for w, suite in zip(words, suites, strict=False))


def names_alone(text: str) -> str:
    """A text, without the folders of the networks' files and of the places on this machine that it names.

    Example:
        >>> from benchmark.arguments import names_alone
        >>> names_alone("resnet50,wrap:nets/mine.yaml"), names_alone("direction:/home/me/probe.safetensors:3")
        ('resnet50,wrap:mine.yaml', 'direction:probe.safetensors:3')
    """
    return _PLACE.sub(lambda match: Path(match[0]).name, text)


def flags_of(command: str) -> dict[str, str]:
    """The flags of a command line that `command_line` made."""
    words = shlex.split(command)
    return {w[2:].replace("-", "_"): words[i + 1] for i, w in enumerate(words[:-1]) if w.startswith("--")}


WandbMode = Literal["offline", "online", "disabled"]
WANDB_MODES: dict[str, WandbMode] = {
    "offline": "offline", "online": "online", "disabled": "disabled", "dryrun": "offline", "run": "online",
}  # fmt: skip
"""What WANDB_MODE may say: W&B has two older names."""


def wandb_mode(given: WandbMode | None, default: WandbMode = "offline") -> WandbMode:
    """Whether and where a command logs: as `--wandb` says, else as W&B's own WANDB_MODE says.

    Args:
        given: the flag, or None.
        default: where neither says anything.

    Raises:
        UserError: for a WANDB_MODE that is none, or online without a key of W&B's, before anything is made.
    """
    said = os.environ.get("WANDB_MODE")
    if given is not None or not said:
        mode = given or default
    elif said in WANDB_MODES:
        mode = WANDB_MODES[said]
    else:
        raise UserError(f"WANDB_MODE must be offline, online or disabled, not {said}; --wandb goes before it")
    if mode == "online":
        import wandb

        os.environ.setdefault("WANDB_SILENT", "true")
        # Older versions would ask for one; there the first start says what is missing.
        quietly = "prompt" in inspect.signature(wandb.login).parameters
        if quietly and not wandb.login(prompt=False, verify=False):
            raise UserError(
                "--wandb online: Weights & Biases knows no account here; set WANDB_API_KEY, call `wandb login` once, "
                "or log offline"
            )
    return mode


def weights_line(network: Any) -> str:
    """Where the weights of a `Classifier` came from, for people."""
    return f"weights   {network.alias}: {network.source}"


def check_out(out: Path, suite: str | None = None) -> None:
    """Find out, writing nothing, whether a folder can be written and holds no other suite's records.

    Args:
        out: the folder, there or not.
        suite: whose records may be there; None: anything may.

    Raises:
        UserError: when it cannot.
    """
    there = next(p for p in (out, *out.absolute().parents) if p.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        reason = "is not a folder" if not there.is_dir() else "may not be written"
        raise UserError(f"--out {out} cannot be written ({there} {reason}); name a folder that can")
    if suite is not None and (out / "records").is_dir():
        from benchmark.records import record as records

        others = {r.suite for r in records.load_all(out / "records")} - {suite}
        if others:
            raise UserError(
                f"--out {out} holds the run of another suite ({', '.join(sorted(others))}); name another folder"
            )
