"""Whether the conditions of a rule hold: time, reason, bounds of numbers, rate of changes."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING, TypeGuard

if TYPE_CHECKING:
    from ninelives_control.authorization.decision import Facts, Request
    from ninelives_control.authorization.quota import Quota
    from ninelives_control.authorization.rules import Rule
    from ninelives_control.command import Proposal
    from ninelives_control.model import ParameterValue


class Conditions:
    """Looks at what the conditions of rules ask for.

    Args:
        facts: What there is to know of the world.
        quota: What has been changed in the last hour.
    """

    def __init__(self, facts: Facts, quota: Quota) -> None:
        """Hold both."""
        self._facts = facts
        self._quota = quota

    def out_of_time(self, rule: Rule) -> str:
        """Say when the rule holds, if it does not hold now; or return ""."""
        schedule = rule.schedule
        if schedule is None:
            return ""
        now = self._facts.wall()
        if schedule.holds(now):
            return ""
        return f"rule {rule.id} holds {schedule.text}, the next time from {schedule.next(now)}"

    def unmet(self, rule: Rule, request: Request, proposal: Proposal | None, planned: int) -> str:
        """Say what a rule would allow, if a condition of it does not hold; or return "".

        Args:
            rule: A rule that allows.
            request: Who wants to do what.
            proposal: The value that a parameter is to have, if that is what it is about.
            planned: How many changes of the same request go by the rule already.

        Raises:
            UnknownNameError: A bound is relative to the value of a parameter that is not there.
        """
        late = self.out_of_time(rule)
        if late:
            return late
        if rule.reason_required and request.changes and not request.reason.strip():
            return (
                f"rule {rule.id} allows {request.command} with a reason only: say why in the "
                "argument reason"
            )
        if rule.bounded and proposal is not None:
            beyond = self._beyond(rule, proposal)
            if beyond:
                return beyond
        return self._too_often(rule, request, planned)

    def _too_often(self, rule: Rule, request: Request, planned: int) -> str:
        limit = rule.changes_per_hour
        if limit is None or not request.changes:
            return ""
        wait = self._quota.wait((request.identity.name, rule.id), limit, planned + 1)
        if not wait:
            return ""
        text = f"rule {rule.id} allows {limit} change{'' if limit == 1 else 's'} an hour"
        if math.isinf(wait):
            return f"{text}, and never more at once"
        # Rounded up: who comes back at that time is let in.
        again = self._facts.wall() + timedelta(seconds=math.ceil(wait))
        moment = again.strftime("%H:%M:%S %Z").strip()
        return f"{text}; again in {math.ceil(wait)} s, from {moment}"

    def _beyond(self, rule: Rule, proposal: Proposal) -> str:
        """Say what the rule would allow, if it does not allow the value; or return ""."""
        path = proposal.path
        declared = None if rule.factor is None else self._facts.declared(path)
        present = None if rule.step is None else self._facts.present(path)
        low = -math.inf if rule.minimum is None else rule.minimum
        high = math.inf if rule.maximum is None else rule.maximum
        if rule.factor is not None and _has_multiples(declared):
            low, high = _narrowed(low, high, declared, rule.factor)
        elif rule.factor is not None and not _finite(low, high):
            return _needs_bounds(rule, "declared", path, declared)
        if rule.step is not None and _has_multiples(present):
            low, high = _narrowed(low, high, present, rule.step)
        elif rule.step is not None and not _finite(low, high):
            return _needs_bounds(rule, "present", path, present)
        if _is_number(proposal.value) and low <= proposal.value <= high:
            return ""
        text = f"rule {rule.id} allows {path} numbers from {low:g} to {high:g}"
        if low > high:
            text = f"rule {rule.id} allows {path} no number now"
        return text + _because(rule, declared, present)


def _narrowed(low: float, high: float, value: float, times: float) -> tuple[float, float]:
    ends = sorted((value / times, value * times))
    return max(low, ends[0]), min(high, ends[1])


def _because(rule: Rule, declared: ParameterValue, present: ParameterValue) -> str:
    reasons = []
    if rule.factor is not None:
        reasons.append(f"{_show(declared)} is declared and the factor is {rule.factor:g}")
    if rule.step is not None:
        reasons.append(f"it is {_show(present)} now and the step is {rule.step:g}")
    return f", as {' and '.join(reasons)}" if reasons else ""


def _needs_bounds(rule: Rule, which: str, path: str, value: ParameterValue) -> str:
    return (
        f"rule {rule.id} allows a multiple of the {which} value of {path}, which is "
        f"{_show(value)}; it would need a minimum and a maximum"
    )


def _finite(low: float, high: float) -> bool:
    return math.isfinite(low) and math.isfinite(high)


def _has_multiples(value: ParameterValue) -> TypeGuard[float]:
    return _is_number(value) and bool(value)


def _is_number(value: ParameterValue) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _show(value: ParameterValue) -> str:
    return "null" if value is None else f"{value:g}" if _is_number(value) else str(value)
