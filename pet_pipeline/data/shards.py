"""Which part of a list of work is this process's: the i-th of n, as the tasks of a Slurm array are numbered."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from pet_pipeline.errors import UsageError

T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """The `index`-th of `count` parts, counted from 1; all parts together are the whole, and no two share an item."""

    index: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """The shard named `i/n`.

        Raises:
            UsageError: not of that form, or not one of 1/n to n/n.

        Example:
            >>> Shard.parse("2/3").of("abcdefg")
            ['b', 'e']
        """
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        index, count = (int(found[1]), int(found[2])) if found else (0, 0)
        if not 1 <= index <= count:
            raise UsageError(f"--shard {text!r}: needed is i/n with i from 1 to n, such as 1/4 to 4/4")
        return cls(index, count)

    def of(self, items: Sequence[T]) -> list[T]:
        """Every n-th item from the i-th on: neighbours in a list are often alike in size, so that parts are too."""
        return list(items[self.index - 1 :: self.count])

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


WHOLE = Shard()
"""All of the work."""


def joined(parts: Sequence[Sequence[T]]) -> list[T]:
    """The list whose shards these are, in turn: undoes `Shard.of`."""
    whole: list[T] = [item for part in parts for item in part]
    for index, part in enumerate(parts):
        whole[index :: len(parts)] = part
    return whole
