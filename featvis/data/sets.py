"""Sets of real images: what `--data` names in, images by number with their classes out.

    /data/imagenet/val               one folder a class, named by synset or index, or files that carry a class
    /data/val                        one flat folder and a label file in it (`labels.txt`) or beside it (`val.txt`)
    /data/imagenet                   a folder with the splits `train` and `val`; `imagenette` is one that is fetched
    hfds/imagenet-1k:validation      a data set of the Hugging Face `datasets` library, read by timm
    wds//data/shards:train           WebDataset: tar files of images with `.cls` or `.json` beside them

Every set is read by number, in an order that never changes, so that work on it can be cut, dealt out and resumed.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from featvis.data import imagenette
from featvis.data.files import IMAGE_SUFFIXES, ImageFile, digest_of, list_images, open_rgb
from featvis.errors import UserError, nearest

Role = Literal["bank", "frechet", "spectrum"]
SPLITS: dict[Role, tuple[str, ...]] = {
    "bank": ("train", "training"),
    "spectrum": ("train", "training"),
    "frechet": ("val", "validation", "test"),
}
"""Which split of a set serves for what, where none is named: the nearest neighbour of plausibility is sought among the
training images, the distance between sets is taken to the validation images (Fel et al. 2023, section 4)."""
LABEL_FILES = (".txt", ".csv", ".tsv")


class ImageSet(ABC):
    """Images by number, 0 to `len - 1`.

    Attributes:
        name: of the set, without the place where it lies.
        labels: class of each image, None where it has none.
        how: where the classes come from, in words.
        fingerprint: SHA-256 of the names, sizes and classes of all images.
    """

    name: str
    labels: list[int | None]
    how: str
    fingerprint: str

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def read(self, i: int) -> bytes:
        """The bytes of an image's file. Raises OSError when they cannot be read."""

    @abstractmethod
    def where(self, i: int) -> str:
        """An image's name, for messages."""

    def open(self, i: int) -> tuple[Image.Image, int]:
        """An image as RGB, and the digest of its file (`featvis.data.files.digest`).

        Raises:
            OSError: when it cannot be decoded.
        """
        data = self.read(i)
        return open_rgb(data), digest_of(data)

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
        unlabelled = sum(label is None for label in self.labels)
        text = f"{self.name}: {len(self)} images of {len(classes)} classes ({self.how})"
        return text + (f", {unlabelled} without a class are left out" if unlabelled else "")

    def _fingerprint(self, facts: Sequence[object]) -> str:
        total = hashlib.sha256()
        for fact, label in zip(facts, self.labels, strict=True):
            total.update(f"{fact}\0{label}\n".encode())
        return total.hexdigest()


class FolderImages(ImageSet):
    """The images below a folder.

    Args:
        folder: of the images.
        synsets: of the network's classes, in their order.
        flag: the option that named it, for messages.
        classes: keep the images of these alone; None: all.

    Raises:
        UserError: for a folder without images, or whose images have no class.
    """

    def __init__(
        self, folder: Path, synsets: Sequence[str], flag: str = "--data", classes: Sequence[int] | None = None
    ) -> None:
        self.name, self.folder = folder.resolve().name, folder
        files = list_images(folder, synsets, flag)
        self.how = "classes from the names"
        if all(f.label is None for f in files):
            files = self._labelled(folder, files, synsets, flag)
        self.files = [f for f in files if classes is None or f.label in classes]
        self.labels = [f.label for f in self.files]
        self.fingerprint = self._fingerprint(
            [f"{f.path.relative_to(folder).as_posix()}\0{f.path.stat().st_size}" for f in self.files]
        )

    def read(self, i: int) -> bytes:  # noqa: D102
        return self.files[i].path.read_bytes()

    def where(self, i: int) -> str:  # noqa: D102
        return f"{self.name}/{self.files[i].path.relative_to(self.folder).as_posix()}"

    def _labelled(self, folder: Path, files: list[ImageFile], synsets: Sequence[str], flag: str) -> list[ImageFile]:
        found = [p for p in sorted(folder.iterdir()) if p.suffix in LABEL_FILES]
        beside = [folder.parent / f"{folder.resolve().name}{end}{s}" for end in ("", "_labels") for s in LABEL_FILES]
        found += [p for p in beside if p.is_file()]
        if not found:
            raise UserError(
                f"{flag} {folder}: no image carries a class in its name or its folder's; name the folders by synset "
                "(n02165456) or by index (301), or add a label file (labels.txt: a file name and a synset a line)"
            )
        if len(found) > 1:
            names = ", ".join(p.name for p in found)
            raise UserError(f"{flag} {folder} has several label files ({names}); keep one of them")
        labels = read_labels(found[0], [f.path for f in files], synsets, flag)
        self.how = f"classes from {found[0].name}"
        return [ImageFile(f.path, label) for f, label in zip(files, labels, strict=True)]


