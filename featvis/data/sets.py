"""Sets of real images: what `--data` names in, images by number with their classes out.

    /data/imagenet/val               one folder a class, named by synset, label or index, or files that carry a class
    /data/val                        any folder and a label file in it (`labels.txt`) or beside it (`val.txt`)
    /data/imagenet                   a folder with the splits `train` and `val`; `imagenette` is one that is fetched
    hfds/imagenet-1k:validation      a data set of the Hugging Face `datasets` library, read by timm
    wds//data/shards:train           WebDataset: tar files of images with `.cls` or `.json` beside them

Every set is read by number, in an order that never changes, so that work on it can be cut, dealt out and resumed.
"""

from __future__ import annotations

import functools
import hashlib
import json
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from featvis.data import imagenette
from featvis.data.files import ImageFile, Known, digest_of, find_images, open_image, with_names
from featvis.data.labels import class_beside, numbers_by_name, same_order, with_labels
from featvis.data.walk import IMAGE_SUFFIXES, WITHOUT_CLASS
from featvis.errors import UserError, nearest
from featvis.networks.classes import SYNSET, Classes, plain

Role = Literal["bank", "frechet", "spectrum"]
SPLITS: dict[Role, tuple[str, ...]] = {
    "bank": ("train", "training"),
    "spectrum": ("train", "training"),
    "frechet": ("val", "validation", "test"),
}
"""Which split of a set serves for what, where none is named: the nearest neighbour of plausibility is sought among the
training images, the distance between sets is taken to the validation images (Fel et al. 2023, section 4)."""


class ImageSet(ABC):
    """Images by number, 0 to `len - 1`.

    Attributes:
        name: of the set, without the place where it lies.
        labels: class of each image, None where it has none.
        how: where the classes come from, in words.
        left: what is left out and why, in words; empty: nothing.
        fingerprint: SHA-256 of the names, sizes and classes of all images.
    """

    name: str
    labels: list[int | None]
    how: str
    left: str = ""
    fingerprint: str

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def read(self, i: int) -> bytes:
        """The bytes of an image's file. Raises OSError when they cannot be read."""

    @abstractmethod
    def where(self, i: int) -> str:
        """An image's name, for messages."""

    def open(self, i: int, channels: int = 3) -> tuple[Image.Image, int]:
        """An image, RGB or for other networks (`featvis.data.files.open_image`), and the digest of its file (`digest`).

        Raises:
            OSError: when it cannot be decoded.
        """
        data = self.read(i)
        return open_image(data, channels), digest_of(data)

    @functools.cached_property
    def rows(self) -> dict[int, list[int]]:
        """The numbers of the images of each class."""
        found: dict[int, list[int]] = {}
        for i, label in enumerate(self.labels):
            if label is not None:
                found.setdefault(label, []).append(i)
        return found

    def describe(self) -> str:
        """What was found, in words."""
        classes = {label for label in self.labels if label is not None}
        text = f"{self.name}: {len(self)} images of {len(classes)} classes ({self.how})"
        return text + (f"; left out: {self.left}" if self.left else "")

    def _fingerprint(self, facts: Sequence[object]) -> str:
        total = hashlib.sha256()
        for fact, label in zip(facts, self.labels, strict=True):
            # A file's name may be no text.
            total.update(f"{fact}\0{label}\n".encode("utf-8", "surrogateescape"))
        return total.hexdigest()


class FolderImages(ImageSet):
    """The images below a folder that have a class: by their label file or, without one, by their names.

    Args:
        folder: of the images.
        known: the network's classes, or their synsets, in their order.
        flag: the option that named it, for messages.
        classes: keep the images of these alone; None: all.
        below: see `featvis.data.files.with_names`.

    Raises:
        UserError: for a folder without images, or whose images have no class, or may be of several.
    """

    def __init__(
        self, folder: Path, known: Known, flag: str = "--data", classes: Sequence[int] | None = None,
        below: bool = False,
    ) -> None:  # fmt: skip
        self.name, self.folder = folder.resolve().name, folder
        found = find_images(folder, flag)
        unclear: UserError | None = None
        try:
            files = with_names(folder, found, known, flag, below)
        except UserError as error:  # unless a label file says it
            files, unclear = [ImageFile(path, None) for path in found.paths], error
        try:
            files, self.how, used = with_labels(folder, files, Classes.of(known), flag)
        except UserError as error:
            raise unclear or error from error
        unlabelled = [f.path for f in files if f.label is None]
        self.unlabelled = len(unlabelled)
        for path in unlabelled:
            found.leave(str(path), WITHOUT_CLASS)
        self.left = found.describe(used)
        self.files = [f for f in files if f.label is not None and (classes is None or f.label in classes)]
        self.labels = [f.label for f in self.files]
        self.fingerprint = self._fingerprint(
            [f"{f.path.relative_to(folder).as_posix()}\0{f.path.stat().st_size}" for f in self.files]
        )

    def read(self, i: int) -> bytes:  # noqa: D102
        return self.files[i].path.read_bytes()

    def where(self, i: int) -> str:  # noqa: D102
        return f"{self.name}/{self.files[i].path.relative_to(self.folder).as_posix()}"


