"""The one way to every command: known, allowed, valid, written down, run, written down."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from ninelives_control.audit.canonical import WHOLE, canonical_arguments
from ninelives_control.audit.early import EarlyRefusals
from ninelives_control.audit.journal import Journal
from ninelives_control.audit.log import Attempt
from ninelives_control.audit.redaction import without_tokens
from ninelives_control.authorization.decision import Request
from ninelives_control.changes.changes import Changes
from ninelives_control.changes.repeats import Repeats
from ninelives_control.command import Command, Context, Effect
from ninelives_control.commands.leases import end_lease
from ninelives_control.errors import Code, CommandError, shortened, translated
from ninelives_control.identity.identity import Identity, Proof
from ninelives_control.limits import Limits, Turnstile
from ninelives_control.watch import Watch, Watched, WatchEvents, watch
from ninelives_grpc.clock import MONOTONIC
from ninelives_grpc.errors import UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ninelives_control.audit.early import EarlyRefusal
    from ninelives_control.audit.log import AuditLog
    from ninelives_control.authorization.decision import Authorizer, Decision
    from ninelives_control.changes.leases import Lease
    from ninelives_control.changes.repeats import Key
    from ninelives_control.changes.store import ParameterStore
    from ninelives_control.command import CommandTable, Target
    from ninelives_control.identity.identity import Authenticator, Caller
    from ninelives_grpc.clock import Clock
    from ninelives_grpc.observer.observer import Observer
    from ninelives_grpc.registry import Registry
    from ninelives_grpc.sinks.memory import MemorySink
    from ninelives_grpc.sinks.streaming import StreamingSink

_LOGGER = logging.getLogger("ninelives_control")
_LONGEST_NAME = 100
_LEASE = "lease"
"""What stands in the audit for transport and rule when a lease is over."""
MAX_WATCHES = 100
"""Subscribers at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Admitted:
    """A command that may run."""

    attempt: Attempt
    identity: Identity
    command: Command[Any, Any]
    arguments: BaseModel
    context: Context
    request: Request
    known: BaseModel | None = None
    """Its result, if it is a repetition."""

    @property
    def key(self) -> Key | None:
        """Who asks and by which idempotency key, or None without one."""
        return _key(self.identity, self.arguments)


