"""Try again what failed for a passing reason.

The rules of gRFC A6 (retryable codes, commit, pushback), and those of the Google SRE book that it
leaves out: a budget shared by everything that goes to one target, and one deadline over all.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from enum import StrEnum
from typing import TYPE_CHECKING

from ninelives_grpc.events import RetryAttempt, RetryExhausted
from ninelives_grpc.outcome import STOP_PUSHBACK, Code, Kind, Outcome
from ninelives_grpc.parameters import option, parameter, policy
from ninelives_grpc.policies.backoff import Backoff, Jitter, base_wait, spread
from ninelives_grpc.policies.budget import Budget, BudgetFlow
from ninelives_grpc.policies.policy import Live, Policy, Role

if TYPE_CHECKING:
    from typing import Any

    from ninelives_grpc.call import Call, Method
    from ninelives_grpc.policies.policy import Address

_LOGGER = logging.getLogger("ninelives_grpc")

Exceptions = type[BaseException] | tuple[type[BaseException], ...]

DEFAULT_CODES = frozenset({Code.UNAVAILABLE})
IDEMPOTENT_CODES = frozenset({Code.UNAVAILABLE, Code.INTERNAL, Code.UNKNOWN})


class Stop(StrEnum):
    """Why a failed attempt is not repeated."""

    MAX_ATTEMPTS = "max_attempts"
    BUDGET = "budget"
    DEADLINE = "deadline"
    NOT_RETRYABLE = "not_retryable"
    COMMITTED = "committed"
    PUSHBACK = "pushback"
    CANCELLED = "cancelled"


_NO_NEWS = frozenset({Stop.NOT_RETRYABLE, Stop.CANCELLED})


@policy
class Retry(Policy):
    """Repeat a failed attempt, up to `max_attempts` in total.

    Repeated are UNAVAILABLE; RESOURCE_EXHAUSTED when the server says how long to wait;
    DEADLINE_EXCEEDED when it was the attempt's own time limit and the call has time left; and on
    methods known to be idempotent INTERNAL and UNKNOWN too. Nothing is repeated once something of
    the answer has reached the application, or when a request stream has outgrown the replay buffer
    (256 KiB or 1000 messages). Only one layer should retry: see `grpc.enable_retries`.

    Args:
        max_attempts: Attempts in total; 1 does not retry.
        initial_backoff: Seconds before the second attempt.
        multiplier: Growth of the wait from attempt to attempt, when exponential.
        max_backoff: Seconds to wait at most.
        backoff: `exponential` (default), `linear` or `constant`.
        jitter: `full` (default), `equal`, `decorrelated`, `a6` (20 % either way) or `none`.
        max_pushback: Seconds; a server that asks for a longer wait is not asked again.
        idempotent: Whether repeating is known to do no harm, for all methods or those named
            (`package.Service/Method`).
        codes: Status codes to repeat besides the ones above.
        only_codes: Whether `codes` are all that is repeated, as with gRPC's own `retryPolicy`.
        on: Exception class or classes to repeat besides, or a function from the exception to
            whether to; for protected functions that raise no RPC errors.
        budget: What pays for repetitions; by default a `RetryBudget` for this stack. Give the same
            object to all stacks that call one target.

    Raises:
        ConfigError: A value is outside its bounds; names the field and the bound.
    """

    max_attempts: int = parameter(
        default=3, low=1, high=100, unit="attempts", doc="Attempts in total.", kw_only=False
    )
    initial_backoff: float = parameter(
        default=0.1, low=0.0, high=3600.0, unit="seconds", doc="Wait before the second attempt."
    )
    multiplier: float = parameter(
        default=2.0, low=1.0, high=100.0, unit="", doc="Growth of the wait, when exponential."
    )
    max_backoff: float = parameter(
        default=5.0, low=0.0, high=3600.0, unit="seconds", doc="Longest wait."
    )
    backoff: Backoff = parameter(default=Backoff.EXPONENTIAL, doc="How the wait grows.")
    jitter: Jitter = parameter(default=Jitter.FULL, doc="How the wait is spread.")
    max_pushback: float = parameter(
        default=60.0, low=0.0, high=86_400.0, unit="seconds", doc="Longest wait a server may ask."
    )
    idempotent: bool | Collection[str] = option(default=False)
    codes: Collection[Code] = option(default=())
    only_codes: bool = option(default=False)
    on: Exceptions | Callable[[BaseException], bool] | None = option(default=None)
    budget: Budget | None = option(default=None)

    def live(self, address: Address) -> RetryFlow:
        """Start without a budget; the plan hands it in."""
        return RetryFlow(self, address)

    def conflict(self) -> str:
        """Say which option is not of the kind that is expected."""
        if not isinstance(self.only_codes, bool):
            return f"only_codes must be true or false, not {self.only_codes!r}"
        if self.on is not None and not isinstance(self.on, tuple) and not callable(self.on):
            return f"on must be an exception class or classes, or a function, not {self.on!r}"
        return option_problem(self.idempotent, self.codes, self.budget)


class Attempts:
    """How far the retries of one call have come.

    Attributes:
        policy: The snapshot in force when the call started.
        made: Attempts that have ended.
        failure: The last attempt's outcome.
    """

    __slots__ = ("failure", "made", "policy", "previous", "step")

    def __init__(self, policy: Retry) -> None:
        self.policy = policy
        self.made = 0
        self.step = 0
        self.previous = policy.initial_backoff
        self.failure: Outcome | None = None


class RetryFlow(Live[Retry]):
    """Decides whether and when to try again.

    Attributes:
        budget: What pays for it.
    """

    role = Role.RETRY
    budget: BudgetFlow[Any]

    def next_delay(
        self, attempts: Attempts, outcome: Outcome, call: Call, deadline: float | None, now: float
    ) -> float | None:
        """Return the seconds to wait before the next attempt, or None to leave it at this one."""
        attempts.made += 1
        decision = self._decide(attempts, outcome, call, deadline, now)
        if isinstance(decision, Stop):
            # What is no failure, and was not to be repeated anyway, is no news.
            if outcome.kind is Kind.FAILURE or attempts.made > 1 or decision not in _NO_NEWS:
                self._tell_end(attempts.made, decision, outcome, call, now)
            return None
        attempts.failure = outcome
        self._count(RetryAttempt)
        if self._emitter.sink is not None:
            about = self.stack, self.name, call.method.name, now, attempts.made + 1, ""
            self._emitter.tell(RetryAttempt, *about, decision, outcome.code.name)
        return decision

    def _tell_end(
        self, attempts: int, stop: Stop, outcome: Outcome, call: Call, now: float
    ) -> None:
        self._count(RetryExhausted)
        if self._emitter.sink is not None:
            self._emitter.tell(
                RetryExhausted,
                *self._about(call, now, str(stop)),
                attempts,
                outcome.code.name,
            )

    def _decide(  # noqa: PLR0911 - one return a reason
        self, attempts: Attempts, outcome: Outcome, call: Call, deadline: float | None, now: float
    ) -> float | Stop:
        policy = attempts.policy
        if outcome.code is Code.CANCELLED:
            return Stop.CANCELLED
        if outcome.refusal is not None or not self._retryable(policy, outcome, call):
            return Stop.NOT_RETRYABLE
        if call.committed:
            return Stop.COMMITTED
        if attempts.made >= policy.max_attempts:
            return Stop.MAX_ATTEMPTS
        delay = _wait(attempts, policy, outcome)
        if delay is None:
            return Stop.PUSHBACK
        for limit in (deadline, call.inherited):
            if limit is not None and now + delay >= limit:
                return Stop.DEADLINE
        return delay if call.pay(self.budget, now) else Stop.BUDGET

    def _retryable(self, policy: Retry, outcome: Outcome, call: Call) -> bool:
        if policy.only_codes:
            return outcome.code in policy.codes
        idempotent = is_idempotent(policy.idempotent, call.method)
        if may_pass(outcome, policy.codes, idempotent=idempotent):
            return True
        error, on = outcome.error, policy.on
        if on is None or error is None or outcome.code is Code.RESOURCE_EXHAUSTED:
            return False
        if isinstance(on, type | tuple):
            return isinstance(error, on)
        try:
            return on(error)
        except Exception:
            _LOGGER.exception("the `on` function of %s failed", self.path)
            return False


def is_idempotent(told: bool | Collection[str], method: Method) -> bool:
    """Tell whether a method is known to be idempotent: told so here, or by itself."""
    if isinstance(told, bool):
        return told or method.idempotent
    return method.name in told or method.idempotent


def may_pass(outcome: Outcome, codes: Collection[Code], *, idempotent: bool) -> bool:
    """Tell whether a failure may be over at the next attempt, and another one does no harm."""
    code = outcome.code
    if code in DEFAULT_CODES or code in codes or outcome.lost:
        return True
    if code is Code.RESOURCE_EXHAUSTED:
        return outcome.pushback is not None
    if code is Code.DEADLINE_EXCEEDED and outcome.timed_out:
        return True
    return idempotent and code in IDEMPOTENT_CODES


def option_problem(
    idempotent: bool | Collection[str], codes: Collection[Code], budget: Budget | None
) -> str:
    """Say which option of a policy that makes extra attempts is not of the kind expected."""
    if isinstance(idempotent, str) or not isinstance(idempotent, bool | Collection):
        return f"idempotent must be true, false or a list of methods, not {idempotent!r}"
    for code in codes:
        if not isinstance(code, Code):
            return f"codes must be status codes, and {code!r} is none"
    if budget is not None and not isinstance(budget, Budget):
        return f"budget must be a budget, not {budget!r}"
    return ""


def _wait(attempts: Attempts, policy: Retry, outcome: Outcome) -> float | None:
    """Return the wait that backoff or the server asks for, or None when the server says stop."""
    pushback = outcome.pushback
    if pushback is not None:
        if pushback == STOP_PUSHBACK or pushback > policy.max_pushback:
            return None
        attempts.step = 0
        attempts.previous = policy.initial_backoff
        return pushback
    wait = base_wait(policy.backoff, attempts.step, policy.initial_backoff, policy.multiplier)
    wait = spread(
        policy.jitter,
        wait,
        initial=policy.initial_backoff,
        previous=attempts.previous,
        cap=policy.max_backoff,
    )
    attempts.step += 1
    attempts.previous = wait
    return wait