class TarImages(ImageSet):
    """The images in the tar files of a WebDataset, found once by their place and read without unpacking.

    timm reads such shards as a stream; a stream cannot be dealt out and resumed by number.

    Args:
        folder: of the tar files, or one of them.
        split: of `_info.json`, or a part of the files' names; None: all.
        known: the network's classes, or their synsets.
        flag: the option that named it.
    """

    def __init__(self, folder: Path, split: str | None, known: Known, flag: str = "--data") -> None:
        shards = [folder] if folder.is_file() else _of_split(folder, split, flag)
        self.name = folder.resolve().stem + (f":{split}" if split else "")
        self.places: list[tuple[Path, int, int, str]] = []
        self.labels, self.unlabelled = [], 0
        classes = Classes.of(known)
        try:
            for shard in shards:
                with tarfile.open(shard, "r:") as tar:
                    self._index(tar, shard, classes)
        except (tarfile.TarError, OSError) as error:
            raise UserError(f"{flag}: {shard} cannot be read as a tar file, uncompressed ({error})") from error
        except UserError as error:
            raise UserError(f"{flag} {folder} has the class {error}") from error
        if not self.places and not self.unlabelled:
            raise UserError(f"{flag} {folder} holds no image in its {len(shards)} tar files")
        if not self.places:
            raise UserError(f"{flag} {folder}: no image has a class (a .cls or .json of the same name, or a synset)")
        self.how = f"classes from {len(shards)} tar files"
        self.left = f"{self.unlabelled} without a class" if self.unlabelled else ""
        self.fingerprint = self._fingerprint([f"{p.name}\0{name}\0{size}" for p, _, size, name in self.places])

    def _index(self, tar: tarfile.TarFile, shard: Path, classes: Classes) -> None:
        images: dict[str, tuple[int, int, str]] = {}
        labels: dict[str, int | None] = {}
        for member in tar:
            base, _, ending = member.name.rpartition(".")
            if not member.isfile() or not base:
                continue
            if f".{ending.lower()}" in IMAGE_SUFFIXES:
                images[base] = (member.offset_data, member.size, member.name)
            elif ending in ("cls", "json"):
                file = tar.extractfile(member)
                text = class_beside(file.read() if file is not None else b"", member.name)
                # Of a .cls and a .json, or of a name with a synset, whatever says the class.
                if text:
                    labels[base] = classes.find(text)
                if text.isdecimal() and labels[base] is None:
                    raise UserError(f"{text}, which the network does not have")
        for base, place in images.items():
            synset = SYNSET.search(base)
            label = labels.get(base, classes.synset(synset[0]) if synset else None)
            if label is None:
                self.unlabelled += 1
                continue
            self.places.append((shard, *place))
            self.labels.append(label)

    def read(self, i: int) -> bytes:  # noqa: D102
        shard, offset, size, _ = self.places[i]
        with shard.open("rb") as file:
            file.seek(offset)
            return file.read(size)

    def where(self, i: int) -> str:  # noqa: D102
        return f"{self.places[i][0].name}:{self.places[i][3]}"


def _of_split(folder: Path, split: str | None, flag: str) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"{flag} wds/{folder} is not a folder of tar files; write for example wds//data/shards:train")
    info = folder / "_info.json"
    if split is not None and info.is_file():
        try:
            splits = json.loads(info.read_text(encoding="utf-8")).get("splits", {})
            files = [folder / name for name in splits[split]["filenames"]] if split in splits else None
        except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
            raise UserError(f"{flag} wds/{folder}: {info.name} says no files of splits ({error})") from error
        if files is None:
            raise UserError(f"{flag} wds/{folder} has no split {split}: {nearest(split, splits)}")
        return files
    found = sorted(folder.glob("*.tar"))
    chosen = [p for p in found if split is None or split in p.name]
    if not chosen:
        what = f" with {split} in its name" if split and found else ""
        raise UserError(f"{flag} wds/{folder} holds no tar file{what}")
    return chosen


