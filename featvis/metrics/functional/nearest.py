"""Nearest neighbours in feature space: one distance an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import faiss
import numpy as np
import torch
from jaxtyping import Float, Float64, Int, Int64
from torch import Tensor

from featvis.errors import UserError
from featvis.metrics.functional.checks import CHUNK, _require_alike

# Candidates taken from faiss beyond those asked for, so that its float32 rounding cannot hide the true neighbour.
SPARE = 4


def plausibility(
    features: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    bank: Float[Tensor, "m d"],
    bank_labels: Int[Tensor, " m"],
    definition: Literal["cosine", "flat", "pooled"],
    ids: Int64[Tensor, " n"] | None = None,
    bank_ids: Int64[Tensor, " m"] | None = None,
) -> Float64[Tensor, " n"]:
    """Distance of each image to the nearest bank image of its own class (Fel et al. 2023, plausibility score).

    The paper's text admits a distance and a squared one, on more than one layer: `flat` is the Euclidean distance, for
    flattened tokens or maps; `pooled` is the squared one, for pooled penultimate features. Without normalising, weak
    activations are near to everything; `cosine`, for flattened tokens or maps too, is 1 less the cosine of the angle
    and blind to their strength. The caller brings the features.

    Args:
        features: of the images to score.
        labels: their classes.
        bank: features of the reference images, from the same layer of the same network.
        bank_labels: their classes.
        definition: `cosine` (1 - cosine), `flat` (L2) or `pooled` (squared L2).
        ids: content digest of each image; 0 is unknown.
        bank_ids: the same for the bank. An image is never its own neighbour: equal digests other than 0 are left out.

    Returns:
        Distances, from 0 to 2 (`cosine`), in units of the features (`flat`) or their square (`pooled`); NaN where the
        bank holds no (other) image of the class, and in `cosine` for features of length zero, which have no direction
        (a bank image without one is nobody's neighbour).

    Raises:
        UserError: for features of another width than the bank's, values that are not finite, or an unknown definition.

    Example:
        >>> import torch
        >>> from featvis.metrics import plausibility
        >>> bank, classes = torch.tensor([[3.0, 4.0], [0.0, 1.0]]), torch.tensor([7, 8])
        >>> image, label = torch.zeros(1, 2), torch.tensor([7])
        >>> plausibility(image, label, bank, classes, "flat").tolist()  # the nearer one is of another class
        [5.0]
        >>> plausibility(image, label, bank, classes, "pooled").tolist()
        [25.0]
        >>> round(float(plausibility(torch.tensor([[0.0, 9.0]]), label, bank, classes, "cosine")), 6)
        0.2
    """
    if definition not in ("cosine", "flat", "pooled"):
        raise UserError(f"the definition of plausibility is cosine, flat or pooled, not {definition!r}")
    _require_alike(features, bank)
    if definition == "cosine":
        return _cosine(features, labels, bank, bank_labels, ids, bank_ids)
    squared = torch.full((len(features),), torch.inf, dtype=torch.float64, device=features.device)
    for label in labels.unique():
        rows, near = labels == label, bank_labels == label.to(bank_labels.device)
        squared[rows] = _nearest_squared(features[rows], bank[near], 1, _pick(ids, rows), _pick(bank_ids, near))[:, 0]
    distances = squared if definition == "pooled" else squared.sqrt()
    return distances.masked_fill(distances.isinf(), torch.nan)


def _cosine(
    features: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    bank: Float[Tensor, "m d"],
    bank_labels: Int[Tensor, " m"],
    ids: Int64[Tensor, " n"] | None,
    bank_ids: Int64[Tensor, " m"] | None,
) -> Float64[Tensor, " n"]:
    """1 - cosine to the nearest bank image of the class: half of the squared distance on the sphere."""
    directed, known = features.any(1), bank.any(1)
    squared = torch.full((len(features),), torch.inf, dtype=torch.float64, device=features.device)
    for label in labels.unique():
        rows = directed & (labels == label).to(directed.device)
        near = known & (bank_labels == label.to(bank_labels.device)).to(known.device)
        query, among = (_on_sphere(x.double(), 0.0) for x in (features[rows], bank[near]))
        squared[rows] = _nearest_squared(query, among, 1, _pick(ids, rows), _pick(bank_ids, near))[:, 0]
    return squared.masked_fill(squared.isinf(), torch.nan) / 2


def cosine_gap(
    squared: Float64[Tensor, " n"], length: Float64[Tensor, " n"] | Float64[Tensor, ""], other: Float64[Tensor, " n"]
) -> Float64[Tensor, " n"]:
    """1 - cosine of the angle between vectors, from their squared distance and their lengths.

    1 - x'y / (|x| |y|) where |x - y|^2 is at hand, so that the vectors are gone through once for both.

    Args:
        squared: |x - y|^2.
        length: |x|, one for all, or each its own.
        other: |y|.

    Returns:
        From 0 to 2; NaN where a length is zero.

    Example:
        >>> import torch
        >>> from featvis.metrics.functional.nearest import cosine_gap
        >>> one = torch.ones(1, dtype=torch.float64)
        >>> cosine_gap(2 * one, one, one).tolist()  # at a right angle
        [1.0]
    """
    return ((squared - (length - other).square()) / (2 * length * other)).clamp(0, 2)


def deep_knn(
    features: Float[Tensor, "n d"],
    bank: Float[Tensor, "m d"] | Sequence[Float[Tensor, "_ d"]],
    k: int = 1,
    ids: Int64[Tensor, " n"] | None = None,
    bank_ids: Int64[Tensor, " m"] | None = None,
    eps: float = 1e-10,
) -> Float64[Tensor, " n"]:
    """Distance of each image to its k-th neighbour in the whole bank, on the unit sphere (Sun et al. 2022, section 3).

    Args:
        features: penultimate, pooled, of the images to score.
        bank: the same of the reference images, whatever their class; also in blocks, of any float type and mapped into
            memory, of which a part at a time is looked at.
        k: which neighbour, from 1. Sun et al. take 1000 for all of ImageNet; the default reads like the other two
            definitions.
        ids: content digest of each image; 0 is unknown.
        bank_ids: the same for the bank; an image is never its own neighbour.
        eps: added to the norm, *inside* the division: x / (||x|| + eps).

    Returns:
        Euclidean distances in [0, 2]; NaN where the bank holds fewer than k other images.

    Raises:
        UserError: for k below 1, features of another width than the bank's, or values that are not finite.

    Example:
        >>> import torch
        >>> from featvis.metrics import deep_knn
        >>> bank = torch.tensor([[2.0, 0.0], [0.0, 5.0]])
        >>> image = torch.tensor([[1.0, 0.0]])
        >>> [round(float(deep_knn(image, bank, k)), 4) for k in (1, 2)]  # in the same direction; at a right angle
        [0.0, 1.4142]
    """
    if k < 1:
        raise UserError(f"deep_knn needs k of at least 1, not k={k}")
    blocks = [bank] if isinstance(bank, Tensor) else [block for block in bank if len(block)]
    nothing = torch.full((len(features),), torch.nan, dtype=torch.float64, device=features.device)
    if not len(features) or not sum(map(len, blocks)):
        return nothing
    query = _on_sphere(features.detach().cpu().double(), eps)
    _require_alike(query, blocks[0][:0].cpu())
    distances, found = _candidates(query, blocks, k + _copies(ids, bank_ids) + SPARE, eps)
    if distances.shape[1] < k:
        return nothing
    if ids is not None and bank_ids is not None:
        itself = (ids.cpu()[:, None] == bank_ids.cpu()[found]) & (ids.cpu()[:, None] != 0)
        distances, order = distances.masked_fill(itself, torch.inf).sort(dim=1, stable=True)
        found = found.gather(1, order)
    # float32 settles the order but for near ties: those around the k-th are measured again in float64.
    low, high = max(0, k - 1 - SPARE), k + SPARE
    near = found[:, low:high]
    exact = (query[:, None] - _on_sphere(_rows(blocks, near).double(), eps)).square().sum(-1)
    exact = exact.masked_fill(distances[:, low:high].isinf(), torch.inf).sort(1).values
    result = exact[:, k - 1 - low].sqrt()
    return result.masked_fill(result.isinf(), torch.nan).to(features.device)


def _on_sphere(x: Float[Tensor, "*n d"], eps: float) -> Float[Tensor, "*n d"]:
    norm: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / (norm + eps)


def _copies(ids: Int64[Tensor, " n"] | None, bank_ids: Int64[Tensor, " m"] | None) -> int:
    """How many rows of a bank may be the query itself, at most."""
    if ids is None or bank_ids is None:
        return 0
    known, copies = bank_ids.cpu()[torch.isin(bank_ids.cpu(), ids.cpu()[ids.cpu() != 0])].unique(return_counts=True)
    return int(copies.max()) if len(known) else 0


def _candidates(
    query: Float64[Tensor, "n d"], blocks: Sequence[Float[Tensor, "_ d"]], asked: int, eps: float
) -> tuple[Float[Tensor, "n k"], Int64[Tensor, "n k"]]:
    """Squared distances on the sphere, in float32, to the nearest rows of all blocks, ascending, and their numbers."""
    distances, found = torch.zeros(len(query), 0), torch.zeros(len(query), 0, dtype=torch.long)
    start, sought = 0, _float32(query)
    for block in blocks:
        for part in block.split(max(1, CHUNK // query.shape[1])):
            rows = part.detach().cpu().float()
            if not rows.isfinite().all():
                raise UserError("the features hold values that are not finite")
            d, i = faiss.knn(sought, _on_sphere(rows, eps).numpy(), min(asked, len(rows)))
            distances = torch.cat([distances, torch.from_numpy(d)], 1)
            found = torch.cat([found, torch.from_numpy(i) + start], 1)
            distances, order = distances.topk(min(asked, distances.shape[1]), 1, largest=False, sorted=True)
            found = found.gather(1, order)
            start += len(rows)
    return distances, found


def _rows(blocks: Sequence[Float[Tensor, "_ d"]], numbers: Int64[Tensor, "*n"]) -> Float[Tensor, "*n d"]:
    """Rows of all blocks by number."""
    flat = numbers.reshape(-1)
    out = torch.empty(len(flat), blocks[0].shape[1], dtype=torch.float64)
    start = 0
    for block in blocks:
        here = (flat >= start) & (flat < start + len(block))
        out[here] = block.cpu()[flat[here] - start].double()
        start += len(block)
    return out.reshape(*numbers.shape, -1)


def _nearest_squared(
    query: Float[Tensor, "n d"],
    bank: Float[Tensor, "m d"],
    k: int,
    ids: Int64[Tensor, " n"] | None,
    bank_ids: Int64[Tensor, " m"] | None,
) -> Float64[Tensor, "n k"]:
    """Squared distances to the k nearest bank rows but the query itself, ascending; inf where there are fewer."""
    nearest = torch.full((len(query), k), torch.inf, dtype=torch.float64)
    if not len(query) or not len(bank):
        return nearest.to(query.device)
    device, query, bank = query.device, query.cpu(), bank.cpu()
    own = torch.zeros(len(query), dtype=torch.long)
    if ids is not None and bank_ids is not None:
        ids, bank_ids = ids.cpu(), bank_ids.cpu()
        known, copies = bank_ids[bank_ids != 0].unique(return_counts=True)
        own = ((ids[:, None] == known) * copies).sum(1)
    asked = min(len(bank), k + int(own.max()) + SPARE)

    # faiss expands |x - y|^2 in float32, which cancels badly far from the origin: move there, and keep only the order.
    centre = bank.mean(0)
    index = faiss.IndexFlatL2(bank.shape[1])
    index.add(_float32(bank - centre))
    found = torch.from_numpy(index.search(_float32(query - centre), asked)[1])

    for rows in torch.arange(len(query)).split(max(1, CHUNK // (asked * bank.shape[1]))):
        exact = (query[rows, None].double() - bank[found[rows]].double()).square().sum(-1)
        if ids is not None and bank_ids is not None:
            itself = (ids[rows, None] == bank_ids[found[rows]]) & (ids[rows, None] != 0)
            exact = exact.masked_fill(itself, torch.inf)
        best = exact.sort(1).values[:, :k]
        nearest[rows, : best.shape[1]] = best
    return nearest.to(device)


def _float32(x: Float[Tensor, "n d"]) -> np.ndarray:
    return np.ascontiguousarray(x.float().numpy())


def _pick(ids: Int64[Tensor, " n"] | None, rows: Tensor) -> Tensor | None:
    return None if ids is None else ids[rows.to(ids.device)]
