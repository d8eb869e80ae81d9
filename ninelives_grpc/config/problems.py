"""What is wrong with a file: all of it, not only what is found first."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from ninelives_grpc.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Problems:
    """Collects errors, so that a reader can go on to the next.

    Attributes:
        found: Each once, in the order in which they were found.
    """

    def __init__(self) -> None:
        """Start with none."""
        self.found: list[ConfigError] = []

    def add(self, error: ConfigError) -> None:
        """Take in another one."""
        if str(error) not in map(str, self.found):
            self.found.append(error)

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Go on after the block when something in it is wrong."""
        try:
            yield
        except ConfigError as error:
            self.add(error)

    def check(self) -> None:
        """Go on when there are none.

        Raises:
            ConfigError: The first one.
        """
        if self.found:
            raise self.found[0] from None