class HubImages(ImageSet):
    """A data set of the Hugging Face library, read by `timm.data.create_dataset`.

    Args:
        name: of the data set, or a folder that `datasets.load_dataset` reads.
        split: of the data set.
        known: the network's classes, or their synsets.
        flag: the option that named it.
    """

    def __init__(self, name: str, split: str, known: Known, flag: str = "--data") -> None:
        try:
            import datasets  # noqa: F401
        except ImportError as error:
            raise UserError(f"{flag} hfds/{name} needs the package datasets: pip install 'featvis[data]'") from error
        from timm.data.dataset_factory import create_dataset

        try:
            self.reader: Any = create_dataset(f"hfds/{name}", root=None, split=split).reader
        except Exception as error:  # the library has no common base of what it raises
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(f"{flag} hfds/{name}: the split {split} cannot be loaded ({reason:.200})") from error
        self.name = f"{Path(name).name}:{split}"
        try:
            labels = [int(x) for x in self.reader.iter_targets()]
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{flag} hfds/{name}: its label column holds no class numbers ({type(error).__name__}: {error!s:.80}); "
                "name a set that has a column `label` of them"
            ) from error
        names = {i: str(n) for n, i in (self.reader.class_to_idx or {}).items()}
        classes = Classes.of(known)
        self.how = "classes by number"
        if (numbers := numbers_by_name(names, classes)) is not None:
            labels = [numbers[x] if x >= 0 else x for x in labels]
            self.how = "classes named by synset" if classes.synset(names[0]) is not None else "classes by label"
        elif classes.labels and names and not same_order(names, classes):
            shown = ", ".join(names[i] for i in sorted(names)[:3])
            raise UserError(f"{flag} hfds/{name} has other classes than the network ({shown} …)")
        if labels and max(labels) >= max(1, len(classes)):
            raise UserError(f"{flag} hfds/{name} has the class {max(labels)}, which the network does not have")
        # Splits whose classes are kept secret have -1 for all.
        self.labels = [x if x >= 0 else None for x in labels]
        if not self.rows:
            raise UserError(f"{flag} hfds/{name}: no image of the split {split} has a class; name another split")
        self.left = f"{hidden} without a class" if (hidden := self.labels.count(None)) else ""
        self.fingerprint = self._fingerprint([f"{self.reader.dataset._fingerprint}\0{i}" for i in range(len(labels))])

    def read(self, i: int) -> bytes:  # noqa: D102
        file = self.reader[i][0]
        with file:
            return file.read()

    def where(self, i: int) -> str:  # noqa: D102
        return f"{self.name}[{i}]"


@dataclass(frozen=True)
class Place:
    """Where a text leads: two texts, or two roles, of one place are one image set.

    Attributes:
        kind: `folder`, `wds` or `hfds`.
        name: a path, or the name of a data set.
        split: of `wds` and `hfds`; None: all.
    """

    kind: Literal["folder", "wds", "hfds"]
    name: str
    split: str | None = None

    def open(self, known: Known, flag: str = "--data") -> ImageSet:
        """List the images there; see `open_images`."""
        if self.kind == "hfds":
            return HubImages(self.name, str(self.split), known, flag)
        if self.kind == "wds":
            return TarImages(Path(self.name), self.split, known, flag)
        return FolderImages(Path(self.name), known, flag)


def place_of(spec: str, role: Role = "bank", flag: str = "--data", known: Known = ()) -> Place:
    """Where the images of a text lie, see the module's docstring; nothing is listed.

    Args:
        spec: what `--data` says.
        role: what it is for, which chooses the split where none is named.
        flag: the option that named it, for messages.
        known: the network's classes, which may be called `train` or `test`: then their folders are no splits.

    Raises:
        UserError: for a kind of set that is a stream or a download.
    """
    kind, slash, rest = spec.partition("/")
    if slash and kind in ("hfds", "wds"):
        place, colon, split = rest.rpartition(":")
        place, named = (place, split) if colon else (rest, None)
        return Place("hfds", place, named or _role_split(place, role)) if kind == "hfds" else Place("wds", place, named)
    if slash and kind in ("hfids", "tfds", "torch"):
        raise UserError(f"{flag} {spec}: {kind}/ is a stream or a download; give a folder, hfds/ or wds/")
    folder = imagenette.place(spec, flag)
    if folder.is_dir():
        found = {p.name.lower(): p for p in sorted(folder.iterdir()) if p.is_dir()}
        splits = {name: p for name, p in found.items() if any(name in s for s in SPLITS.values())}
        if splits and not any(plain(name) in map(plain, Classes.of(known).labels) for name in splits):
            order = (*SPLITS[role], *(s for names in SPLITS.values() for s in names))
            folder = splits[next(s for s in order if s in splits)]
    return Place("folder", str(folder))


def open_images(spec: str, known: Known, role: Role = "bank", flag: str = "--data") -> ImageSet:
    """The image set of a text, see the module's docstring.

    Args:
        spec: what `--data` says.
        known: the network's classes, or their synsets, in their order.
        role: what it is for, which chooses the split where none is named.
        flag: the option that named it, for messages.

    Raises:
        UserError: for a set that is not there, holds no image, or whose classes are not the network's.
    """
    return place_of(spec, role, flag, known).open(known, flag)


def check_decodable(source: ImageSet, flag: str = "--data") -> None:
    """Raise a UserError unless some image with a class can be decoded."""
    reason = ""
    for i, label in enumerate(source.labels):
        if label is None:
            continue
        try:
            source.open(i)
        except OSError as error:
            reason = reason or f" ({source.where(i)}: {error})"
            continue
        return
    raise UserError(f"{flag} {source.name}: no image that has a class can be decoded{reason}; name a set of whole ones")


def _role_split(name: str, role: Role) -> str:
    from datasets import get_dataset_split_names

    try:
        there = get_dataset_split_names(name)
    except Exception:  # the name itself is wrong: loading says so, in one sentence
        return SPLITS[role][0]
    return next((s for s in SPLITS[role] if s in there), there[0])