class Dispatcher:
    """Runs commands, for every transport alike and in any thread.

    An attempt is refused, and written down once, when its caller is not known, the command is not
    there, a rule does not allow it, or its arguments are not valid. A command that changes
    something is written down before it runs, and does not run if that fails; and again afterwards.

    Args:
        registry: The stacks to act on.
        commands: The commands; more may join at any time.
        authenticator: Finds out who a caller is.
        authorization: Decides who may do what.
        audit: Where everything is written down.
        events: The last events of the stacks; attached to the registry by whoever owns it.
        observer: What they did over the last minutes; likewise.
        stream: The events as they come; likewise.
        clock: What tells how long is left of a lease.
        store: Where parameters are kept over restarts.
        audit_reads: Whether commands that only read are written down too.
        limits: How much may be asked by one caller.
    """

    def __init__(
        self,
        registry: Registry,
        commands: CommandTable,
        *,
        authenticator: Authenticator,
        authorization: Authorizer,
        audit: AuditLog,
        events: MemorySink,
        observer: Observer,
        stream: StreamingSink,
        clock: Clock = MONOTONIC,
        store: ParameterStore | None = None,
        audit_reads: bool = False,
        limits: Limits | None = None,
    ) -> None:
        """Hold the parts."""
        self.commands = commands
        self._registry = registry
        self._authenticator = authenticator
        self._authorization = authorization
        self._journal = Journal(audit, clock)
        self._turnstile = Turnstile(limits or Limits(), clock)
        self._early = EarlyRefusals(audit, clock)
        self._audit = audit
        self._events = events
        self._observer = observer
        self._stream = stream
        self._audit_reads = audit_reads
        self._repeats = Repeats()
        self.changes = Changes(registry, clock, self._lease_is_over, store)
        self._watches: set[Watch] = set()
        self._ending = False

    def execute(
        self, name: str, arguments: Mapping[str, object], *, caller: Caller, transport: str
    ) -> BaseModel:
        """Run a command and return its result.

        Args:
            name: Its name.
            arguments: Its arguments, as plain JSON values.
            caller: Who issues it: an identity, or what the caller has shown of itself.
            transport: By which way it came, for the audit.

        Raises:
            CommandError: It did not run, or failed; nothing else is raised.
        """
        return self._run(self._admit(name, arguments, caller, transport))

    def run(
        self,
        command: Command[Any, Any],
        arguments: Mapping[str, object],
        *,
        caller: Caller,
        transport: str,
    ) -> BaseModel:
        """Run a command that is not in the table, such as one of a single transport.

        Raises:
            CommandError: It did not run, or failed; nothing else is raised.
        """
        return self._run(self._admit(command.name, arguments, caller, transport, command))

    def refuse(
        self,
        name: str,
        arguments: Mapping[str, object],
        error: CommandError,
        *,
        caller: Caller,
        transport: str,
        command: Command[Any, Any] | None = None,
    ) -> CommandError:
        """Write down an attempt that a transport can not let through, and return what to tell.

        That is the error, unless the command would have been refused for another reason first.

        Args:
            name: The name of the command, as it was asked for.
            arguments: Its arguments, as plain JSON values.
            error: Why it can not be let through.
            caller: Who issues it.
            transport: By which way it came, for the audit.
            command: The command, if it is not in the table.
        """
        try:
            self._admit(name, arguments, caller, transport, command, error)
        except CommandError as refused:
            return refused
        raise AssertionError

    def note(self, refusal: EarlyRefusal) -> None:
        """Write down what a transport has turned away before it was a command.

        Those of a kind are counted, so that a flood of them does not fill the disk.
        """
        self._early.add(refusal)

    def recognize(self, name: str, *, caller: Caller, transport: str) -> Identity:
        """Return who a caller is that has not said yet what it wants.

        Args:
            name: What to write down in place of a command if it is not known.
            caller: What it has shown of itself.
            transport: By which way it came, for the audit.

        Raises:
            CommandError: It is not known, or asks too often.
        """
        try:
            identity = self._authenticator.identify(caller)
        except CommandError as error:
            raise self.refuse(name, {}, error, caller=caller, transport=transport) from None
        try:
            self._turnstile.admit(identity, caller, "requests")
        except CommandError as error:
            attempt = _known(_attempt(name, {}, caller, transport), identity)
            raise self._journal.refused(attempt, error) from None
        return identity

    def watch(
        self,
        arguments: Mapping[str, object],
        *,
        caller: Caller,
        transport: str,
        notify: Callable[[], None],
    ) -> Watch:
        """Subscribe to events.

        Args:
            arguments: Those of `WatchEvents`.
            caller: Who wants to know.
            transport: By which way it came, for the audit.
            notify: Called, from any thread, when `take` of the watch has something new to tell; it
                must not block.

        Raises:
            CommandError: It is not allowed or not possible.
        """
        admitted = self._admit(watch.name, arguments, caller, transport, watch)
        assert isinstance(admitted.arguments, WatchEvents)
        subscription = self._stream.subscribe(
            notify, name=admitted.identity.name, wants=admitted.arguments.fits
        )
        try:
            if self._stream.subscribers > MAX_WATCHES:
                message = f"{MAX_WATCHES} others watch already; try again later"
                raise self._journal.refused(
                    admitted.attempt, CommandError(Code.UNAVAILABLE, message)
                )
            first = self._run(admitted)
        except CommandError:
            subscription.close()
            raise
        assert isinstance(first, Watched)
        opened = Watch(
            first,
            subscription,
            notify=notify,
            check=lambda: self._check(
                dataclasses.replace(admitted.request, identity=self._authenticator.identify(caller))
            ),
            on_close=self._watches.discard,
        )
        self._watches.add(opened)
        if self._ending:
            opened.end()
        return opened

    def end_leases(self) -> None:
        """Have all that was lent return, as nobody would see to it later; lend nothing more."""
        self.changes.stop_lending()
        for lease in self.changes.leases:
            with contextlib.suppress(CommandError, UnknownNameError):
                self._end_lease(lease, "the control plane stops")
        for lease in self.changes.leases:
            _LOGGER.warning("%s stays as it was lent by %s", " and ".join(lease.loans), lease.id)

    def end_floods(self) -> None:
        """Write down what was only counted so far."""
        self._journal.close()
        self._early.close()

    def end_watches(self) -> None:
        """Tell all subscribers, also those to come, that the control plane stops."""
        self._ending = True
        for opened in tuple(self._watches):
            opened.end()

    def _lease_is_over(self, key: str) -> None:
        with contextlib.suppress(UnknownNameError):  # it has been ended just now
            self._end_lease(self.changes.leases.get(key), "the lease is over")

    def _end_lease(self, lease: Lease, reason: str) -> None:
        """End a lease for its holder, who was allowed to take it: no rule is asked again."""
        raw, identity = {"id": lease.id, "reason": reason}, lease.holder
        arguments = end_lease.parse(raw)
        attempt = _known(_attempt(end_lease.name, raw, identity, _LEASE), identity)
        attempt = dataclasses.replace(attempt, rule=_LEASE)
        context = self._context(attempt, identity)
        admitted = _Admitted(
            attempt=attempt,
            identity=identity,
            command=end_lease,
            arguments=arguments,
            context=context,
            request=_request(end_lease, arguments, context, end_lease.targets(arguments, context)),
        )
        self._enact(admitted)

    def _admit(
        self,
        name: str,
        raw: Mapping[str, object],
        caller: Caller,
        transport: str,
        command: Command[Any, Any] | None = None,
        wrong: CommandError | None = None,
    ) -> _Admitted:
        attempt = _attempt(name, raw, caller, transport)
        arguments = None
        self._journal.settle()
        try:
            identity = self._identify(caller)
            attempt = _known(attempt, identity)
            self._turnstile.admit(identity, caller)
            command = command or self.commands.get(name)
            if command.effect is not Effect.READ:
                self._turnstile.admit_change(identity)
            decision = self._authorization.may_use(identity, command.name, command.effect)
            _require(decision, identity)
            arguments = command.parse(raw)
            told = canonical_arguments(arguments.model_dump(mode="json", exclude_unset=True), WHOLE)
            attempt = dataclasses.replace(attempt, arguments=told)
            if wrong is not None:
                raise wrong  # noqa: TRY301 - it is written down as all others
            context = self._context(attempt, identity)
            # What was allowed and done is told again, though it may not be done again by now.
            known = self._repeats.known(_key(identity, arguments), command.name, arguments)
            targets = () if known is not None else command.targets(arguments, context)
            request = _request(command, arguments, context, targets)
            if known is None:
                decision = self._check(request)
        except Exception as error:  # noqa: BLE001 - every caller is told something
            raise self._journal.refused(attempt, _told(error, attempt, arguments)) from None
        return _Admitted(
            attempt=dataclasses.replace(attempt, rule=decision.rule),
            identity=identity,
            command=command,
            arguments=arguments,
            context=context,
            request=request,
            known=known,
        )

    def _identify(self, caller: Caller) -> Identity:
        try:
            return self._authenticator.identify(caller)
        except CommandError:
            self._turnstile.admit_unknown(caller)
            raise

    def _check(self, request: Request) -> Decision:
        decision = self._authorization.may_do(request)
        _require(decision, request.identity)
        return decision

    def _run(self, admitted: _Admitted) -> BaseModel:
        return self._turnstile.run(
            admitted.identity,
            lambda: self._run_in_turn(admitted),
            lambda error: self._journal.refused(admitted.attempt, error),
        )

    def _run_in_turn(self, admitted: _Admitted) -> BaseModel:
        key = admitted.key
        if key is None:
            return self._run_once(admitted)
        attempt, known = admitted.attempt, admitted.known
        try:
            if known is None:
                known = self._repeats.begin(key, attempt.command, admitted.arguments)
        except CommandError as error:
            raise self._journal.refused(attempt, error) from None
        if known is not None:
            self._journal.repeated(attempt)
            return known
        try:
            return self._run_once(admitted)
        finally:
            self._repeats.forget(key)

    def _run_once(self, admitted: _Admitted) -> BaseModel:
        return self._enact(dataclasses.replace(admitted, attempt=self._begun(admitted)))

    def _enact(self, admitted: _Admitted) -> BaseModel:
        attempt, journal = admitted.attempt, self._journal
        audited = self._audit_reads or admitted.command.effect is not Effect.READ
        if audited:
            journal.intended(attempt)
        try:
            result = _result(admitted)
        except Exception as error:  # noqa: BLE001 - every caller is told something
            # No local variable: whoever keeps the logged error would keep the call with it.
            raise journal.failed(attempt, _told(error, attempt, admitted.arguments)) from None
        if admitted.key is not None:
            # Before its outcome is written down: if that fails, it has run all the same.
            self._repeats.end(admitted.key, result)
        if audited:
            journal.succeeded(attempt, result)
        return result

    def _begun(self, admitted: _Admitted) -> Attempt:
        """Count a change that is about to be made, which may have become one too many."""
        attempt, request = admitted.attempt, admitted.request
        if not request.changes or getattr(admitted.arguments, "dry_run", False):
            return attempt
        try:
            decision = self._authorization.begin(request)
            _require(decision, admitted.identity)
        except Exception as error:  # noqa: BLE001 - every caller is told something
            told = _told(error, attempt, admitted.arguments)
            raise self._journal.refused(attempt, told) from None
        return dataclasses.replace(attempt, rule=decision.rule)

    def _context(self, attempt: Attempt, identity: Identity) -> Context:
        return Context(
            id=attempt.id,
            identity=identity,
            transport=attempt.transport,
            registry=self._registry,
            events=self._events,
            observer=self._observer,
            commands=self.commands,
            changes=self.changes,
            audit=self._audit,
            may=lambda other: (
                self._authorization.may_use(identity, other.name, other.effect).allowed
            ),
            explain=self._authorization.explain,
        )


