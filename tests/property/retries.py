"""When a call is to be repeated, said a second time."""

# mypy: allow-untyped-defs, allow-untyped-calls, no-check-untyped-defs

from ninelives_grpc.outcome import Code


class Retries:
    """What is to become of one call, by the values in force when it came.

    Attributes:
        limit: When it must be over, by whichever limit comes first, or None.
        made: Attempts that ended.
        begun: Attempts that reached the backend.
        growth: Steps by which the wait has grown.
        previous: The last wait that the server did not ask for.
        timed_out: Whether the last attempt ran into its own time limit.
        failure: What the last attempt that is repeated ended with.
    """

    def __init__(self, policy, limits):
        self.policy = policy
        self.limit = min((limit for limit in limits if limit is not None), default=None)
        self.made = self.growth = 0
        self.begun = 0
        self.previous = policy.initial_backoff
        self.timed_out = False
        self.failure = None

    def may_pass(self, outcome):
        policy, code = self.policy, outcome.code
        if outcome.refusal is not None:
            return False
        if policy.only_codes or code in policy.codes:
            return code in policy.codes
        if code is Code.RESOURCE_EXHAUSTED:
            return outcome.pushback is not None
        if code is Code.DEADLINE_EXCEEDED:
            return self.timed_out
        more = {Code.INTERNAL, Code.UNKNOWN} if policy.idempotent else set()
        return code in {Code.UNAVAILABLE} | more

    def reason_to_stop(self, outcome, committed):
        """Say why this is the end, as far as neither time nor budget are to blame."""
        policy, pushback = self.policy, outcome.pushback
        if outcome.code is Code.CANCELLED:
            return "cancelled"
        if not self.may_pass(outcome):
            return "not_retryable"
        if committed:
            return "committed"
        if self.made >= policy.max_attempts:
            return "max_attempts"
        if pushback is not None and not 0 <= pushback <= policy.max_pushback:
            return "pushback"
        return None

    def bounds(self, outcome):
        """Return the shortest and the longest wait."""
        if outcome.pushback is not None:
            self.growth, self.previous = 0, self.policy.initial_backoff
            return outcome.pushback, outcome.pushback
        policy, initial = self.policy, self.policy.initial_backoff
        growth = {
            "constant": 1,
            "linear": self.growth + 1,
            "exponential": policy.multiplier**self.growth,
        }
        cap = policy.max_backoff
        wait = min(initial * growth[policy.backoff], cap)
        self.growth += 1
        return {
            "none": (wait, wait),
            "full": (0.0, wait),
            "equal": (wait / 2, wait),
            "a6": (wait * 0.8, min(wait * 1.2, cap)),
            "decorrelated": (min(initial, cap), min(max(initial, self.previous * 3), cap)),
        }[policy.jitter]
