"""Images through a network under the occluder, each once: what was measured is kept by content, and found again."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from tqdm import tqdm

from benchmark.study.making.occlusion import Occlusion, geometry, occlusions
from featvis.data.files import fit, to_tensor
from featvis.data.gallery import activations
from featvis.data.sets import ImageSet
from featvis.networks.classifier import Classifier
from featvis.networks.devices import default_device
from featvis.networks.units import Unit
from featvis.storage.hashing import config_hash
from featvis.storage.images import write_atomic

BATCH = 32


def ordered(source: ImageSet, rows: Sequence[int], seed: int, unit: str) -> list[int]:
    """Images in an order of this unit's own, a function of (seed, unit, the image's name)."""

    def place(i: int) -> bytes:
        name = f"{seed}/{unit}/{source.where(i)}".encode("utf-8", "surrogateescape")
        return hashlib.sha256(name).digest()

    return sorted(rows, key=place)


def as_bytes(source: ImageSet, i: int, size: tuple[int, int]) -> tuple[UInt8[Tensor, "3 h w"], int]:
    """An image as a network of that input sees it, and the digest of its file.

    Raises:
        OSError: when it cannot be decoded.
    """
    image, digest = source.open(i)
    return torch.from_numpy(np.asarray(fit(image, size)).transpose(2, 0, 1).copy()), digest


class Passes:
    """Measures images, and keeps what it has measured.

    Args:
        network: whose units.
        source: the images.
        folder: of what is kept.
        share: the occluder's side, as a share.
        stride: for images of 224.
        batch_size: images at once.
    """

    def __init__(
        self, network: Classifier, source: ImageSet, folder: Path, share: float, stride: int, batch_size: int
    ) -> None:
        self.network, self.source, self.folder, self.batch_size = network, source, folder, batch_size
        self.side, self.stride = geometry(network.input_size, share, stride)
        self._digests: dict[int, int] = {}

    def digest(self, i: int) -> int:
        """Of an image's file."""
        if i not in self._digests:
            self._digests[i] = self.source.open(i)[1]
        return self._digests[i]

    def _path(self, unit: Unit, i: int) -> Path:
        facts = {
            "weights": self.network.weights_hash, **self.network.setting, "unit": unit.id,
            "image": f"{self.digest(i):016x}", "size": list(self.network.input_size), "side": self.side,
            "stride": self.stride,
        }  # fmt: skip
        return self.folder / f"{config_hash(facts)}.json"

    def _kept(self, unit: Unit, i: int) -> Occlusion | None:
        try:
            data = json.loads(self._path(unit, i).read_text(encoding="utf-8"))
            return Occlusion(tuple(data.pop("most")), tuple(data.pop("least")), **data)
        except (OSError, ValueError, TypeError, KeyError):
            return None  # not there, or cut off: measured anew

    def measure(self, wanted: dict[int, list[Unit]]) -> dict[tuple[str, int], Occlusion]:
        """What the occluder does, by unit's id and image's number; images that cannot be decoded are left out.

        Args:
            wanted: the units that each image is measured for.
        """
        found: dict[tuple[str, int], Occlusion] = {}
        device = default_device()
        self.network.to(device)
        for i, units in tqdm(wanted.items(), desc=f"occlusion, {self.network.alias}", unit="image", disable=None):
            try:
                kept = {unit: self._kept(unit, i) for unit in units}
                missing = [unit for unit, there in kept.items() if there is None]
                image = as_bytes(self.source, i, self.network.input_size)[0] if missing else None
            except OSError as error:
                print(f"featvis: {self.source.where(i)} is left out ({error})", file=sys.stderr)
                continue
            if image is not None:
                new = occlusions(
                    lambda x, units=missing: activations(self.network, units, x.to(device)),  # type: ignore[misc]
                    image, self.side, self.stride, self.batch_size,
                )  # fmt: skip
                for unit, one in zip(missing, new, strict=True):
                    write_atomic(self._path(unit, i), json.dumps(asdict(one)).encode())
                    kept[unit] = one
            found |= {(unit.id, i): one for unit, one in kept.items() if one is not None}
        return found

    def most_exciting(self, units: Sequence[Unit], count: int) -> dict[str, list[int]]:
        """The images of the whole set that excite each unit most, the strongest first, by the unit's id."""
        facts = {
            "weights": self.network.weights_hash, **self.network.setting, "set": self.source.fingerprint,
            "units": [u.id for u in units], "count": count,
        }  # fmt: skip
        path = self.folder / f"natural-{config_hash(facts)}.json"
        if path.is_file():
            return {k: [int(i) for i in v] for k, v in json.loads(path.read_text(encoding="utf-8")).items()}
        rows, values, device = [], [], default_device()
        self.network.to(device)
        parts = [range(i, min(i + BATCH, len(self.source))) for i in range(0, len(self.source), BATCH)]
        for part in tqdm(parts, desc=f"natural images, {self.network.alias}", unit="batch", disable=None):
            views = []
            for i in part:
                try:
                    views.append(to_tensor(fit(self.source.open(i)[0], self.network.input_size)))
                    rows.append(i)
                except OSError:
                    continue
            if views:
                values.append(activations(self.network, units, torch.stack(views).to(device)).cpu())
        order = torch.cat(values).argsort(dim=0, descending=True, stable=True)
        best = {unit.id: [rows[j] for j in order[:count, u].tolist()] for u, unit in enumerate(units)}
        write_atomic(path, json.dumps(best).encode())
        return best