def _attempt(name: str, raw: Mapping[str, object], caller: Caller, transport: str) -> Attempt:
    return Attempt(
        id=uuid.uuid4().hex,
        transport=transport,
        command=_printable(name),
        arguments=canonical_arguments(raw),
        peer="" if isinstance(caller, Identity) else caller.peer,
    )


def _known(attempt: Attempt, identity: Identity) -> Attempt:
    """Return an attempt of which it is known who makes it."""
    return dataclasses.replace(
        attempt, identity=identity.name, role=identity.role, proof=identity.proof
    )


def _result(admitted: _Admitted) -> BaseModel:
    command = admitted.command
    result: object = command.handler(admitted.arguments, admitted.context)
    if isinstance(result, BaseModel) and isinstance(result, command.result):
        return result
    msg = f"{command.name} returned {result!r}, and not a {command.result.__name__}"
    raise TypeError(msg)


def _told(error: Exception, attempt: Attempt, arguments: BaseModel | None) -> CommandError:
    """Return what the caller is told; what nobody foresaw is logged, and not told."""
    told = translated(error, arguments)
    if told is not None:
        return told
    _LOGGER.error("command %s (%s) failed", attempt.command, attempt.id, exc_info=error)
    message = f"the command failed; the log of the control plane has more under {attempt.id}"
    return CommandError(Code.INTERNAL, message)


def _require(decision: Decision, identity: Identity) -> None:
    if decision.allowed:
        return
    sentence = decision.sentence
    if identity.proof is Proof.ANONYMOUS:
        sentence += "; you have shown no token"
    raise CommandError(Code.PERMISSION_DENIED, sentence, rule=decision.rule)


def _key(identity: Identity, arguments: BaseModel) -> Key | None:
    word = getattr(arguments, "idempotency_key", "")
    # A token of the identity provider may have the name of one of the file.
    return (f"{identity.proof}:{identity.name}", identity.role, word) if word else None


def _request(
    command: Command[Any, Any], arguments: BaseModel, context: Context, targets: Sequence[Target]
) -> Request:
    return Request(
        identity=context.identity,
        command=command.name,
        effect=command.effect,
        targets=targets,
        reason=str(getattr(arguments, "reason", None) or ""),
    )


def _printable(name: str) -> str:
    return shortened(without_tokens(name), _LONGEST_NAME).encode("utf-8", "replace").decode()
