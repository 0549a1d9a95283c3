"""References: a folder of images in; natural spectrum, feature banks and provenance out."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from featvis import images
from featvis.callbacks import versions
from featvis.data import ImageFile, list_images
from featvis.errors import UserError
from featvis.models import Classifier
from featvis.reference import (
    SPECTRUM_SIDE,
    build_bank,
    build_spectrum,
    read_bank,
    write_bank,
    write_spectrum,
)


def fingerprint(folder: Path, files: Sequence[ImageFile], content: bool) -> str:
    """SHA-256 of an image set, by names and sizes or, where asked for, by the bytes of every file."""
    total = hashlib.sha256()
    for file in files:
        total.update(f"{file.path.relative_to(folder)}\0{file.path.stat().st_size}\0".encode())
        if content:
            total.update(hashlib.sha256(file.path.read_bytes()).digest())
    return total.hexdigest()


def make(
    data: Path,
    networks: Sequence[Classifier],
    spectrum: bool,
    flat: Sequence[int],
    out: Path,
    content: bool = True,
    source: str | None = None,
) -> dict[str, Any]:
    """Make what is missing of a reference, and its provenance.

    Args:
        data: folder of images, one folder a class.
        networks: whose features to keep.
        spectrum: whether to compute the natural spectrum.
        flat: classes whose flattened features are kept too.
        out: the reference's folder.
        content: read every file for the fingerprint.
        source: what the images are; default: the folder's name.

    Returns:
        The provenance.

    Raises:
        UserError: for a folder that is missing, empty, or without a usable image; or an `out` that cannot be written.
    """
    synsets = networks[0].synsets if networks else _imagenet_synsets()
    files = list_images(data, synsets)
    skipped: list[Path] = []
    told: set[Path] = set()

    def report(path: Path, reason: str) -> None:
        if path not in told:
            print(f"featvis: {path} cannot be decoded and is skipped ({reason})", file=sys.stderr)
        told.add(path)

    def bar(name: str) -> Any:
        return lambda items: tqdm(items, desc=name, unit="image")

    try:
        out.mkdir(parents=True, exist_ok=True)
        if spectrum:
            _spectrum(files, flat, out, report, skipped, bar)
        for network in networks:
            known = read_bank(out, network.name)
            if (
                known is None
                or known.weights_hash != network.weights_hash
                or known.flat_classes != tuple(sorted(set(flat)))
            ):
                bank = build_bank(files, network, flat, report, skipped, progress=bar(network.alias))
                write_bank(out, bank)
        facts = {
            "source": source or data.resolve().name,
            "images": len(files) - len(told),
            "skipped": len(told),
            "sha256": fingerprint(data, files, content),
            "flat_classes": sorted(set(flat)),
            "spectrum_side": SPECTRUM_SIDE,
            "versions": versions(),
        }
        images.write_atomic(out / "provenance.json", (json.dumps(facts, indent=1, sort_keys=True) + "\n").encode())
    except OSError as error:
        raise UserError(f"--out {out} cannot be written ({error.strerror}); name a folder that can") from error
    if told:
        print(
            f"featvis: {len(told)} of {len(files)} images in {data} could not be decoded and were skipped",
            file=sys.stderr,
        )
    return facts


def _spectrum(
    files: Sequence[ImageFile], flat: Sequence[int], out: Path, report: Any, skipped: list[Path], bar: Any
) -> None:
    size = (SPECTRUM_SIDE, SPECTRUM_SIDE)
    try:
        whole, _ = build_spectrum(files, size, report, skipped, bar("spectrum"))
    except ValueError as error:
        raise UserError("--data holds no image that can be decoded") from error
    chosen: dict[int, ImageFile] = {}
    for file in files:
        if file.label in flat and file.label is not None:
            chosen.setdefault(file.label, file)
    real = build_spectrum(list(chosen.values()), size, report, skipped)[0] if chosen else None
    write_spectrum(out, whole, real)


def _imagenet_synsets() -> list[str]:
    from timm.data.imagenet_info import ImageNetInfo

    return list(ImageNetInfo().label_names())


def cached(data: Path, networks: Sequence[Classifier], flat: Sequence[int], root: Path) -> Path:
    """The reference of a folder of images for some networks, made below `root` the first time.

    A folder is one for its images' names and sizes and for `flat`.
    """
    files = list_images(data, networks[0].synsets)
    key = hashlib.sha256(f"{fingerprint(data, files, content=False)} {sorted(set(flat))}".encode()).hexdigest()[:12]
    folder = root / key
    spectrum = not (folder / "spectrum.safetensors").is_file()
    banks = [read_bank(folder, n.name) for n in networks]
    if spectrum or any(b is None or b.weights_hash != n.weights_hash for b, n in zip(banks, networks, strict=True)):
        make(data, networks, spectrum, flat, folder, content=False)
    return folder
