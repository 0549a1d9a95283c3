"""What every number means: pure functions, tensors in, tensors out.

In: features `(n, d)`, logits `(n, c)` or magnitude spectra `(3, H, W // 2 + 1)` of a network's view of `n` images,
float32 or float64, and the same of a reference ("bank"). Out: float64, one score an image `(n,)` or one scalar, on
the features' device. Nothing here sees an image: each network is run once, and every metric reads what it gave.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import faiss
import numpy as np
import torch
from jaxtyping import Float, Float64, Int, Int64
from torch import Tensor

from featvis.errors import UserError

# Candidates taken from faiss beyond those asked for, so that its float32 rounding cannot hide the true neighbour.
SPARE = 4
# Numbers held at once by the chunked loops below (128 MiB of float64).
CHUNK = 2**24


def plausibility(
    features: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    bank: Float[Tensor, "m d"],
    bank_labels: Int[Tensor, " m"],
    definition: Literal["flat", "pooled"],
    ids: Int64[Tensor, " n"] | None = None,
    bank_ids: Int64[Tensor, " m"] | None = None,
) -> Float64[Tensor, " n"]:
    """Distance of each image to the nearest bank image of its own class (Fel et al. 2023, plausibility score).

    The paper's text admits a distance and a squared one, on more than one layer: `flat` is the Euclidean distance, for
    flattened tokens or maps; `pooled` is the squared one, for pooled penultimate features. The caller brings the
    features.

    Args:
        features: of the images to score.
        labels: their classes.
        bank: features of the reference images, from the same layer of the same network.
        bank_labels: their classes.
        definition: `flat` (L2) or `pooled` (squared L2).
        ids: content digest of each image; 0 is unknown.
        bank_ids: the same for the bank. An image is never its own neighbour: equal digests other than 0 are left out.

    Returns:
        Distances, in units of the features (`flat`) or their square (`pooled`); NaN where the bank holds no (other)
        image of the class.

    Raises:
        UserError: for features of another width than the bank's, values that are not finite, or an unknown definition.
    """
    if definition not in ("flat", "pooled"):
        raise UserError(f"the definition of plausibility is flat or pooled, not {definition!r}")
    _require_alike(features, bank)
    squared = torch.full((len(features),), torch.inf, dtype=torch.float64, device=features.device)
    for label in labels.unique():
        rows, near = labels == label, bank_labels == label.to(bank_labels.device)
        squared[rows] = _nearest_squared(features[rows], bank[near], 1, _pick(ids, rows), _pick(bank_ids, near))[:, 0]
    distances = squared if definition == "pooled" else squared.sqrt()
    return distances.masked_fill(distances.isinf(), torch.nan)


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
    if ids is not None and bank_ids is not None:
        itself = (ids.cpu()[:, None] == bank_ids.cpu()[found]) & (ids.cpu()[:, None] != 0)
        distances, order = distances.masked_fill(itself, torch.inf).sort(dim=1, stable=True)
        found = found.gather(1, order)
    # float32 settles the order but for near ties: those around the k-th are measured again in float64.
    low, high = max(0, k - 1 - SPARE), k + SPARE
    near = found[:, low:high]
    exact = (query[:, None] - _on_sphere(_rows(blocks, near).double(), eps)).square().sum(-1)
    exact = exact.masked_fill(distances[:, low:high].isinf(), torch.inf).sort(1).values
    if exact.shape[1] <= k - 1 - low:
        return nothing
    result = exact[:, k - 1 - low].sqrt()
    return result.masked_fill(result.isinf(), torch.nan).to(features.device)


def _on_sphere(x: Float[Tensor, "*n d"], eps: float) -> Float[Tensor, "*n d"]:
    return x / (x.norm(dim=-1, keepdim=True) + eps)


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


def frechet_distance(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float64[Tensor, ""]:
    """Fréchet distance between the Gaussians that fit two sets of features (FID: Heusel et al. 2017, equation 6).

    |mean x - mean y|^2 + tr(Sx + Sy - 2 (Sx Sy)^(1/2)), unbiased covariances. With Sx = A'A and Sy = B'B, the
    eigenvalues of Sx Sy are the squared singular values of AB', so the last trace is the nuclear norm of a matrix no
    larger than either set or the features' width: exact, without a matrix square root, and real where the eigenvalues
    of Sx Sy only nearly are.

    Args:
        x: features of one set, at least two images.
        y: of the other.

    Returns:
        A scalar of at least 0, in squared units of the features.

    Raises:
        UserError: for a set of fewer than two images, other widths, or values that are not finite.
    """
    _require_alike(x, y, least=2)
    x, y = x.double(), y.double().to(x.device)
    a, b = covariance_roots(x, y)
    gap = (x - y.mean(0)).mean(0)
    cross = torch.linalg.svdvals(a @ b.T).sum()
    return (gap.square().sum() + a.square().sum() + b.square().sum() - 2 * cross).clamp(min=0)


def covariance_roots(
    x: Float64[Tensor, "n d"], y: Float64[Tensor, "m d"]
) -> tuple[Float64[Tensor, "p d"], Float64[Tensor, "q d"]]:
    """Matrices A, B with A'A and B'B the unbiased covariances of two sets, small where both sets are large.

    Args:
        x: features of one set, at least two images.
        y: of the other.

    Returns:
        The centred rows over sqrt(n - 1), or their triangular QR factor where both sets outnumber the features.
    """
    a, b = ((z - z.mean(0)) / math.sqrt(len(z) - 1) for z in (x, y))
    if min(len(a), len(b)) > a.shape[1]:
        a, b = (torch.linalg.qr(z, mode="r").R for z in (a, b))
    return a, b


def kernel_distance(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "m d"],
    *,
    subset_size: int | None = None,
    subsets: int = 100,
    seed: int = 0,
) -> Float64[Tensor, ""]:
    """Unbiased squared MMD under the kernel (x'y / d + 1)^3 (KID: Bińkowski et al. 2018, section 4).

    The published figure averages this over random subsets, to bound the cost on large sets. The mean over *all*
    subsets of a size is the U-statistic of the whole sets, whatever the size, so the default computes that: the
    number the average estimates, with no seed and less noise. `subset_size` gives the published average; it may be at
    most half of the smaller set, or the subsets are hardly random.

    Args:
        x: features of one set, at least two images.
        y: of the other.
        subset_size: images drawn, without replacement, from each set; the whole sets by default.
        subsets: how many draws are averaged (only with `subset_size`).
        seed: of the draws (only with `subset_size`).

    Returns:
        A scalar; slightly negative where the sets are alike, as an unbiased estimate of zero must be.

    Raises:
        UserError: for a set of fewer than two images, other widths, values that are not finite, or a subset size
            outside 2 to half of the smaller set.
    """
    _require_alike(x, y, least=2)
    x, y = x.double(), y.double().to(x.device)
    if subset_size is None:
        return pairs_mean(x) + pairs_mean(y) - 2 * kernel_means(x, y).mean()
    most = min(len(x), len(y)) // 2
    if not 2 <= subset_size <= most:
        raise UserError(f"the subset size must lie between 2 and half of the smaller set ({most}), not {subset_size}")
    if subsets < 1:
        raise UserError(f"the kernel distance needs at least 1 subset, not {subsets}")
    generator = torch.Generator().manual_seed(seed)
    draws = []
    for _ in range(subsets):
        s, t = (z[torch.randperm(len(z), generator=generator)[:subset_size].to(z.device)] for z in (x, y))
        draws.append(kernel_distance(s, t))
    return torch.stack(draws).mean()


def polynomial_kernel(x: Float64[Tensor, "n d"], y: Float64[Tensor, "m d"]) -> Float64[Tensor, "n m"]:
    """The kernel of KID, (x'y / d + 1)^3, for every pair.

    Args:
        x: features of one set.
        y: of the other.

    Returns:
        The kernel matrix.
    """
    return (x @ y.T / x.shape[1] + 1) ** 3


def kernel_means(x: Float64[Tensor, "n d"], y: Float64[Tensor, "m d"]) -> Float64[Tensor, " n"]:
    """Mean kernel of each row of x with all of y; a large y is never paired all at once.

    Args:
        x: features of one set.
        y: of the other.

    Returns:
        One mean a row of x.
    """
    return torch.cat([polynomial_kernel(rows, y).mean(1) for rows in x.split(max(1, CHUNK // len(y)))])


def pairs_mean(x: Float64[Tensor, "n d"]) -> Float64[Tensor, ""]:
    """Mean kernel over the pairs of *different* rows: the unbiased half of the U-statistic.

    Args:
        x: features of one set, at least two images.

    Returns:
        A scalar.
    """
    n = len(x)
    own = (x.square().sum(1) / x.shape[1] + 1) ** 3
    return (kernel_means(x, x).sum() * n - own.sum()) / (n * (n - 1))


def top1(logits: Float[Tensor, "n c"], labels: Int[Tensor, " n"]) -> Float64[Tensor, " n"]:
    """Whether the largest logit is the wanted class.

    Args:
        logits: of a classifier.
        labels: the class each image was made for.

    Returns:
        1 where it is, 0 where not.

    Raises:
        UserError: for a label beyond the logits, or values that are not finite.
    """
    _require_labels(logits, labels)
    return (logits.argmax(1) == labels.to(logits.device)).double()


def own_logit(logits: Float[Tensor, "n c"], labels: Int[Tensor, " n"]) -> Float64[Tensor, " n"]:
    """The logit of the wanted class, before any softmax.

    Args:
        logits: of a classifier.
        labels: the class each image was made for.

    Returns:
        One logit an image.

    Raises:
        UserError: for a label beyond the logits, or values that are not finite.
    """
    _require_labels(logits, labels)
    return logits.gather(1, labels.long().to(logits.device)[:, None])[:, 0].double()


def spectrum_deviation(
    mean_spectrum: Float[Tensor, "3 h k"], reference: Float[Tensor, "3 h k"], *, width: int | None = None
) -> Float64[Tensor, ""]:
    """How far the shape of a mean magnitude spectrum lies from a reference's (Fel et al. 2023, Figure 2, as a number).

    The RMS of log(mean / reference) over the channels and every frequency of the full plane but DC, after its overall
    mean is removed: a factor common to all frequencies is contrast, not shape.

    Args:
        mean_spectrum: E|rfft2(image)| over the images.
        reference: the same of natural images, at the same canvas size.
        width: of the canvas in pixels; even, 2 (k - 1), by default.

    Returns:
        A scalar of at least 0, in nats; NaN where the images hold no energy at some frequency.

    Raises:
        UserError: for shapes that differ, a width that does not fit, or a reference that is not positive.
    """
    require_reference(mean_spectrum.shape, reference)
    weights = spectrum_weights(mean_spectrum.shape[-2], mean_spectrum.shape[-1], width=width).to(mean_spectrum.device)
    counted = weights > 0
    means, levels = (z.to(weights).reshape(-1)[counted] for z in (mean_spectrum, reference))
    weights = weights[counted]
    ratio = torch.where(means > 0, means / levels, torch.nan).log()
    return ((ratio - ratio @ weights).square() @ weights).sqrt()


def spectrum_weights(height: int, columns: int, *, width: int | None = None) -> Float64[Tensor, " p"]:
    """Share of each rfft2 coefficient in the full plane without DC, over three channels.

    rfft2 keeps one of each conjugate pair of columns, so interior columns stand for two; column 0 stands for itself,
    and so does the last one where the width is even (Nyquist).

    Args:
        height: of the canvas, in pixels.
        columns: of the half spectrum, width // 2 + 1.
        width: of the canvas; even, 2 (columns - 1), by default.

    Returns:
        Weights of the flattened `(3, height, columns)` spectrum that sum to 1.

    Raises:
        UserError: where no canvas of that width has that many columns.
    """
    width = 2 * (columns - 1) if width is None else width
    if width < 1 or width // 2 + 1 != columns:
        raise UserError(f"a canvas {width} pixels wide has {width // 2 + 1} spectrum columns, not {columns}")
    if height * width == 1:
        raise UserError("a canvas of one pixel has no frequency but DC, so that no spectrum can be compared")
    weights = torch.full((3, height, columns), 2.0, dtype=torch.float64)
    weights[:, :, 0] = 1
    if width % 2 == 0:
        weights[:, :, -1] = 1
    weights[:, 0, 0] = 0
    return (weights / weights.sum()).reshape(-1)


def require_width(x: Float[Tensor, "n d"], y: Float[Tensor, "m e"]) -> None:
    """Check that two sets of features may be compared.

    Args:
        x: features of the images.
        y: features of the reference.

    Raises:
        UserError: where one is wider than the other.
    """
    if x.shape[1] != y.shape[1]:
        raise UserError(
            f"the features have {x.shape[1]} dimensions and the reference {y.shape[1]}: "
            "take both from the same layer of the same network"
        )


def require_reference(shape: torch.Size, reference: Float[Tensor, "3 h k"]) -> None:
    """Check that a reference spectrum fits.

    Args:
        shape: of the spectrum to compare with it, `(3, H, W // 2 + 1)`.
        reference: the reference.

    Raises:
        UserError: where the shapes differ, or the reference is not positive and finite outside DC.
    """
    if shape != reference.shape:
        raise UserError(
            f"the spectra have shape {tuple(shape)} and the reference {tuple(reference.shape)}: "
            "resize the reference to the images' canvas first"
        )
    rest = reference.reshape(3, -1)[:, 1:]
    if not (rest.isfinite().all() and (rest > 0).all()):
        raise UserError("the reference spectrum must be finite and above 0 at every frequency but DC")


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


def _require_alike(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], least: int = 0) -> None:
    require_width(x, y)
    if min(len(x), len(y)) < least:
        raise UserError(f"both sets need at least {least} images, not {len(x)} and {len(y)}")
    if not x.isfinite().all() or not y.isfinite().all():
        raise UserError("the features hold values that are not finite")


def _require_labels(logits: Float[Tensor, "n c"], labels: Int[Tensor, " n"]) -> None:
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < logits.shape[1]:
        raise UserError(f"the labels must lie in 0..{logits.shape[1] - 1}, the classes of the classifier")
    if not logits.isfinite().all():
        raise UserError("the logits hold values that are not finite")
