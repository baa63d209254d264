"""What a source gives: samples, in parts; and a source that is known whole."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

PART = 1024  # samples of a part, where the source has no parts of its own


@dataclass(frozen=True)
class Sample:
    """An image, not yet decoded, with its captions. `key`: its name within the source; `image`: the bytes of its file
    or its path; `concepts`: labels `kind:label` that hold in it; `mentions`: per caption the labels it names."""

    key: str
    image: bytes | str
    captions: tuple[str, ...]
    split: str
    concepts: tuple[str, ...] = ()
    mentions: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Skipped:
    """What a source had to leave out, and why."""

    key: str
    reason: str


class Source(Protocol):
    """`part(i)`, 0 <= i < n_parts, gives the same samples in the same order every time; `name` tells sources apart."""

    name: str
    n_parts: int

    def part(self, index: int) -> Iterator[Sample | Skipped]:
        """The samples of a part."""


class Listed:
    """A source that is known whole: parts of `PART` samples; `make(i)` gives sample i."""

    def __init__(self, name: str, n: int, make: Callable[[int], Sample | Skipped]) -> None:
        self.name, self.n, self.make = name, n, make
        self.n_parts = -(-n // PART)

    def part(self, index: int) -> Iterator[Sample | Skipped]:
        """The samples of a part."""
        return map(self.make, range(index * PART, min((index + 1) * PART, self.n)))


def caption_of(cell: object) -> str:
    """A caption as text; one that is missing is empty, and so left out and counted."""
    return "" if cell is None or cell != cell else str(cell)
