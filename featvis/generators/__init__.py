"""The methods: each a LightningModule that turns units into images."""

from featvis.generators.am import AM
from featvis.generators.attack import Attack
from featvis.generators.base import Generator
from featvis.generators.cbr import CBR
from featvis.generators.fourier import Fourier
from featvis.generators.inversion import Inversion
from featvis.generators.maco import MACO
from featvis.generators.rivals.accentuation import Accentuation
from featvis.generators.rivals.das import DAS
from featvis.generators.rivals.deepinversion import DeepInversion
from featvis.generators.rivals.seeded import SeededAccentuation
from featvis.generators.rivals.vital import VITAL
from featvis.generators.state import Visualizations

__all__ = [
    "AM",
    "CBR",
    "DAS",
    "MACO",
    "VITAL",
    "Accentuation",
    "Attack",
    "DeepInversion",
    "Fourier",
    "Generator",
    "Inversion",
    "SeededAccentuation",
    "Visualizations",
]
