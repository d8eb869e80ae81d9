"""Fail or delay a share of the calls on purpose, to see whether the rest of the system copes."""

from __future__ import annotations

import random
from collections.abc import Collection
from enum import StrEnum
from typing import TYPE_CHECKING

import grpc

from ninelives_grpc.errors import InjectedError
from ninelives_grpc.events import FaultInjected
from ninelives_grpc.parameters import option, parameter, policy
from ninelives_grpc.policies.gate import PERMIT, Gate, Permit, Refusal, Verdict, Wait
from ninelives_grpc.policies.policy import Policy

if TYPE_CHECKING:
    from ninelives_grpc.call import Call
    from ninelives_grpc.outcome import Outcome
    from ninelives_grpc.parameters import Value
    from ninelives_grpc.policies.policy import Address

_EVERYTHING = "*"


class FaultCode(StrEnum):
    """A status code to fail with: the names of `grpc.StatusCode` but OK."""

    CANCELLED = "CANCELLED"
    UNKNOWN = "UNKNOWN"
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    ABORTED = "ABORTED"
    OUT_OF_RANGE = "OUT_OF_RANGE"
    UNIMPLEMENTED = "UNIMPLEMENTED"
    INTERNAL = "INTERNAL"
    UNAVAILABLE = "UNAVAILABLE"
    DATA_LOSS = "DATA_LOSS"
    UNAUTHENTICATED = "UNAUTHENTICATED"


@policy
class Fault(Policy):
    """Delay a share of the calls, fail them, or both; off until `share` is above 0.

    It stands for a bad backend, so put it inside of all that is to cope with one: what is outside
    of it sees the outcome and the time that such a backend would have caused, and breakers count
    it, retries repeat it. On a server it stands for a bad handler.

    Args:
        share: Share of the calls that it hits, 0..1.
        delay: Seconds to wait first, though not beyond the deadline of the call.
        code: Status code to fail with after that; None lets the call go on.
        after: Messages of a response stream to let through before it fails; then calls with one
            response are not hit. None fails a call before it leaves.
        duration: Seconds after which it is off by itself, from the start or from the last change of
            one of its parameters; None leaves it on.
        details: What the error says.
        methods: Whom it hits: names as `package.Service/Method`, `package.Service/*` or `*`.

    Raises:
        ConfigError: A value is outside its bounds; names the field and the bound.
    """

    share: float = parameter(
        default=0.0, low=0.0, high=1.0, unit="ratio", doc="Share of the calls that it hits."
    )
    delay: float = parameter(
        default=0.0, low=0.0, high=3600.0, unit="seconds", doc="Wait before the call goes on."
    )
    code: FaultCode | None = parameter(
        default=FaultCode.UNAVAILABLE, doc="Status code to fail with; null lets the call go on."
    )
    after: int | None = parameter(
        default=None,
        low=1,
        high=1_000_000,
        unit="messages",
        doc="Messages of a response stream let through before it fails; null fails it at once.",
    )
    duration: float | None = parameter(
        default=None,
        low=0.001,
        high=86_400.0,
        unit="seconds",
        doc="Time after the last change when it is off by itself; null leaves it on.",
    )
    details: str = option(default="injected")
    methods: Collection[str] = option(default=(_EVERYTHING,))

    def live(self, address: Address) -> FaultGate:
        """Start, and let the duration begin."""
        return FaultGate(self, address)

    def conflict(self) -> str:
        """Say what does not go together, or is wrong with the details or methods, or return ""."""
        if not isinstance(self.details, str):
            return f"details must be a text, not {self.details!r}"
        if self.after is not None and (self.code is None or self.delay):
            return "after needs a code to fail with, and no delay; use another Fault for that"
        if isinstance(self.methods, str) or not isinstance(self.methods, Collection):
            return f"methods must be a list of names, not {self.methods!r}"
        wrong = [name for name in self.methods if not _is_route(name)]
        if wrong:
            return f"methods are package.Service/Method, package.Service/* or *, not {wrong[0]!r}"
        return ""


class Late(Permit):
    """Leave for an attempt that was held up."""

    __slots__ = ("waited",)

    def __init__(self, waited: float) -> None:
        self.waited = waited


