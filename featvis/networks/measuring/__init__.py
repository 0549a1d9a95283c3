"""What a network's layers are, found by running it: shapes, channels, positions, and the ReLUs in between."""

from featvis.networks.measuring.moments import MOMENTS, moments_read
from featvis.networks.measuring.rectifiers import Rectifiers
from featvis.networks.measuring.shapes import measure, pools, runs

__all__ = ["MOMENTS", "Rectifiers", "measure", "moments_read", "pools", "runs"]
