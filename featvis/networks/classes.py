"""Whose classes: the names that a network has for them in, a class's number out, and whether two networks share some.

A class is known by its synset (`n02165456`) or by its label, never by its number alone: class 3 of one network is not
class 3 of another.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from featvis.errors import UserError
from featvis.networks.classifier import Classifier

SYNSET = re.compile(r"n\d{8}")
_NUMBERED = re.compile(r"(?:class|dimension|label)[ _-]?(\d+)", re.IGNORECASE)
"""What stands where a network has no names for its classes: `class 3`, `dimension 3` of an extractor, or `LABEL_3` of a
Hugging Face configuration."""


@dataclass(frozen=True)
class Classes:
    """The classes of a network, in their order.

    Attributes:
        count: how many there are.
        synsets: WordNet ids, or none.
        labels: names for people, or none where they are only counted.
    """

    count: int
    synsets: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()

    @classmethod
    def of(cls, known: Classes | Classifier | Sequence[str]) -> Classes:
        """Those of a network, or of a list of synsets or labels.

        Example:
            >>> from featvis.networks.classes import Classes
            >>> Classes.of(["cat", "dog"]).find("Dog"), Classes.of([f"class {i}" for i in range(5)]).labels
            (1, ())
        """
        if isinstance(known, Classes):
            return known
        labels = tuple(known.labels if isinstance(known, Classifier) else known)
        synsets = tuple(known.synsets) if isinstance(known, Classifier) else ()
        if labels and all(SYNSET.fullmatch(label) for label in labels):
            labels, synsets = (), labels
        numbers = [_NUMBERED.fullmatch(label) for label in labels]
        if all(n is not None and int(n[1]) == i for i, n in enumerate(numbers)):
            labels = ()
        return cls(known.num_classes if isinstance(known, Classifier) else len(known), synsets, labels)

    def __len__(self) -> int:
        return self.count

    @functools.cached_property
    def _by_synset(self) -> dict[str, int]:
        return {synset: i for i, synset in enumerate(self.synsets)}

    @functools.cached_property
    def _by_label(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for i, label in enumerate(self.labels):
            found.setdefault(plain(label), []).append(i)
        return found

    def synset(self, text: str) -> int | None:
        """The class of a synset, or None."""
        return self._by_synset.get(text)

    def find(self, text: str) -> int | None:
        """The class that a text names: a synset, a label (whatever its case, spaces or `_`) or an index; else None.

        Raises:
            UserError: where it may be more than one, such as a label that is another class's index.
        """
        if (found := self.synset(text)) is not None:
            return found
        named = self._by_label.get(plain(text), [])
        if not self.labels and (counted := _NUMBERED.fullmatch(text.strip())):
            text = counted[1]
        numbers = [int(text)] if re.fullmatch(r"[0-9]{1,9}", text) and int(text) < self.count else []
        several = sorted({*named, *numbers})
        if len(several) > 1:
            how = "an index and a label" if numbers else "a label of each"
            classes = " and ".join(map(str, several[:3]))
            way = "it in another way, in a label file" if numbers else f"one by its index ({several[0]})"
            raise UserError(f"{text} may be the classes {classes} ({how}); name {way}")
        return several[0] if several else None

    def counterpart(self, index: int, other: Classes) -> int | None:
        """The number that a class has in another network: by synset, where both have them, else by label; or None.

        Example:
            >>> from featvis.networks.classes import Classes
            >>> Classes.of(["cat", "dog"]).counterpart(0, Classes.of(["tree", "Cat"]))
            1
        """
        if self.synsets and (other.synsets or not other.labels):
            return other.synset(self.synsets[index])
        if not self.labels:
            return None
        label = plain(self.labels[index])
        theirs = other._by_label.get(label, [])
        return theirs[0] if len(theirs) == len(self._by_label[label]) == 1 else other.synset(self.labels[index])

    def same(self, other: Classes) -> bool:
        """Whether another network is known to have these classes, all of them under these numbers.

        Example:
            >>> from featvis.networks.classes import Classes
            >>> pets, cars = Classes.of(["cat", "dog"]), Classes.of(["van", "cab"])
            >>> pets.same(Classes.of(["Cat", "Dog"])), pets.same(cars), Classes(2).same(Classes(2))
            (True, False, False)
        """
        if self.synsets and other.synsets:
            return self.synsets == other.synsets
        return bool(self.labels) and [plain(label) for label in self.labels] == [plain(text) for text in other.labels]

    def shared(self, other: Classes, wanted: Iterable[int] = ()) -> bool:
        """Whether two networks have the same classes, as far as they matter.

        Args:
            other: the other network's.
            wanted: which must be shared, all of them; none: half of those of the network that has fewer.
        """
        if chosen := list(wanted):
            return all(self.counterpart(i, other) is not None for i in chosen)
        common = sum(self.counterpart(i, other) is not None for i in range(self.count))
        return 2 * common >= max(1, min(self.count, other.count))

    @property
    def examples(self) -> str:
        """How the class of an image may be written, for messages: by synset, by label, by index."""
        synset = next((s for s in ("n02165456", *self.synsets) if s in self.synsets), "")
        index = min(301, self.count - 1)
        ways = [f"by synset ({synset})"] if synset else []
        ways += [f"by label ({self.labels[0]})"] if self.labels and not synset else []
        files = f"{index}.png" + (f", {synset}_1.png" if synset else "")
        return " or ".join([*ways, f"by index ({index})"]) + f", or so the files ({files})"


def plain(label: str) -> str:
    """A label as it is compared: `Giant_Panda` is `giant panda`.

    Example:
        >>> from featvis.networks.classes import plain
        >>> plain(" Giant_Panda")
        'giant panda'
    """
    return " ".join(label.replace("_", " ").split()).casefold()
