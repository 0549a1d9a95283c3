"""Non-negative factors of activations: A (P, C) in, U (P, K) and W (K, C) out (CRAFT, Fel et al. 2023, section 3.1)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from sklearn.decomposition import NMF, non_negative_factorization
from sklearn.exceptions import ConvergenceWarning

Array = NDArray[np.float32]
_ROUNDS = 1000


@dataclass(frozen=True)
class Factors:
    """A non-negative factorisation A ~ U W of P rows.

    Attributes:
        coefficients: U, (P, K), >= 0, in the unit of the activations, because the rows of W have length 1.
        vectors: W, (K, C), >= 0.
        error: |A - U W| / |A|, Frobenius norms, 0 to 1.
        explained: share of the variance of A that U W explains; 1 is all, below 0 is worse than A's mean.
    """

    coefficients: Array
    vectors: Array
    error: float
    explained: float

    def project(self, rows: Array) -> Array:
        """The coefficients (M, K), >= 0, of further rows (M, C), >= 0: non-negative least squares, W fixed.

        Example:
            >>> import numpy as np
            >>> from featvis.concepts.factors import Factors
            >>> factors = Factors(np.eye(2, dtype=np.float32), np.eye(2, 3, dtype=np.float32), error=0.0, explained=1.0)
            >>> factors.project(np.array([[5.0, 0.0, 0.0]], np.float32)).round(3).tolist()
            [[5.0, 0.0]]
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            found, _, _ = non_negative_factorization(
                rows, H=self.vectors, n_components=len(self.vectors), update_H=False, max_iter=_ROUNDS
            )
        return found


def factorise(rows: Float[np.ndarray, "p c"], concepts: int = 10, seed: int = 0) -> Factors:
    """Non-negative matrix factorisation (section 3.1, equation 1), by scikit-learn's coordinate descent.

    Args:
        rows: A, (P, C), >= 0.
        concepts: K, at most min(P, C). Factors that vanish, where A has fewer, are left out.
        seed: of the starting point.

    Example:
        >>> import numpy as np
        >>> from featvis.concepts.factors import factorise
        >>> rows = np.array([[2.0, 0.0, 0.0], [0.0, 3.0, 4.0], [2.0, 3.0, 4.0]], np.float32)  # two concepts, and both
        >>> factors = factorise(rows, concepts=2)
        >>> factors.vectors.shape, bool(np.allclose(factors.coefficients @ factors.vectors, rows, atol=0.01))
        ((2, 3), True)
    """
    model = NMF(concepts, init="nndsvda", max_iter=_ROUNDS, random_state=seed)
    with warnings.catch_warnings():
        # Its error is reported; rounds that end above the tolerance are no cause for alarm.
        warnings.simplefilter("ignore", ConvergenceWarning)
        coefficients = model.fit_transform(rows)
    lengths = np.linalg.norm(model.components_, axis=1)
    there = (lengths > 0) & (coefficients.max(0) > 0)
    lengths = lengths[there]
    coefficients, vectors = coefficients[:, there] * lengths, model.components_[there] / lengths[:, None]
    left = np.square(rows - coefficients @ vectors).sum()
    return Factors(
        coefficients.astype(np.float32),
        vectors.astype(np.float32),
        float(np.sqrt(left / max(np.square(rows).sum(), 1e-12))),
        float(1 - left / max(np.square(rows - rows.mean(0)).sum(), 1e-12)),
    )
