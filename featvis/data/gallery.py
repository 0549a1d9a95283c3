"""Natural images by what they excite: real images in; each unit's activation and an observer's features of all out.

What is kept of the images is mapped into memory, not read into it: units are looked at one by one, and of the features
only the rows that a score asks for, so that memory does not grow with the number of images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from featvis.data.reference import PREPROCESSING
from featvis.data.sweep import Batch, Chunk, Job, RowsJob
from featvis.data.sweep import read as read_chunk
from featvis.errors import UserError
from featvis.networks.classifier import Classifier
from featvis.networks.units import Unit
from featvis.storage.hashing import config_hash

NATURAL = 9
"""The most exciting images of a unit: those that stand for it (Zimmermann et al. 2021 show nine)."""
QUERIES = 20
"""Images on each side of a choice."""
LEAST = 390
"""Images without which the queries of a choice would overlap: from rank 9 on 20 around the 98th percentile, then those
around the 90th."""


class GalleryJob(RowsJob):
    """What an observer sees in each image: `pooled` before the head and `middle` (4 x 4 parts), float16.

    And `own`, its log-probability of the class that has the number of the image's. Those are the numbers of the network
    that the images were listed for: it is the image's class only where both have the same (`Classes.same`).

    Args:
        observer: the network.
    """

    def __init__(self, observer: Classifier) -> None:
        self.observer, self.size = observer, observer.input_size
        self.title = f"what {observer.alias} sees"
        self.facts = {
            "kind": "gallery",
            "network": observer.name,
            "weights_hash": observer.weights_hash,
            **observer.setting,
            "layer": "penultimate, pooled; a middle block in 4 x 4 parts",
            "preprocessing": f"{PREPROCESSING} {self.size[0]} x {self.size[1]}",
            "dtype": "float16",
        }

    def to(self, device: torch.device) -> None:  # noqa: D102
        self.observer.to(device)

    def see(self, views: Float[Tensor, "n 3 h w"], batch: Batch) -> None:  # noqa: D102
        out = self.observer.features(views, flat=False, middle=True)
        sure = out["logits"].log_softmax(1).cpu()
        known = (batch.labels >= 0) & (batch.labels < sure.shape[1])
        own = sure[torch.arange(len(sure)), batch.labels.where(known, 0)].masked_fill(~known, torch.nan)
        kept = {k: out[k].half().cpu() for k in ("pooled", "middle") if k in out}
        self.found.append(
            kept | {"rows": batch.rows, "labels": batch.labels, "digests": batch.digests, "own": own.double()}
        )


class ActivationJob(RowsJob):
    """How strongly each image excites each of some units, seen whole: (N, U), float32.

    Args:
        target: the network.
        units: of it.
    """

    def __init__(self, target: Classifier, units: Sequence[Unit]) -> None:
        self.target, self.size, self.units = target, target.input_size, units
        self.title = f"activations in {target.alias}"
        self.facts = {
            "kind": "activations",
            "network": target.name,
            "weights_hash": target.weights_hash,
            **target.setting,
            "units": config_hash({"units": [unit.id for unit in units]}),
            "preprocessing": f"{PREPROCESSING} {self.size[0]} x {self.size[1]}",
        }

    def to(self, device: torch.device) -> None:  # noqa: D102
        self.target.to(device)

    def see(self, views: Float[Tensor, "n 3 h w"], batch: Batch) -> None:  # noqa: D102
        found = activations(self.target, self.units, views)
        kept = {"rows": batch.rows, "labels": batch.labels, "digests": batch.digests}
        self.found.append(kept | {"activations": found.cpu()})


@torch.no_grad()
def activations(target: Classifier, units: Sequence[Unit], views: Float[Tensor, "n c h w"]) -> Float[Tensor, "n u"]:
    """What each unit says of each view.

    Args:
        target: the network.
        units: of it.
        views: RGB in [0, 1] at its input size.
    """
    objectives = [unit.objective for unit in units]
    read = target.activations(views, frozenset(tap for o in objectives for tap in o.taps))
    return torch.stack([objective(read).float() for objective in objectives], 1)


@dataclass
class Rows:
    """Numbers of N images in blocks that are mapped into memory.

    Attributes:
        blocks: what each chunk's file holds, by name.
    """

    blocks: tuple[dict[str, Tensor], ...]
    _means: dict[str, Tensor] = field(default_factory=dict)

    def all(self, name: str) -> Tensor:
        """Something small, of all images."""
        return torch.cat([block[name] for block in self.blocks])

    def take(self, name: str, numbers: Int[Tensor, "*k"]) -> Float[Tensor, "*k d"]:
        """Some rows of something large, float32."""
        flat = numbers.reshape(-1)
        out = torch.empty(len(flat), self.blocks[0][name].shape[1])
        start = 0
        for block in self.blocks:
            here = (flat >= start) & (flat < start + len(block["rows"]))
            out[here] = block[name][flat[here] - start].float()
            start += len(block["rows"])
        return out.reshape(*numbers.shape, -1)

    def mean(self, name: str) -> Float64[Tensor, " d"]:
        """The mean of all rows, a block at a time; rows that are not finite do not count."""
        if name in self._means:
            return self._means[name]
        total, count = torch.zeros(self.blocks[0][name].shape[1], dtype=torch.float64), 0
        for block in self.blocks:
            for part in block[name].split(1024):
                good = part.isfinite().all(1)
                total += part[good].double().sum(0)
                count += int(good.sum())
        return self._means.setdefault(name, total / count)

    def column(self, name: str, number: int) -> Tensor:
        """One column of something large, of all images."""
        return torch.cat([block[name][:, number] for block in self.blocks])

    def __len__(self) -> int:
        return sum(len(block["rows"]) for block in self.blocks)


def read_rows(folder: Path, todo: Sequence[Chunk], job: Job, source: str) -> Rows:
    """The finished chunks of a pass.

    Raises:
        UserError: when one is missing or broken, or no image could be decoded.
    """
    parts = []
    for chunk in todo:
        found = read_chunk(folder / f"{chunk.name}.safetensors", job.facts, check=False)
        if found is None:
            raise UserError(f"the files in {folder} are not whole; run the same command again, which completes them")
        if found[0]:
            parts.append(found[0])
    if not parts:
        raise UserError(f"{source} holds no image that can be decoded")
    return Rows(tuple(parts))


@dataclass(frozen=True)
class Excited:
    """One unit over natural images.

    Attributes:
        natural: (9,) numbers of the images that excite it most, from the strongest on.
        easy: (20,) and (20,), of images that excite it (ranks 10 to 29) and of those that excite it least; None where
            there are too few images.
        hard: the same, around the 98th and the 90th percentile, none of them one of the natural ones.
        median: of its activations.
        maximum: of its activations.
    """

    natural: Int[Tensor, " k"]
    easy: tuple[Int[Tensor, " q"], Int[Tensor, " q"]] | None
    hard: tuple[Int[Tensor, " q"], Int[Tensor, " q"]] | None
    median: float
    maximum: float

    @property
    def alive(self) -> bool:
        """Whether some image excites it more than the median one."""
        return self.maximum > self.median


def excited(
    activation: Float[Tensor, " n"], leave: Bool[Tensor, " n"] | None = None, ties: Int[Tensor, " n"] | None = None
) -> Excited:
    """Which images excite a unit, and how strongly (the choice of queries: Borowski et al. 2021, section 3).

    Args:
        activation: of the unit, an image each; what is not finite, +inf included, counts as least.
        leave: images that are left out, as if they were not there.
        ties: all images' numbers, those that excite the unit alike in this order: one that says nothing of them (by
            their digests), for most of a sparse channel is exactly 0, and sorted folders end with one class; None: as
            they come.

    Example:
        >>> import torch
        >>> from featvis.data.gallery import excited
        >>> found = excited(torch.arange(1000.0))
        >>> found.natural[:3].tolist(), found.easy[0][:2].tolist(), found.hard[1][:2].tolist()
        ([999, 998, 997], [989, 988], [909, 908])
    """
    values = activation.double()
    values = values.masked_fill(~values.isfinite(), -torch.inf)
    if ties is None:
        order = values.argsort(descending=True, stable=True)
    else:
        order = ties[values[ties].argsort(descending=True, stable=True)]
    if leave is not None:
        order = order[~leave[order]]
    n, known = len(order), values[order][values[order].isfinite()]

    def around(share: float) -> Tensor:
        # The natural images stand for the unit: who has seen them would know them again.
        start = max(NATURAL, round(share * n) - QUERIES // 2)
        return order[start : start + QUERIES].clone()

    enough = n >= LEAST
    # Copies: a part of it would hold on to the order of all images, for each unit.
    easy = order[NATURAL + 1 : NATURAL + 1 + QUERIES].clone(), order[-QUERIES:].clone()
    return Excited(
        natural=order[:NATURAL].clone(),
        easy=easy if enough else None,
        hard=(around(0.02), around(0.10)) if enough else None,
        median=float(known.median()) if len(known) else float("nan"),
        maximum=float(known.max()) if len(known) else float("nan"),
    )
