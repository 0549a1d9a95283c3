"""`python -m benchmark` is the console script `featvis`."""

from benchmark.cli import entry_point

entry_point()
