"""Commands from the program that the control plane runs in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ninelives_control.identity.identity import APPLICATION
from ninelives_control.threads import in_thread

if TYPE_CHECKING:
    from pydantic import BaseModel

    from ninelives_control.identity.identity import Identity
    from ninelives_control.router import Dispatcher

NAME = "local"


class LocalClient:
    """Runs commands for one identity, by the same way as every other transport.

    Args:
        dispatcher: What runs them.
        identity: Who issues them; by default the application itself, which may do everything.
    """

    def __init__(self, dispatcher: Dispatcher, identity: Identity = APPLICATION) -> None:
        """Hold both."""
        self._dispatcher = dispatcher
        self._identity = identity

    def execute(self, name: str, /, **arguments: object) -> BaseModel:
        """Run a command and return its result.

        Raises:
            CommandError: It did not run, or failed.
        """
        return self._dispatcher.execute(name, arguments, caller=self._identity, transport=NAME)

    async def aexecute(self, name: str, /, **arguments: object) -> BaseModel:
        """Run a command in another thread, as it may block, and return its result.

        Raises:
            CommandError: It did not run, or failed.
        """
        return await in_thread(self.execute, name, **arguments)
