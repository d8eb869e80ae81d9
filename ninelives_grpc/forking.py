"""What a forked child starts afresh: locks that threads of its parent held, and their calls.

Those threads are not there in the child, so that what they held would be held for ever. Channels
and servers are not mended: gRPC has to be started after the fork.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forked(Protocol):
    """Something with locks or threads, or that counts who is under way."""

    def start_afresh(self) -> None:
        """Make new locks, and forget calls under way; runs in the child, in its only thread."""


_alive: weakref.WeakSet[Forked] = weakref.WeakSet()


def afresh_in_children(thing: Forked) -> None:
    """Start a thing afresh in every child that is forked as long as it lives."""
    _alive.add(thing)


def _start_afresh() -> None:
    for thing in tuple(_alive):
        thing.start_afresh()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_start_afresh)
