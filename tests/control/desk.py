"""A dispatcher as the control plane makes it, without transports."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ninelives_control.authorization.authorization import Authorization
from ninelives_control.authorization.facts import facts_of
from ninelives_control.authorization.rules import DEFAULT_RULES
from ninelives_control.identity.identity import Authenticator, Credentials
from ninelives_control.identity.tokens import TokenFile
from ninelives_control.limits import Limits
from ninelives_control.router import Dispatcher
from ninelives_grpc.observer.observer import Observer
from ninelives_grpc.sinks import MemorySink, StreamingSink

if TYPE_CHECKING:
    from pathlib import Path

    from ninelives_control.audit.log import AuditLog, Entry
    from ninelives_control.command import CommandTable
    from ninelives_grpc import Registry


LIFTED = Limits(
    commands_per_second=1e6,
    burst=1e6,
    changes_per_second=1e6,
    changes_burst=1e6,
    unknown_per_second=1e6,
    unknown_burst=1e6,
)
"""As good as none."""


class Desk:
    """Where commands are handed in."""

    def __init__(
        self,
        registry: Registry,
        commands: CommandTable,
        audit: AuditLog,
        tokens: dict[str, str],
        tokens_path: Path,
        **options: Any,
    ) -> None:
        self.registry = registry
        self.commands = commands
        self.audit = audit
        self.tokens = tokens
        self.events, self.stream = MemorySink(), StreamingSink()
        registry.attach(self.events)
        registry.attach(self.stream)
        self.observer = Observer(registry)
        rules = options.pop("rules", DEFAULT_RULES)
        options.setdefault("limits", LIFTED)
        times = {key: options.pop(key) for key in ("wall", "now") if key in options}
        self.dispatcher = Dispatcher(
            registry,
            commands,
            authenticator=Authenticator(
                TokenFile(tokens_path), anonymous=options.pop("anonymous", False)
            ),
            authorization=Authorization(facts_of(registry, **times), rules),
            audit=audit,
            events=self.events,
            observer=self.observer,
            stream=self.stream,
            **options,
        )

    def caller(self, role: str | None) -> Credentials:
        """Return what somebody with the token of a role shows, or with no token."""
        return Credentials(token=None if role is None else self.tokens[role], loopback=True)

    def ask(self, role: str | None, name: str, /, **arguments: object) -> Any:
        """Run a command for somebody with the token of a role."""
        return self.dispatcher.execute(name, arguments, caller=self.caller(role), transport="desk")

    def entries(self) -> list[Entry]:
        return self.audit.entries()

    def close(self) -> None:
        self.registry.detach(self.events)
        self.registry.detach(self.stream)


def arguments_of(entry: Entry) -> Any:
    """Return the arguments of an entry of the audit."""
    return json.loads(entry.arguments)
