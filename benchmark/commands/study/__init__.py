"""The commands `featvis study …`."""

from benchmark.commands.study.analyse import analyse, power
from benchmark.commands.study.make import make
from benchmark.commands.study.serve import serve, status

STUDY = {"make": make, "serve": serve, "status": status, "analyse": analyse, "power": power}
"""By name."""
