"""Directions in a layer's channel space, and their file: (K, C) and facts in, one safetensors file out; and back.

The file holds one tensor, `directions`, and in its metadata, under `featvis`, a JSON object with the `layer` at least;
where it names the `weights` of a network too, the directions are refused to any other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from jaxtyping import Float
from torch import Tensor

from featvis.errors import UserError
from featvis.storage.images import write_atomic

KEY = "directions"


def save(path: Path, vectors: Float[Tensor, "k c"], facts: Mapping[str, Any], **more: Tensor) -> None:
    """Write directions.

    Args:
        path: of the safetensors file.
        vectors: one a row.
        facts: JSON values; `layer` is needed, `weights` (a `Classifier.weights_hash`) and `labels` (a name a direction)
            and `objective` (`cosine` or, where it is not there, `dot`; see `objectives.Direction`) are read.
        more: further tensors for the file.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import torch
        >>> from featvis.storage.directions import load, save
        >>> path = Path(tempfile.mkdtemp()) / "mine.safetensors"
        >>> save(path, torch.eye(2, 3), {"layer": "blocks.4", "labels": ["first", "second"]})
        >>> vectors, facts = load(path)
        >>> vectors.shape, facts["layer"]
        (torch.Size([2, 3]), 'blocks.4')
    """
    tensors = {KEY: vectors.float(), **more}
    tensors = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    text = json.dumps(dict(facts), sort_keys=True, allow_nan=False)
    write_atomic(path, safetensors.torch.save(tensors, metadata={"featvis": text}))


def load(path: Path) -> tuple[Float[Tensor, "k c"], dict[str, Any]]:
    """The directions of a file, and its facts.

    Raises:
        UserError: when there is no such file, or it holds no directions or does not say of which layer.

    Example:
        >>> from pathlib import Path
        >>> from featvis.storage.directions import load
        >>> load(Path("nowhere.safetensors"))
        Traceback (most recent call last):
        featvis.errors.UserError: nowhere.safetensors is not a file of directions; `featvis concepts` writes one
    """
    if not path.is_file():
        raise UserError(f"{path} is not a file of directions; `featvis concepts` writes one")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            if KEY not in file.keys():  # noqa: SIM118 -- not a mapping
                raise UserError(f"{path} holds no tensor named {KEY!r}, of a direction a row")
            vectors, text = file.get_tensor(KEY), (file.metadata() or {}).get("featvis", "{}")
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(
            f"{path} cannot be read as safetensors ({' '.join(str(error).split())[:120]}); no other format of "
            "directions is read"
        ) from error
    try:
        facts = json.loads(text)
    except ValueError:
        facts = None
    if not isinstance(facts, dict) or not isinstance(facts.get("layer"), str):
        raise UserError(
            f'{path} does not say of which layer it is; its metadata needs featvis = {{"layer": "blocks.4"}}'
        )
    if vectors.ndim != 2 or not vectors.is_floating_point() or not bool(vectors.isfinite().all()):
        raise UserError(f"the tensor {KEY!r} of {path} must be finite numbers, a direction a row")
    # A copy: the file is mapped, and one that is cut off under a tensor ends the process.
    return vectors.float().clone(), facts
