"""A dictionary that forgets what has not been used for longest."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")


class LeastRecentlyUsed(Generic[T]):
    """Values by key, at most `size` of them; the caller holds a lock."""

    __slots__ = ("_make", "_values", "size")

    def __init__(self, size: int, make: Callable[[str], T]) -> None:
        """Make missing values with `make(key)`."""
        self.size = size
        self._make = make
        self._values: OrderedDict[str, T] = OrderedDict()

    def get(self, key: str) -> T:
        """Return the value of a key, made now if there is none."""
        values = self._values
        value = values.get(key)
        if value is None:
            value = values[key] = self._make(key)
            self.resize(self.size)
        else:
            values.move_to_end(key)
        return value

    def resize(self, size: int) -> None:
        """Keep more or fewer from now on; the longest unused go first."""
        self.size = size
        while len(self._values) > size:
            self._values.popitem(last=False)

    def peek(self, key: str) -> T | None:
        """Return the value of a key if there is one, without counting that as use."""
        return self._values.get(key)

    def discard(self, key: str) -> None:
        """Forget one key."""
        self._values.pop(key, None)

    def items(self) -> Iterator[tuple[str, T]]:
        """Go through what is kept, longest unused first."""
        return iter(tuple(self._values.items()))

    def __len__(self) -> int:
        """Return how many keys are kept."""
        return len(self._values)
