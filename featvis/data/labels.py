"""Label files: a text file beside images in, the class of each image out.

A line is a file's name and a class, or a class alone, in the order of the images. A name is a path relative to the
folder, with or without its ending, or a bare name where only one image has it. A class is a synset, a label or an index
that counts from 0 in the network's own order. Separators are tabs, commas, semicolons or spaces.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from featvis.data.files import ImageFile
from featvis.errors import UserError
from featvis.networks.classes import Classes, plain

LABEL_FILES = (".txt", ".csv", ".tsv")


def numbers_by_name(names: dict[int, str], classes: Classes) -> dict[int, int] | None:
    """The network's number of each class of a set, where it knows all of them by name."""
    try:
        found = {i: classes.find(name) for i, name in names.items() if not name.isdecimal()}
    except UserError:
        return None
    numbers = {i: number for i, number in found.items() if number is not None}
    return numbers if numbers and len(numbers) == len(names) else None


def same_order(names: dict[int, str], classes: Classes) -> bool:
    """Whether half of a set's classes, or more, are called as those of the network that have their numbers.

    ImageNet's classes are called `tench, Tinca tinca` there, and some are called the same.
    """
    named = {i: name for i, name in names.items() if not name.isdecimal()}
    alike = [plain(name.split(",")[0]) == plain(classes.labels[i]) for i, name in named.items() if i < len(classes)]
    return 2 * sum(alike) >= len(named)


def label_files(folder: Path) -> list[Path]:
    """Files that may be label files: those in a folder, and those beside it that are called as it is."""
    inside = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in LABEL_FILES and p.is_file()]
    name = folder.resolve().name
    beside = [folder.parent / f"{name}{end}{suffix}" for end in ("", "_labels") for suffix in LABEL_FILES]
    return inside + [p for p in beside if p.is_file()]


def class_beside(data: bytes, name: str) -> str:
    """What a `.cls` or a `.json` of a WebDataset says of its image's class; empty where it says nothing.

    Raises:
        OSError: when a `.json` holds no JSON object.
    """
    if not name.endswith(".json"):
        return data.decode("utf-8-sig", errors="replace").strip()
    try:
        value = json.loads(data).get("label")
    except (ValueError, AttributeError) as error:
        raise OSError(f"{name} in it is no JSON object") from error
    return "" if value is None else str(value).strip()


class LabelFile:
    """A file that may say the classes of some images.

    Args:
        path: of the file.
        images: by their names.
        classes: of the network.
        flag: the option that named the folder, for messages.

    Raises:
        UserError: when it cannot be read.
    """

    def __init__(self, path: Path, images: Places, classes: Classes, flag: str = "--data") -> None:
        self.path, self.images, self.classes, self.flag = path, images, classes, flag
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{flag}: the label file {path} cannot be read ({error})") from error
        self.lines = [line.strip() for line in text.splitlines() if line.strip()]
        self._in_order = all(self._is_class(line) for line in self.lines)
        self.pairs = not self._in_order and any(re.search(r"[,;\s]", line) for line in self.lines)

    @property
    def fits(self) -> bool:
        """Whether it names some of the images, or has a class of the network for each."""
        if not self.pairs:
            return self._in_order and len(self.lines) == len(self.images.paths)
        return any(self.images.find(name) for line in self.lines for name, _ in _splits(line))

    def read(self) -> list[int | None]:
        """The class of each image; None where the file does not name it.

        Raises:
            UserError: for a class that the network does not have, a number of lines that is not that of the images, an
                image that has two lines, a bare name that several have, or indices that count from 1.
        """
        texts: list[str | None] = self._by_name() if self.pairs else self._by_order()
        classes, count = self.classes, self.classes.count
        numbers = [int(t) for t in texts if t is not None and t.isdecimal()]
        if numbers and 0 not in numbers and max(numbers) == count:
            theirs = ", which are ILSVRC's own numbers and not the order of the networks; write synsets instead"
            raise UserError(
                f"{self.flag}: the classes in {self.path} count from 1 to {count}"
                + (theirs if classes.synsets else "; those of the network count from 0")
            )
        found: list[int | None] = []
        for text in texts:
            label = None if text is None else self._class(text)
            if text is not None and label is None:
                raise UserError(f"{self.flag}: {self.path} has the class {text}, which the network does not have")
            found.append(label)
        return found

    def _by_order(self) -> list[str | None]:
        if len(self.lines) != len(self.images.paths):
            raise UserError(
                f"{self.flag}: {self.path} has {len(self.lines)} classes for {len(self.images.paths)} images; it needs "
                "one a line, or a file's name before each"
            )
        return list(self.lines)

    def _by_name(self) -> list[str | None]:
        texts: list[str | None] = [None] * len(self.images.paths)
        for line in self.lines:
            at, text = self._entry(line)
            if len(at) > 1:
                names = " and ".join(self.images.paths[i] for i in at[:2])
                raise UserError(
                    f"{self.flag}: {line!r:.80} in {self.path} may be {names}; write the path below "
                    f"{self.images.folder}"
                )
            for i in at:
                if texts[i] is not None:
                    raise UserError(f"{self.flag}: {self.path} has two lines for {self.images.paths[i]}; keep one")
                texts[i] = text
        if all(t is None for t in texts):
            raise UserError(
                f"{self.flag}: {self.path} names none of the {len(self.images.paths)} images; a line is a file's "
                "name and a class"
            )
        return texts

    def _entry(self, line: str) -> tuple[list[int], str]:
        """Which images a line names, and the text of their class."""
        for name, rest in _splits(line):
            if at := self.images.find(name):
                # A class with a word for each of several things stands alone, or before other columns.
                tries = [rest, re.split(r"[,;\t]", rest)[0], re.split(r"[,;\s]", rest)[0]]
                texts = [t.strip().strip("\"'") for t in tries]
                return at, next((t for t in texts if self._class(t) is not None), texts[-1])
        return [], ""

    def _class(self, text: str) -> int | None:
        try:
            return self.classes.find(text)
        except UserError as error:
            raise UserError(f"{self.flag}: in {self.path}, {error}") from error

    def _is_class(self, text: str) -> bool:
        try:
            return self.classes.find(text) is not None
        except UserError:  # several: one of them is meant
            return True


