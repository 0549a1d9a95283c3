"""What all of these check, and how much they hold at once."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from featvis.errors import UserError

# Numbers held at once by the chunked loops below (128 MiB of float64).
CHUNK = 2**24


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


def _require_alike(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], least: int = 0) -> None:
    require_width(x, y)
    if min(len(x), len(y)) < least:
        raise UserError(f"both sets need at least {least} images, not {len(x)} and {len(y)}")
    if not x.isfinite().all() or not y.isfinite().all():
        raise UserError("the features hold values that are not finite")
