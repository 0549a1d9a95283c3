"""The scores: pure functions in `functional`, their intervals in `resampling`, one thin metric class a definition."""

from featvis.metrics.base import PerImage, Score
from featvis.metrics.distance import FrechetDistance, KernelDistance
from featvis.metrics.functional import (
    deep_knn,
    frechet_distance,
    kernel_distance,
    own_logit,
    plausibility,
    spectrum_deviation,
    top1,
)
from featvis.metrics.logits import LogitMagnitude, Transferability
from featvis.metrics.neighbours import Plausibility
from featvis.metrics.resampling import bootstrap
from featvis.metrics.spectrum import SpectrumDeviation

__all__ = [
    "FrechetDistance",
    "KernelDistance",
    "LogitMagnitude",
    "PerImage",
    "Plausibility",
    "Score",
    "SpectrumDeviation",
    "Transferability",
    "bootstrap",
    "deep_knn",
    "frechet_distance",
    "kernel_distance",
    "own_logit",
    "plausibility",
    "spectrum_deviation",
    "top1",
]
