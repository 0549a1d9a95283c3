"""Things near each other that are alike: rows of numbers in, places from 0 to 1 in one or two dimensions out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

Array = NDArray[np.float64]
FEWEST = 12
"""Rows below which neighbours say little, and principal components are taken."""
NEIGHBOURS = 15


def principal(rows: Array, dimensions: int) -> Array:
    """The first principal components, each scaled to 0..1; zeros where the rows do not differ so much.

    Args:
        rows: (n, d).
        dimensions: how many.

    Returns:
        (n, dimensions).

    Example:
        >>> import numpy as np
        >>> from benchmark.site.making.embedding import principal
        >>> places = principal(np.array([[0.0, 0.0], [1.0, 1.0], [4.0, 4.0]]), 1)[:, 0]
        >>> abs(places - places[0]).round(2).tolist()
        [0.0, 0.25, 1.0]
    """
    found = np.zeros((len(rows), dimensions))
    count = min(dimensions, *rows.shape)
    if count and len(rows) > 1 and rows.std(axis=0).any():
        found[:, :count] = PCA(count, svd_solver="full").fit_transform(rows)
    return _scaled(found)


def embed(rows: Array, dimensions: int, seed: int = 0) -> tuple[Array, str]:
    """Places by UMAP (McInnes et al. 2018) on the cosine, or where it is not installed by principal components.

    Args:
        rows: (n, d).
        dimensions: 1 or 2.
        seed: of UMAP.

    Returns:
        (n, dimensions) from 0 to 1, and the method's name for people.
    """
    if len(rows) >= FEWEST:
        try:
            from umap import UMAP
        except ImportError:
            name = "principal components, because the package umap-learn is not installed"
            return principal(rows, dimensions), name
        near = min(NEIGHBOURS, len(rows) - 1)
        made = UMAP(n_neighbors=near, n_components=dimensions, metric="cosine", random_state=seed, n_jobs=1)
        return _scaled(np.asarray(made.fit_transform(rows), dtype=np.float64)), "UMAP"
    return principal(rows, dimensions), "principal components"


def _scaled(places: Array) -> Array:
    low, span = places.min(axis=0, initial=np.inf), np.ptp(places, axis=0) if len(places) else np.ones(places.shape[1])
    return (places - low) / np.where(span > 0, span, 1.0) if len(places) else places
