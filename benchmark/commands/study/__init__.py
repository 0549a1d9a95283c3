"""The commands `featvis study …`."""

from benchmark.commands.study.analyse import analyse, power
from benchmark.commands.study.make import make
from benchmark.commands.study.serve import serve, status

STUDY = {
    "_help": "The human study of Fel et al. 2023, section 4.1: make it, serve it, analyse its answers.",
    "make": make,
    "serve": serve,
    "status": status,
    "analyse": analyse,
    "power": power,
}
"""By name; `_help` is what the list of commands says of them all."""
