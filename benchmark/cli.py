"""featvis's commands: arguments in, exit code out. 0 done; 1 a cell failed or a check did not hold; 2 bad input.

Each command is a typed function, from which its flags and its help are made. What is wrong with the flags, and every
`--help`, is said before torch is imported: a command imports what needs torch after its checks alone.
"""

from __future__ import annotations

import itertools
import os
import re
import sys
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from jsonargparse import auto_cli

from benchmark import launch
from benchmark.arguments import SWITCHES, OneSentenceParser
from benchmark.commands.accentuate import accentuate
from benchmark.commands.attack import attack
from benchmark.commands.concepts import concepts
from benchmark.commands.evaluate import evaluate
from benchmark.commands.generate import generate
from benchmark.commands.invert import invert
from benchmark.commands.networks import layers, models
from benchmark.commands.perf import perf, perf_peers
from benchmark.commands.probe import probe
from benchmark.commands.records import agree, path, rerun, tables, verify
from benchmark.commands.reference import reference
from benchmark.commands.run import run
from benchmark.commands.site.make import site
from benchmark.commands.site.packs import merge, submit
from benchmark.commands.study import STUDY
from featvis.choice import chosen
from featvis.errors import UserError, full_disk, nearest
from featvis.storage.interrupt import WORKER, Stopped, stoppable

LONGEST = 160
"""Characters of a path that a message shows."""

WORDS = {"site": "--model", "merge": "--packs"}
"""The option that a command's words stand for, where there may be none or several of them."""

COMMANDS = {
    "run": run,
    "generate": generate,
    "evaluate": evaluate,
    "tables": tables,
    "agree": agree,
    "path": path,
    "verify": verify,
    "rerun": rerun,
    "reference": reference,
    "models": models,
    "layers": layers,
    "probe": probe,
    "invert": invert,
    "accentuate": accentuate,
    "concepts": concepts,
    "attack": attack,
    "perf": perf,
    "perf-peers": perf_peers,
    "study": STUDY,
    "site": site,
    "submit": submit,
    "merge": merge,
}


def main(args: Sequence[str] | None = None) -> int:
    """Run one command; its exit code. Errors of the user go to standard error, one sentence each."""
    given = list(sys.argv[1:] if args is None else args)
    try:
        with stoppable():
            return _command(given)
    except UserError as error:
        print(f"featvis: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader of our output (`| head`) has seen enough; Python would complain of it again at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if (text := full_disk(error)) is not None:
            print(f"featvis: {text}", file=sys.stderr)
            return 1
        if error.filename is None:
            raise
        name = str(error.filename)
        name = name if len(name) < LONGEST else f"{name[:LONGEST]}…"
        print(f"featvis: {name} cannot be used ({error.strerror}); name another, or let it be read", file=sys.stderr)
        return 2
    except (Stopped, KeyboardInterrupt) as error:
        if WORKER not in os.environ and os.environ.get("RANK", "0") == "0":
            print("featvis: stopped; what is finished stays, and the same command goes on from there", file=sys.stderr)
        return error.code if isinstance(error, Stopped) else 130


def _command(given: list[str]) -> int:
    if not {"--help", "-h"} & set(given):
        chosen()
    if not given:
        raise UserError(f"a command is missing: {', '.join(COMMANDS)}; see featvis --help")
    check_config(given)
    if given[:1] == ["generate"]:
        return generate(*given[1:])
    if given and given[0] in WORDS and (words := list(takewhile(lambda a: not a.startswith("-"), given[1:]))):
        given[1 : 1 + len(words)] = [WORDS[given[0]], ",".join(words)]
    # Flags are spelled with dashes; both spellings are read.
    given = [re.sub(r"^--[\w-]+", lambda m: "--" + m[0][2:].replace("-", "_"), a) for a in given]
    given = [
        f"{a}=true" if a in SWITCHES and b not in ("true", "false") else a
        for a, b in zip(given, [*given[1:], ""], strict=True)
    ]
    if not given[0].startswith("-") and given[0] not in COMMANDS:
        raise UserError(f"unknown command {given[0]}: {nearest(given[0], COMMANDS)}")
    commands: Any = COMMANDS
    result: Any = auto_cli(
        commands, args=given, as_positional=True, parser_class=OneSentenceParser, prog="featvis", allow_abbrev=False
    )
    return int(result or 0)


def check_config(given: Sequence[str]) -> None:
    """Raise a UserError for a `--config` that is no text, which no parser says."""
    for flag, follows in itertools.zip_longest(given, given[1:]):
        name, _, value = flag.partition("=")
        value = value or follows
        if name == "--config" and value and (path := Path(value)).is_file():
            try:
                path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                raise UserError(f"--config {value} is no text in UTF-8; name a YAML") from None


def entry_point() -> None:
    """The console script."""
    os.environ.update(launch.environment())
    launch.say_anything()
    launch.keep_freed()
    sys.exit(main())
