"""Changes of parameters: all or nothing, kept over restarts where asked for, or for a time only."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ninelives_control.changes.leases import Lease, Leases, Loan
from ninelives_control.changes.store import StoreError
from ninelives_control.errors import Code, CommandError
from ninelives_grpc.changing import Wanted, change_all
from ninelives_grpc.clock import rfc3339
from ninelives_grpc.errors import ConfigError, RevisionError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ninelives_control.changes.store import ParameterStore
    from ninelives_control.identity.identity import Identity
    from ninelives_control.model import ParameterValue
    from ninelives_grpc.clock import Clock
    from ninelives_grpc.lint import Finding
    from ninelives_grpc.parameters import Change
    from ninelives_grpc.policies.policy import Live
    from ninelives_grpc.registry import Registry
    from ninelives_grpc.stacks.stack import Stack

_LOGGER = logging.getLogger("ninelives_control")
_RESTORER = "ninelives"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Who wants something changed, and how.

    Attributes:
        id: The id of the command.
        identity: Who issues it.
        reason: Why.
        dry_run: Whether to check only.
        lease: Seconds after which the old values return, or None.
    """

    id: str
    identity: Identity
    reason: str = ""
    dry_run: bool = False
    lease: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What was changed, or would be.

    Attributes:
        changes: Each parameter.
        findings: What the linter thinks of the stacks then, and whether it thought so before.
        until: When the old values return, or None.
    """

    changes: Sequence[Change]
    findings: Sequence[tuple[Finding, bool]]
    until: datetime | None


class Changes:
    """Makes all changes of parameters that commands ask for, one after the other.

    Args:
        registry: The stacks.
        clock: What tells how long is left of a lease.
        end: Ends the lease of an id, as a command; see `Leases`.
        store: Where values are kept over restarts, or None. What is kept for a stack holds from
            `take_in` on, and for a stack to come as soon as that is there; it wins over what was
            declared. A value that is the declared one again is forgotten.
    """

    def __init__(
        self,
        registry: Registry,
        clock: Clock,
        end: Callable[[str], None],
        store: ParameterStore | None = None,
    ) -> None:
        """Hold the parts."""
        self.leases = Leases(clock, end)
        self._registry = registry
        self._store = store
        self._lock = threading.RLock()

    def make(
        self,
        values: Mapping[str, ParameterValue],
        order: Order,
        expected_revisions: Mapping[str, int] | None = None,
    ) -> Made:
        """Change parameters, all of them or none.

        One that is lent leaves its lease. Given a new one, it returns to where it would have, and
        not before: who may not end the first could do so by a short one on top.

        Args:
            values: The new values by address.
            order: Who wants it, and how.
            expected_revisions: Change only if these policies are still at these revisions.

        Raises:
            CommandError: `unavailable`: the values cannot be kept, or nobody could have those that
                are lent return. `conflict`: One is lent for longer.
            ConfigError: A value is not allowed.
            RevisionError: A policy is not at the expected revision any more.
            UnknownNameError: There is no such parameter.
        """
        with self._lock:
            if order.lease is not None:
                self._may_lend(values, order.lease)
            changes = self._registry.change(
                values, expected_revisions=expected_revisions, dry_run=True
            )
            findings = self._findings(values)
            if not order.dry_run:
                changes = self._registry.change(
                    values,
                    expected_revisions=expected_revisions,
                    by=order.identity.name,
                    reason=order.reason,
                    first=lambda made: self._keep(made, order),
                )
            until = self._lend(changes, order)
            return Made(changes=changes, findings=findings, until=until)

    def end(self, key: str, order: Order) -> Made:
        """Have what was lent return; what the application itself has changed since is left alone.

        Raises:
            ConfigError: A value is not allowed any more.
            UnknownNameError: There is no lease of that id, or none any more.
        """
        with self._lock:
            loans = self.leases.get(key).loans
            values = {
                path: loan.back for path, loan in loans.items() if self._has(path, loan.value)
            }
            findings = self._findings(values)
            changes = self._registry.change(values, by=order.identity.name, reason=order.reason)
            self.leases.release(loans)
            return Made(changes=changes, findings=findings, until=None)

    def stop_lending(self) -> None:
        """Lend nothing any more, and end no lease by itself; wait for what is lent or ended now."""
        with self._lock:
            self.leases.close()
        self.leases.join()

    def lasting(self, path: str) -> ParameterValue:
        """Return the value of a parameter; the one before it, while it is lent.

        Raises:
            UnknownNameError: There is no such parameter.
        """
        with self._lock:
            return self.leases.back(path, self._registry.parameter(path).get())

    def take_in(self, stack: Stack) -> None:
        """Give a stack that is new, or was there at the start, what is kept for it.

        What is wrong by now is logged, and left out. What was lent to a stack of the same name
        does not return to this one.
        """
        self.leases.release(f"{stack.name}/{path}" for path in stack.parameters)
        while self._store is not None:
            try:
                change_all(_kept(self._store, stack), by=_RESTORER, reason="kept over the restart")
            except RevisionError:  # a command was quicker, and keeps another value
                continue
            return

    def _may_lend(self, paths: Iterable[str], seconds: float) -> None:
        if self.leases.closed:
            message = "the control plane stops, and could not have the old value return"
            raise CommandError(Code.UNAVAILABLE, message)
        longer = self.leases.longer(paths, seconds)
        if longer is not None:
            message = f"{longer.id} has lent it until {rfc3339(longer.until)}; take a lease that "
            message += "ends later, or end that one first"
            raise CommandError(Code.CONFLICT, message, field="lease")

    def _keep(self, changes: Sequence[Change], order: Order) -> None:
        if self._store is None or order.lease is not None:
            return
        values = {change.path: change.new for change in changes}
        forget = [path for path, value in values.items() if value == self._declared(path)]
        kept = {path: value for path, value in values.items() if path not in forget}
        try:
            self._store.keep(kept, forget=forget, command=order.id)
        except StoreError as error:
            _LOGGER.error("command %s: %s", order.id, error)  # noqa: TRY400 - no trace
            message = "the parameters cannot be kept over a restart, so nothing was changed; "
            message += "the log of the control plane says why"
            raise CommandError(Code.UNAVAILABLE, message) from None

    def _lend(self, changes: Sequence[Change], order: Order) -> datetime | None:
        """Note what is lent, and that what was lent before is not; return when it ends."""
        back = {change.path: self.leases.back(change.path, change.old) for change in changes}
        loans = {
            change.path: Loan(value=change.new, back=back[change.path])
            for change in changes
            if change.new != back[change.path]
        }
        until = None
        if order.lease is not None and loans:
            until = datetime.now(UTC) + timedelta(seconds=order.lease)
        if order.dry_run:
            return until
        self.leases.release(back)
        if order.lease is not None and until is not None:
            lease = Lease(
                id=order.id, holder=order.identity, reason=order.reason, until=until, loans=loans
            )
            self.leases.add(lease, order.lease)
        return until

    def _findings(self, values: Mapping[str, Any]) -> list[tuple[Finding, bool]]:
        """Ask the linter about the stacks in which something changes, and those around them."""
        instead = {
            live.path: live.with_values(inner) for live, inner in self._registry.by_policy(values)
        }
        changed = {self._registry.stack(path.partition("/")[0]) for path in instead}
        found: dict[Finding, bool] = {}
        for stack in self._registry:
            if stack in changed or not changed.isdisjoint(stack.nested):
                before = set(stack.lint())
                found |= {finding: finding not in before for finding in stack.lint(instead)}
        return list(found.items())

    def _has(self, path: str, value: ParameterValue) -> bool:
        try:
            return bool(self._registry.parameter(path).get() == value)
        except UnknownNameError:  # its stack is gone
            return False

    def _declared(self, path: str) -> ParameterValue:
        policy, _, name = path.rpartition("/")
        value: ParameterValue = getattr(self._registry.policy(policy).declared, name)
        return value


def _kept(store: ParameterStore, stack: Stack) -> list[Wanted]:
    """Return what is kept for a stack and fits it still."""
    # Before what is kept is looked up: a command that keeps something else is found out by it.
    revisions = {policy: live.revision for policy, live in stack.policies.items()}
    try:
        values = store.values(stack.name)
    except StoreError as error:
        _LOGGER.error("%s starts as declared: %s", stack.name, error)  # noqa: TRY400
        return []
    found: dict[str, dict[str, ParameterValue]] = {}
    for path, value in values.items():
        policy, _, name = path.removeprefix(f"{stack.name}/").partition("/")
        try:
            stack.policy(policy).parameter(name)
        except UnknownNameError as error:
            _left_out(path, error)
        else:
            found.setdefault(policy, {})[name] = value
    return [
        Wanted(
            live=stack.policy(policy),
            values=_fitting(stack.policy(policy), inner),
            expected_revision=revisions[policy],
        )
        for policy, inner in found.items()
    ]


def _fitting(live: Live[Any], values: Mapping[str, ParameterValue]) -> Mapping[str, ParameterValue]:
    """Return the values that a policy can have; those at fault are logged, and left out.

    They are tried together, as some are allowed only with others.
    """
    while True:
        try:
            live.with_values(values)
        except ConfigError as error:
            wrong = [name for name in values if error.path == f"{live.path}/{name}"] or [*values]
            for name in wrong:
                _left_out(f"{live.path}/{name}", error)
            values = {name: value for name, value in values.items() if name not in wrong}
        else:
            return values


def _left_out(path: str, error: Exception) -> None:
    _LOGGER.warning("what was kept of %s is left out: %s", path, error)