class Cut(Permit):
    """Leave for an attempt whose response stream is to fail half way.

    Attributes:
        messages: How many come first.
    """

    __slots__ = ("_code", "_gate", "messages")

    def __init__(self, gate: FaultGate, messages: int, code: FaultCode) -> None:
        self._gate = gate
        self._code = code
        self.messages = messages

    def strike(self, call: Call, now: float) -> InjectedError:
        """Return the error that the stream ends with now."""
        return self._gate.cut(call, self._code, now)


class Hold(Wait):
    """A delay that is to come, and what comes then."""

    __slots__ = ("code", "late")

    def __init__(self, since: float, until: float, code: FaultCode | None, *, late: bool) -> None:
        super().__init__(since, until)
        self.code = code
        self.late = late


class Injected(Refusal):
    """No, and what a backend would have answered that the attempt never got to."""

    __slots__ = ("failure", "waited")

    def __init__(self, error: InjectedError, waited: float) -> None:
        super().__init__(error.policy, error.details(), code=error.code())
        self.failure = error
        self.waited = waited


class FaultGate(Gate[Fault]):
    """Chooses whom to hit.

    Attributes:
        injected: Calls hit so far.
    """

    def __init__(self, policy: Fault, address: Address) -> None:
        super().__init__(policy, address)
        self.injected = 0
        self._methods = frozenset(name.removeprefix("/") for name in policy.methods)
        self._since = self._now()

    def admit(self, call: Call, now: float, deadline: float | None) -> Verdict:
        """Let the call pass, or hold it up, or fail it."""
        policy = self.policy
        if not policy.share or not self._on(policy, now) or not self._covers(call.method.name):
            return PERMIT
        if random.random() >= policy.share:
            return PERMIT
        if policy.after is not None and policy.code is not None:
            return Cut(self, policy.after, policy.code)
        self._note(call, policy.delay, policy.code, now)
        if policy.delay:
            until = now + policy.delay
            late = deadline is not None and deadline < until
            return Hold(
                now, until if deadline is None else min(until, deadline), policy.code, late=late
            )
        return PERMIT if policy.code is None else self._failure(policy.code, 0.0)

    @property
    def follows_messages(self) -> bool:
        """Whether streams are to fail half way."""
        policy = self.policy
        return policy.after is not None and policy.share > 0.0

    def cut(self, call: Call, code: FaultCode, now: float) -> InjectedError:
        """Return the error of a stream that fails half way."""
        self._note(call, 0.0, code, now)
        return self._error(code)

    def settle(self, permit: Permit, outcome: Outcome, now: float) -> None:
        """Have the layers outside of this one see the attempt take as long as it seemed to."""
        if isinstance(permit, Late):
            outcome.duration += permit.waited

    def claim(self, wait: Wait, call: Call, now: float) -> Verdict:
        """Go on after the delay: let the call pass, or fail it."""
        if now < wait.until or not isinstance(wait, Hold):
            return wait
        waited = now - wait.since
        if wait.late:
            # As a backend would that takes longer than there is time.
            return self._failure(FaultCode.DEADLINE_EXCEEDED, waited)
        return Late(waited) if wait.code is None else self._failure(wait.code, waited)

    def abandon(self, wait: Wait, now: float) -> None:
        """Do nothing: nobody else waits for it."""

    def adopt(self, old: Fault) -> None:
        """Let the duration begin again."""
        self._since = self._now()

    def state(self, now: float) -> dict[str, Value]:
        """Return whether it hits anybody, and how many it has."""
        policy = self.policy
        return {"on": bool(policy.share) and self._on(policy, now), "injected": self.injected}

    def _on(self, policy: Fault, now: float) -> bool:
        return policy.duration is None or now < self._since + policy.duration

    def _covers(self, name: str) -> bool:
        methods = self._methods
        service = name.partition("/")[0]
        return _EVERYTHING in methods or name in methods or f"{service}/*" in methods

    def _note(self, call: Call, delay: float, code: FaultCode | None, now: float) -> None:
        with self._lock:
            self.injected += 1
        self._count(FaultInjected)
        if self._emitter.sink is not None:
            self._emitter.tell(FaultInjected, *self._about(call, now), delay, code or "")

    def _failure(self, code: FaultCode, waited: float) -> Injected:
        return Injected(self._error(code), waited)

    def _error(self, code: FaultCode) -> InjectedError:
        return InjectedError(
            self.policy.details, code=grpc.StatusCode[code], stack=self.stack, policy=self.name
        )


def _is_route(name: object) -> bool:
    return isinstance(name, str) and ("/" in name or name == _EVERYTHING)
