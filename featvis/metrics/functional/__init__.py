"""What every number means: pure functions, tensors in, tensors out.

In: features `(n, d)`, logits `(n, c)` or magnitude spectra `(3, H, W // 2 + 1)` of a network's view of `n` images,
float32 or float64, and the same of a reference ("bank"). Out: float64, one score an image `(n,)` or one scalar, on
the features' device. Nothing here sees an image: each network is run once, and every metric reads what it gave.
"""

from featvis.metrics.functional.clip import cmmd, zero_shot
from featvis.metrics.functional.distance import frechet_distance, kernel_distance
from featvis.metrics.functional.logits import own_logit, top1
from featvis.metrics.functional.nearest import deep_knn, plausibility
from featvis.metrics.functional.path import path_similarity
from featvis.metrics.functional.spectrum import periodic_share, spectrum_deviation
from featvis.metrics.functional.sphere import sphere_distance, sphere_precision, unit_length

__all__ = [
    "cmmd",
    "deep_knn",
    "frechet_distance",
    "kernel_distance",
    "own_logit",
    "path_similarity",
    "periodic_share",
    "plausibility",
    "spectrum_deviation",
    "sphere_distance",
    "sphere_precision",
    "top1",
    "unit_length",
    "zero_shot",
]
