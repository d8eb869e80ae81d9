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
from ninelives_grpc.errors import ConfigError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ninelives_control.changes.store import ParameterStore
    from ninelives_control.identity.identity import Identity
    from ninelives_control.model import ParameterValue
    from ninelives_grpc.clock import Clock
    from ninelives_grpc.lint import Finding
    from ninelives_grpc.parameters import Change
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
            `restore` on, and for a stack to come as soon as that is there; it wins over what was
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

        One that is lent leaves its lease. Given a new one, it returns to where it would have.

        Args:
            values: The new values by address.
            order: Who wants it, and how.
            expected_revisions: Change only if these policies are still at these revisions.

        Raises:
            CommandError: `unavailable`: the values cannot be kept.
            ConfigError: A value is not allowed.
            RevisionError: A policy is not at the expected revision any more.
            UnknownNameError: There is no such parameter.
        """
        with self._lock:
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
            until = None
            if order.lease is not None:
                until = datetime.now(UTC) + timedelta(seconds=order.lease)
            if not order.dry_run:
                self._lend(changes, order, until)
            return Made(changes=changes, findings=findings, until=until)

    def end(self, lease: Lease, order: Order) -> Made:
        """Have what was lent return; what the application itself has changed since is left alone.

        Raises:
            ConfigError: A value is not allowed any more.
        """
        with self._lock:
            values = {
                path: loan.back
                for path, loan in lease.loans.items()
                if self._present(path) == loan.value
            }
            findings = self._findings(values)
            changes = self._registry.change(values, by=order.identity.name, reason=order.reason)
            self.leases.release(lease.loans)
            return Made(changes=changes, findings=findings, until=None)

    def restore(self, stack: Stack) -> None:
        """Give a stack what is kept for it; what is wrong by now is logged, and left out."""
        if self._store is None:
            return
        try:
            values = self._store.values(stack.name)
        except StoreError as error:
            _LOGGER.error("%s starts as declared: %s", stack.name, error)  # noqa: TRY400
            return
        for path, value in values.items():
            try:
                self._registry.change({path: value}, by=_RESTORER, reason="kept over the restart")
            except (ConfigError, UnknownNameError) as error:
                _LOGGER.warning("what was kept of %s is left out: %s", path, error)

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

    def _lend(self, changes: Sequence[Change], order: Order, until: datetime | None) -> None:
        back = {change.path: self.leases.back(change.path, change.old) for change in changes}
        self.leases.release(back)
        if order.lease is None or until is None:
            return
        loans = {
            change.path: Loan(value=change.new, back=back[change.path])
            for change in changes
            if change.new != back[change.path]
        }
        if loans:
            lease = Lease(
                id=order.id, holder=order.identity, reason=order.reason, until=until, loans=loans
            )
            self.leases.add(lease, order.lease)

    def _findings(self, values: Mapping[str, Any]) -> list[tuple[Finding, bool]]:
        """Ask the linter about the stacks in which something changes."""
        instead = {
            live.path: live.with_values(inner) for live, inner in self._registry.by_policy(values)
        }
        found: dict[Finding, bool] = {}
        for name in dict.fromkeys(path.partition("/")[0] for path in instead):
            stack = self._registry.stack(name)
            before = set(stack.lint())
            found |= {finding: finding not in before for finding in stack.lint(instead)}
        return list(found.items())

    def _present(self, path: str) -> ParameterValue:
        try:
            value: ParameterValue = self._registry.parameter(path).get()
        except UnknownNameError:  # its stack is gone
            return None
        return value

    def _declared(self, path: str) -> ParameterValue:
        policy, _, name = path.rpartition("/")
        value: ParameterValue = getattr(self._registry.policy(policy).declared, name)
        return value