def read_labels(path: Path, files: Sequence[Path], synsets: Sequence[str], flag: str = "--data") -> list[int | None]:
    """The class of each file, from a label file: lines of a file's name and a class, or of classes alone, in order.

    A class is a synset or an index that counts from 0 in the order of the synsets, which is that of every timm network.

    Raises:
        UserError: for a class that the network does not have, a number of lines that is not that of the files, or
            indices that count from 1: ILSVRC's own numbers have another order.
    """
    index = {synset: i for i, synset in enumerate(synsets)}
    try:
        lines = [line for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{flag}: the label file {path} cannot be read ({error})") from error
    words = [re.split(r"[,;\s]+", line.strip()) for line in lines]
    by_name: dict[str, str] = {}
    if all(len(w) == 1 for w in words):
        if len(words) != len(files):
            raise UserError(f"{flag}: {path} has {len(words)} classes for {len(files)} images; it needs one a line")
        texts: list[str | None] = [w[0] for w in words]
    else:
        by_name = {Path(w[0]).stem: w[1] for w in words if len(w) > 1}
        texts = [by_name.get(f.stem) for f in files]
        if all(t is None for t in texts):
            raise UserError(
                f"{flag}: {path} names none of the {len(files)} images; a line is a file's name and a class"
            )
    numbers = [int(t) for t in texts if t is not None and t.isdecimal()]
    if numbers and 0 not in numbers and max(numbers) == len(index):
        raise UserError(
            f"{flag}: the classes in {path} count from 1 to {len(index)}, which are ILSVRC's own numbers and not the "
            "order of the networks; write synsets instead"
        )
    found: list[int | None] = []
    for text in texts:
        label = None if text is None else int(text) if text.isdecimal() else index.get(text, -1)
        if label is not None and not 0 <= label < len(index):
            raise UserError(f"{flag}: {path} has the class {text}, which the network does not have")
        found.append(label)
    return found


class TarImages(ImageSet):
    """The images in the tar files of a WebDataset, found once by their place and read without unpacking.

    timm reads such shards as a stream; a stream cannot be dealt out and resumed by number.

    Args:
        folder: of the tar files, or one of them.
        split: of `_info.json`, or a part of the files' names; None: all.
        synsets: of the network's classes.
        flag: the option that named it.
    """

    def __init__(self, folder: Path, split: str | None, synsets: Sequence[str], flag: str = "--data") -> None:
        shards = [folder] if folder.is_file() else _of_split(folder, split, flag)
        self.name = folder.resolve().stem + (f":{split}" if split else "")
        self.places: list[tuple[Path, int, int, str]] = []
        self.labels = []
        index = {synset: i for i, synset in enumerate(synsets)}
        for shard in shards:
            try:
                with tarfile.open(shard) as tar:
                    self._index(tar, shard, index)
            except (tarfile.TarError, OSError) as error:
                raise UserError(f"{flag}: {shard} cannot be read as a tar file ({error})") from error
        if not self.places:
            raise UserError(f"{flag} {folder} holds no image in its {len(shards)} tar files")
        if all(label is None for label in self.labels):
            raise UserError(f"{flag} {folder}: no image has a class (a .cls or .json of the same name, or a synset)")
        wrong = next((x for x in self.labels if x is not None and not 0 <= x < max(1, len(index))), None)
        if wrong is not None:
            raise UserError(f"{flag} {folder} has the class {wrong}, which the network does not have")
        self.how = f"classes from {len(shards)} tar files"
        self.fingerprint = self._fingerprint([f"{p.name}\0{name}\0{size}" for p, _, size, name in self.places])

    def _index(self, tar: tarfile.TarFile, shard: Path, index: dict[str, int]) -> None:
        images: dict[str, tuple[int, int, str]] = {}
        labels: dict[str, int] = {}
        for member in tar:
            base, _, ending = member.name.rpartition(".")
            if not member.isfile() or not base:
                continue
            if f".{ending.lower()}" in IMAGE_SUFFIXES:
                images[base] = (member.offset_data, member.size, member.name)
            elif ending in ("cls", "json"):
                file = tar.extractfile(member)
                value: Any = file.read().decode() if file is not None else ""
                value = json.loads(value).get("label") if ending == "json" else value
                if str(value).strip().isdecimal():
                    labels[base] = int(value)
        for base, place in images.items():
            synset = re.search(r"n\d{8}", base)
            self.places.append((shard, *place))
            self.labels.append(labels.get(base, index.get(synset[0]) if synset else None))

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
        splits = json.loads(info.read_text()).get("splits", {})
        if split not in splits:
            raise UserError(f"{flag} wds/{folder} has no split {split}: {nearest(split, splits)}")
        return [folder / name for name in splits[split]["filenames"]]
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
        synsets: of the network's classes.
        flag: the option that named it.
    """

    def __init__(self, name: str, split: str, synsets: Sequence[str], flag: str = "--data") -> None:
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
        labels = [int(x) for x in self.reader.iter_targets()]
        names = {i: str(n) for n, i in (self.reader.class_to_idx or {}).items()}
        index = {synset: i for i, synset in enumerate(synsets)}
        self.how = "classes by number"
        if names and all(n in index for n in names.values()):
            labels, self.how = [index[names[x]] for x in labels], "classes named by synset"
        if labels and max(labels) >= max(1, len(index)):
            raise UserError(f"{flag} hfds/{name} has the class {max(labels)}, which the network does not have")
        self.labels = list(labels)
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

    def open(self, synsets: Sequence[str], flag: str = "--data") -> ImageSet:
        """List the images there; see `open_images`."""
        if self.kind == "hfds":
            return HubImages(self.name, str(self.split), synsets, flag)
        if self.kind == "wds":
            return TarImages(Path(self.name), self.split, synsets, flag)
        return FolderImages(Path(self.name), synsets, flag)


def place_of(spec: str, role: Role = "bank", flag: str = "--data") -> Place:
    """Where the images of a text lie, see the module's docstring; nothing is listed.

    Args:
        spec: what `--data` says.
        role: what it is for, which chooses the split where none is named.
        flag: the option that named it, for messages.

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
        splits = {p.name: p for p in folder.iterdir() if p.is_dir() and any(p.name in s for s in SPLITS.values())}
        if splits:
            folder = next((splits[s] for s in SPLITS[role] if s in splits), None) or next(iter(splits.values()))
    return Place("folder", str(folder))


def open_images(spec: str, synsets: Sequence[str], role: Role = "bank", flag: str = "--data") -> ImageSet:
    """The image set of a text, see the module's docstring.

    Args:
        spec: what `--data` says.
        synsets: of the network's classes, in their order.
        role: what it is for, which chooses the split where none is named.
        flag: the option that named it, for messages.

    Raises:
        UserError: for a set that is not there, holds no image, or whose classes are not the network's.
    """
    return place_of(spec, role, flag).open(synsets, flag)


def check_decodable(source: ImageSet, flag: str = "--data") -> None:
    """Raise a UserError unless some image with a class can be decoded."""
    for i, label in enumerate(source.labels):
        if label is None:
            continue
        try:
            source.open(i)
        except OSError:
            continue
        return
    raise UserError(f"{flag} {source.name}: no image that has a class can be decoded; name a set of whole ones")


def _role_split(name: str, role: Role) -> str:
    from datasets import get_dataset_split_names

    try:
        there = get_dataset_split_names(name)
    except Exception:  # the name itself is wrong: loading says so, in one sentence
        return SPLITS[role][0]
    return next((s for s in SPLITS[role] if s in there), there[0])
