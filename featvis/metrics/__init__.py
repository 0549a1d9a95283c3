"""The scores: pure functions in `functional`, resampled intervals in `resampling`, a thin class a definition."""

from featvis.metrics.base import PerImage, Score
from featvis.metrics.clip import ClipDistance, ZeroShot
from featvis.metrics.distance import FrechetDistance, KernelDistance, SphereDistance
from featvis.metrics.functional.clip import cmmd, zero_shot
from featvis.metrics.functional.distance import frechet_distance, kernel_distance
from featvis.metrics.functional.logits import own_logit, top1
from featvis.metrics.functional.nearest import deep_knn, plausibility
from featvis.metrics.functional.spectrum import periodic_share, spectrum_deviation
from featvis.metrics.functional.sphere import sphere_distance, sphere_precision, unit_length
from featvis.metrics.logits import LogitMagnitude, Transferability
from featvis.metrics.neighbours import Plausibility
from featvis.metrics.resampling import bootstrap
from featvis.metrics.spectrum import SpectrumDeviation
from featvis.metrics.units import (
    DeadShare,
    ExcessActivation,
    Identification,
    PerUnit,
    SeedDiversity,
    TransferPercentile,
    TwoAlternatives,
)

__all__ = [
    "ClipDistance",
    "DeadShare",
    "ExcessActivation",
    "FrechetDistance",
    "Identification",
    "KernelDistance",
    "LogitMagnitude",
    "PerImage",
    "PerUnit",
    "Plausibility",
    "Score",
    "SeedDiversity",
    "SpectrumDeviation",
    "SphereDistance",
    "TransferPercentile",
    "Transferability",
    "TwoAlternatives",
    "ZeroShot",
    "bootstrap",
    "cmmd",
    "deep_knn",
    "frechet_distance",
    "kernel_distance",
    "own_logit",
    "periodic_share",
    "plausibility",
    "spectrum_deviation",
    "sphere_distance",
    "sphere_precision",
    "top1",
    "unit_length",
    "zero_shot",
]
