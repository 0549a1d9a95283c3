"""The command `featvis generate`."""

from __future__ import annotations


def generate(*args: str) -> int:
    """One cell: a generator, units and a folder in, one PNG a unit out (LightningCLI; `featvis generate --help`)."""
    from benchmark.running.generate import main as generate_main

    return generate_main(list(args))
