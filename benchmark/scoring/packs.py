"""Reference packs: what is computed of an image set once, small enough to be part of a package."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmark.scoring.references import bank, imagenet_synsets, spectrum
from featvis.data.files import ImageFile, fit, to_tensor
from featvis.data.reference import (
    SPECTRUM_SIDE,
    read_spectrum,
    write_bank,
    write_spectrum,
)
from featvis.data.sets import FolderImages, ImageSet
from featvis.errors import UserError
from featvis.networks.classifier import Classifier
from featvis.storage import images
from featvis.storage.versions import versions


def fingerprint(folder: Path, files: Sequence[ImageFile]) -> str:
    """SHA-256 of an image set by the names and the bytes of every file."""
    total = hashlib.sha256()
    for file in files:
        data = file.path.read_bytes()
        name = f"{file.path.relative_to(folder)}\0{len(data)}\0".encode("utf-8", "surrogateescape")
        total.update(name + hashlib.sha256(data).digest())
    return total.hexdigest()


def pack(
    whole: FolderImages, networks: Sequence[Classifier], flat: Sequence[int], root: Path, out: Path,
    source: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Write a reference small enough to be a part of a package: one file a network, the spectrum, the provenance.

    Args:
        whole: the images, listed by the classes of the first network, or by ImageNet's.
        networks: whose features to keep.
        flat: classes whose flattened features are kept too, and whose own mean spectrum.
        root: of the cache.
        out: folder of the pack.
        source: what the images are, in words; default: the folder's name.

    Returns:
        The provenance.

    Raises:
        UserError: for images of which none is usable, or an `out` that cannot be written.
    """
    known = networks[0] if networks else imagenet_synsets()
    keep = tuple(sorted(set(flat)))
    some = FolderImages(whole.folder, known, classes=keep)
    try:
        natural = read_spectrum(spectrum(whole, root))["magnitude"]
        write_spectrum(out, natural, read_spectrum(spectrum(some, root))["magnitude"] if keep else None)
        skipped = 0
        for network in networks:
            found = bank(whole, network, root)
            skipped = len(whole) - len(found.labels)
            flats = [
                network.features(to_tensor(fit(image, network.input_size))[None])["flat"] for image in _decoded(some)
            ]
            flattened = torch.cat(flats).half() if flats else torch.zeros(0, 0)
            write_bank(out, dataclasses.replace(found, flat=flattened, flat_classes=keep))
        facts = {
            "source": source or whole.name,
            "images": len(whole) - skipped,
            "skipped": skipped,
            "sha256": fingerprint(whole.folder, whole.files),
            "flat_classes": list(keep),
            "spectrum_side": SPECTRUM_SIDE,
            "versions": versions(),
        }
        images.write_atomic(out / "provenance.json", (json.dumps(facts, indent=1, sort_keys=True) + "\n").encode())
    except OSError as error:
        raise UserError(f"--pack {out} cannot be written ({error.strerror}); name a folder that can") from error
    return facts


def _decoded(source: ImageSet) -> Iterator[Any]:
    for i in range(len(source)):
        try:
            yield source.open(i)[0]
        except OSError:
            continue
