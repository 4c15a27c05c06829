"""Names of classes: their order, and the classes of a data set in the numbering of a model."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch

from .core import Batch, Data
from .transformed import BatchDraws, Transformed

WORDNET = re.compile(r"n\d{8}")
"""A WordNet identifier, the name of a class folder of ImageNet."""
IMAGENET = 1000
"""Number of classes of ImageNet, which are numbered in the order of their WordNet identifiers."""
SHOWN = 20
"""Number of class names that a message shows."""


def is_number(name: str) -> bool:
    """Whether a class name is a whole number, such as 7 or 007."""
    return re.fullmatch(r"[0-9]+", name) is not None


def in_order(names: Iterable[str]) -> list[str]:
    """Order class names: by their numbers if all are whole numbers, else by their letters."""
    listed = sorted(names)
    return sorted(listed, key=int) if all(map(is_number, listed)) else listed


def listed(names: Collection[str]) -> str:
    """The first class names, for a message."""
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(list(names)[:SHOWN]) + more


@dataclass(frozen=True)
class Renumber:
    """Replace each label by the number of its class in another numbering.

    Args:
        numbers: The new number of each class.
    """

    numbers: tuple[int, ...]

    def __call__(self, batch: Batch, draws: BatchDraws) -> Batch:
        """Renumber the labels of a batch."""
        if batch.label is None:
            return batch
        return batch._replace(label=torch.tensor(self.numbers, device=batch.label.device)[batch.label])


@dataclass(frozen=True)
class Numbering:
    """The classes of a model by their numbers.

    A class of a data set is found by its name: the same name, a name that differs in case, underscores and hyphens
    alone, or one of the names that a comma separates ("tench, Tinca tinca"). A whole number, such as 7 or 007, is the
    number of a class, unless the model has such names itself. The 1000 WordNet identifiers of ImageNet are numbered in
    their order.

    Args:
        owner: The model, for messages.
        count: Number of its classes.
        names: Names of its classes by number, as far as they are known.
        exact: Whether it has exactly so many classes. False: at most.
        advice: Advice for data whose classes it does not have.
    """

    owner: str
    count: int
    names: Mapping[int, str] = field(default_factory=dict)
    exact: bool = True
    advice: str = "rename the classes of the data"

    def numbers(self, names: Sequence[str], where: str) -> list[int]:
        """Find the number of each class of a data set.

        Args:
            names: Names of its classes.
            where: Name of the data set, for messages.

        Returns:
            The numbers.

        Raises:
            ValueError: A class is none of the model, or several have the same number.
        """
        if list(names) == [self.names.get(number) for number in range(len(names))]:
            return list(range(len(names)))
        found = [self._number(name) for name in names]
        if None in found and len(names) == self.count == IMAGENET and all(map(WORDNET.fullmatch, names)):
            order = sorted(names)
            return [order.index(name) for name in names]
        if lost := [name for name, number in zip(names, found, strict=True) if number is None]:
            raise ValueError(
                f"classes of {where} cannot be matched with the classes of {self.owner}: {listed(lost)}. The classes "
                f"of {where} are {listed(names)}; {self._known()}. Please {self.advice}"
            )
        numbers = [number for number in found if number is not None]
        twice = [name for name, number in zip(names, numbers, strict=True) if numbers.count(number) > 1]
        if twice:
            raise ValueError(
                f"the classes {listed(twice)} of {where} are one class of {self.owner}, number "
                f"{self._number(twice[0])}: put their rows into one class"
            )
        return numbers

    def fit(self, data: Data) -> Data:
        """Give the classes of a data set the numbers that they have in the model.

        Args:
            data: The data set. Labels without names are numbers of the model's classes.

        Returns:
            The data set with the model's classes; itself if its classes have these numbers.

        Raises:
            ValueError: A class is none of the model, or several have the same number.
        """
        if data.classes is None:
            return data
        if data.class_names is None:
            if data.classes > self.count:
                raise ValueError(
                    f"{self.owner} has {self.count} classes, and {data.name} {data.classes}: give labels from 0 to "
                    f"{self.count - 1}, the numbers of the model's classes"
                )
            return data
        numbers = self.numbers(data.class_names, data.name)
        if numbers == list(range(len(numbers))):
            return data
        source = Transformed(data.source, (Renumber(tuple(numbers)),), everywhere=True)
        own = dict(zip(numbers, data.class_names, strict=True))
        count = self.count if self.exact else max(numbers) + 1
        names = tuple(self.names.get(number) or own.get(number) or str(number) for number in range(count))
        recipe = None if data.recipe is None else {**data.recipe, "class_names": list(names)}
        return replace(data, source=source, classes=count, class_names=names, recipe=recipe)

    def _number(self, name: str) -> int | None:
        """The number of the only class with a name; None if there is none, or several."""
        for known, written in ((self._exact, name), (self._plain, _plain(name)), (self._parts, _plain(name))):
            if found := known.get(written):
                return found[0] if len(found) == 1 else None
        if not is_number(name) or any(map(is_number, self.names.values())):
            return None
        return int(name) if len(name) < SHOWN and int(name) < self.count else None

    @cached_property
    def _exact(self) -> dict[str, list[int]]:
        return _by_name((name, number) for number, name in self.names.items())

    @cached_property
    def _plain(self) -> dict[str, list[int]]:
        return _by_name((_plain(name), number) for number, name in self.names.items())

    @cached_property
    def _parts(self) -> dict[str, list[int]]:
        parts = ((_plain(part), number) for number, name in self.names.items() for part in name.split(","))
        return _by_name(dict.fromkeys(parts))

    def _known(self) -> str:
        """The classes of the model, for a message."""
        numbers = f"has the numbers 0 to {self.count - 1}"
        if not self.names:
            return f"{self.owner} {numbers}, and no names are known"
        return f"the classes of {self.owner} are {listed([self.names[number] for number in sorted(self.names)])}"


def _by_name(pairs: Iterable[tuple[str, int]]) -> dict[str, list[int]]:
    """The numbers of the classes of each name."""
    found: dict[str, list[int]] = {}
    for name, number in pairs:
        found.setdefault(name, []).append(number)
    return found


def _plain(name: str) -> str:
    """A class name without differences of case, underscores, hyphens and spaces."""
    return " ".join(re.sub(r"[_\-]", " ", name).split()).casefold()