class Places:
    """Images by the names that a line may have for them.

    Args:
        folder: of the images.
        files: the images.
    """

    def __init__(self, folder: Path, files: Sequence[ImageFile]) -> None:
        self.folder = folder.resolve().name
        self.paths = [f.path.relative_to(folder).as_posix() for f in files]
        self._by: tuple[dict[str, list[int]], ...] = ({}, {}, {}, {})
        for i, path in enumerate(self.paths):
            bare = path.rpartition("/")[2]
            for place, key in zip(self._by, (path, _without_ending(path), bare, _without_ending(bare)), strict=True):
                place.setdefault(key, []).append(i)

    def find(self, text: str) -> list[int]:
        """The images that a name stands for: by path; a bare name by that alone, too."""
        text = text.strip().strip("\"'").replace("\\", "/").removeprefix("./")
        whole, stems, bare, bare_stems = self._by
        inner = text.removeprefix(f"{self.folder}/")
        for place, key in ((whole, text), (whole, inner), (stems, text), (stems, inner)):
            if key in place:
                return place[key]
        return [] if "/" in text else bare.get(text) or bare_stems.get(text) or []


def _without_ending(path: str) -> str:
    stem, dot, _ = path.rpartition(".")
    return stem if dot and stem and not stem.endswith("/") else path


def _splits(line: str) -> Iterator[tuple[str, str]]:
    """The ways of cutting a line into a name and the rest: names may have spaces."""
    for separator in "\t,;":
        name, cut, rest = line.partition(separator)
        if cut:
            yield name, rest.strip()
    for space in re.finditer(r"\s+", line):
        yield line[: space.start()], line[space.end() :]


def _called_so(path: Path, folder: Path) -> bool:
    """Whether a file's name says that it is the label file of a folder."""
    return "label" in path.stem.lower() or path.parent != folder


def with_labels(
    folder: Path, files: list[ImageFile], classes: Classes, flag: str = "--data"
) -> tuple[list[ImageFile], str, Path | None]:
    """Images with the classes of their label file, which wins over names; of their names, where there is none.

    Args:
        folder: of the images.
        files: with the classes that their names carry.
        classes: of the network.
        flag: the option that named the folder.

    Returns:
        The images; where their classes are from, in words; and the label file.

    Raises:
        UserError: where no image has a class, several files may be the label file, or it cannot be right.
    """
    by_folder = any(f.label is not None and f.path.parent != folder for f in files)
    named = any(f.label is not None for f in files)
    # Beside folders that name classes, a text that is not called a label file may be about anything.
    may_be = [p for p in label_files(folder) if not by_folder or _called_so(p, folder)]
    images = Places(folder, files if may_be else [])
    found = [LabelFile(path, images, classes, flag) for path in may_be]
    chosen = [f for f in found if f.fits]
    if not chosen and not by_folder:
        chosen = [f for f in found if not named or _called_so(f.path, folder)]
    if len(chosen) > 1:
        names = ", ".join(f.path.name for f in chosen)
        raise UserError(f"{flag} {folder} has several label files ({names}); keep one of them")
    if chosen:
        labels = chosen[0].read()
        if by_folder and not chosen[0].pairs and labels != [f.label for f in files]:
            raise UserError(
                f"{flag}: {chosen[0].path} may be a list of the classes, or the class of each image in order, which "
                "its folder says otherwise; write a file's name before each class, or remove it"
            )
        files = [ImageFile(f.path, label) for f, label in zip(files, labels, strict=True)]
        return files, f"classes from {chosen[0].path.name}", chosen[0].path
    if not named:
        raise UserError(
            f"{flag} {folder}: no image carries a class in its name or its folder's; name the folders "
            f"{classes.examples}, or add a label file (labels.txt: a file name and a class a line)"
        )
    return files, "classes from the names", None
