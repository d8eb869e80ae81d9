"""Every parameter of every policy, with values for random changes while calls are in flight."""

# mypy: allow-untyped-defs, allow-untyped-calls, no-check-untyped-defs

from hypothesis import strategies as st

from ninelives_grpc import (
    AdmissionQueue,
    Bulkhead,
    CircuitBreaker,
    ConcurrencyBudget,
    ConcurrencyLimit,
    ConfigError,
    EarlyDrop,
    Hedge,
    LoadShed,
    RateLimit,
    Retry,
    RetryBudget,
    Throttle,
    ThrottleBudget,
    Timeout,
    WindowBudget,
)
from ninelives_grpc.policies.backoff import Backoff, Jitter
from ninelives_grpc.policies.bulkhead import Order
from ninelives_grpc.policies.circuit_breaker import Mode
from ninelives_grpc.policies.concurrency_limit import Algorithm
from ninelives_grpc.policies.throttle import Algorithm as ThrottleAlgorithm

# Numbers are halves and quarters, on which floats are exact, so that models can be compared by ==.
VALUES = {
    AdmissionQueue: {
        "width": st.sampled_from([None, 1, 2, 4]),
        "max_queue": st.integers(0, 6),
        "default_wait": st.sampled_from([0.0, 1.0, 5.0]),
        "over_after": st.sampled_from([None, 0.0, 0.5, 4.0]),
        "over_delay": st.sampled_from([0.0, 0.25]),
        "over_wait": st.sampled_from([0.0, 0.25, 1.0]),
        "over_share": st.sampled_from([0.0, 0.5]),
        "deviations": st.sampled_from([0.0, 2.0]),
        "margin": st.sampled_from([0.0, 0.5]),
        "weight": st.sampled_from([0.25, 1.0]),
    },
    Bulkhead: {
        "max_concurrent": st.integers(1, 4),
        "max_queue": st.integers(0, 6),
        "max_wait": st.sampled_from([0.0, 1.0, 5.0]),
        "order": st.sampled_from(Order),
        "usage_half_life": st.sampled_from([0.5, 60.0]),
    },
    CircuitBreaker: {
        "failure_rate_threshold": st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]),
        "minimum_calls": st.integers(1, 6),
        "window_size": st.integers(1, 12),
        "window_age": st.sampled_from([0.5, 4.0, 10.0]),
        "confidence": st.sampled_from([0.0, 0.0, 1.96]),
        "consecutive_failures": st.sampled_from([None, None, 1, 3]),
        "slow_call_duration": st.sampled_from([None, 0.5, 1.0]),
        "slow_call_rate_threshold": st.sampled_from([0.0, 0.5, 1.0]),
        "open_duration": st.sampled_from([0.25, 0.5, 2.0]),
        "max_open_duration": st.sampled_from([1.0, 2.0, 5.0]),
        "jitter": st.sampled_from([0.0, 0.0, 0.25]),
        "healthy_after": st.sampled_from([0.0, 2.0, 60.0]),
        "half_open_permits": st.integers(1, 4),
        "half_open_concurrency": st.integers(1, 3),
        "probe_lease": st.sampled_from([0.5, 3.0]),
        "mode": st.sampled_from([*[Mode.AUTO] * 8, *Mode]),
        "max_keys": st.integers(1, 3),
    },
    ConcurrencyBudget: {
        "ratio": st.sampled_from([0.0, 0.25, 1.0]),
        "minimum": st.integers(0, 3),
    },
    ConcurrencyLimit: {
        "algorithm": st.sampled_from(Algorithm),
        "initial_limit": st.integers(1, 50),
        "min_limit": st.integers(1, 6),
        "max_limit": st.integers(4, 60),
        "window": st.sampled_from([0.05, 0.1, 1.0]),
        "window_calls": st.integers(1, 30),
        "deadline_share": st.sampled_from([0.25, 0.5, 1.0]),
        "tolerance": st.sampled_from([0.0, 0.5, 2.0]),
        "headroom": st.sampled_from([0.0, 2.0]),
        "burst": st.sampled_from([1.0, 4.0]),
        "probe_interval": st.sampled_from([0.5, 10.0]),
        "probe_share": st.sampled_from([0.25, 0.8, 1.0]),
        "probe_calls": st.sampled_from([1, 50]),
        "aimd_increase": st.sampled_from([0.0, 1.0, 5.0]),
        "aimd_backoff": st.sampled_from([0.5, 0.9]),
        "aimd_latency": st.sampled_from([None, 0.0, 0.5]),
        "vegas_alpha": st.sampled_from([0.0, 3.0]),
        "vegas_beta": st.sampled_from([1.0, 6.0]),
        "vegas_probe": st.sampled_from([1.0, 30.0]),
        "gradient2_tolerance": st.sampled_from([1.0, 1.5]),
        "gradient2_queue": st.sampled_from([0.0, 4.0]),
        "gradient2_smoothing": st.sampled_from([0.25, 1.0]),
        "gradient2_long": st.sampled_from([1, 600]),
        "envoy_buffer": st.sampled_from([0.0, 0.25]),
        "envoy_interval": st.sampled_from([1.0, 60.0]),
        "envoy_calls": st.integers(1, 50),
        "envoy_concurrency": st.integers(1, 5),
    },
    EarlyDrop: {
        "drop_above": st.sampled_from([0.0, 0.5, 1.0]),
        "drop_when_full": st.sampled_from([0.0, 0.25, 1.0]),
        "drop_all_at": st.sampled_from([1.0, 2.0, 4.0]),
    },
    Hedge: {
        "delay": st.sampled_from([None, 0.0, 0.5, 2.0]),
        "max_hedges": st.integers(0, 4),
        "quantile": st.sampled_from([0.0, 0.5, 0.95, 1.0]),
        "minimum_samples": st.integers(1, 4),
        "window_size": st.integers(1, 6),
        "max_pushback": st.sampled_from([0.0, 0.25, 60.0]),
    },
    LoadShed: {
        "memory_limit": st.sampled_from([None, 1, 1 << 40]),
        "memory_stall_limit": st.sampled_from([0.25, 0.5]),
        "cpu_stall_limit": st.sampled_from([0.25, 1.0]),
        "cpu_limit": st.sampled_from([0.5, 1.25]),
        "lag_limit": st.sampled_from([0.25, 1.0]),
        "interval": st.sampled_from([0.25, 1.0]),
        "degrade_above": st.sampled_from([0.25, 0.75]),
        "critical_above": st.sampled_from([0.75, 1.0]),
        "recover_below": st.sampled_from([0.25, 0.5]),
        "cut": st.sampled_from([0.25, 0.5]),
        "further_cut": st.sampled_from([0.5, 0.75]),
        "patience": st.sampled_from([0.5, 5.0]),
        "cut_interval": st.sampled_from([0.25, 1.0]),
        "rise": st.sampled_from([0.125, 1.0]),
        "min_share": st.sampled_from([0.125, 0.5]),
    },
    RateLimit: {
        "rate": st.sampled_from([0.5, 1.0, 4.0, 16.0]),
        "burst": st.sampled_from([1.0, 2.0, 8.0]),
        "max_wait": st.sampled_from([0.0, 2.0, 8.0]),
        "enforced": st.sampled_from([0.0, 0.5, 1.0, 1.0, 1.0]),
        "max_keys": st.integers(1, 3),
        "critical_burst": st.sampled_from([0.0, 0.0, 2.0]),
    },
    Retry: {
        "max_attempts": st.integers(1, 5),
        "initial_backoff": st.sampled_from([0.0, 0.25, 1.0, 4.0]),
        "multiplier": st.sampled_from([1.0, 2.0, 10.0]),
        "max_backoff": st.sampled_from([0.0, 1.0, 8.0]),
        "backoff": st.sampled_from(Backoff),
        "jitter": st.sampled_from(Jitter),
        "max_pushback": st.sampled_from([0.0, 0.5, 60.0]),
    },
    RetryBudget: {
        "ratio": st.sampled_from([0.0, 0.125, 1.0]),
        "capacity": st.sampled_from([0.0, 1.0, 4.0, 10.0]),
        "cost": st.sampled_from([0.0, 1.0, 2.5]),
        "threshold": st.sampled_from([0.0, 0.5, 1.0]),
    },
    Throttle: {
        "algorithm": st.sampled_from(ThrottleAlgorithm),
        "min_fraction": st.sampled_from([0.125, 0.5]),
        "step": st.sampled_from([0.125, 0.5]),
        "bearable": st.sampled_from([0.25, 0.5]),
        "doubling": st.sampled_from([0.25, 1.0, 8.0]),
        "sre_multiplier": st.sampled_from([1.5, 2.0]),
        "sre_window": st.sampled_from([4.0, 120.0]),
        "max_keys": st.integers(1, 3),
    },
    ThrottleBudget: {
        "capacity": st.sampled_from([1.0, 4.0, 10.0]),
        "ratio": st.sampled_from([0.125, 1.0]),
    },
    Timeout: {
        "seconds": st.sampled_from([0.5, 2.0, 8.0]),
        "margin": st.sampled_from([0.0, 0.25]),
        "refuse_hopeless": st.booleans(),
        "minimum_calls": st.integers(1, 4),
        "idle": st.sampled_from([None, 1.0]),
    },
    WindowBudget: {
        "ratio": st.sampled_from([0.0, 0.25, 1.0]),
        "window": st.sampled_from([2.0, 8.0, 16.0]),
        "minimum": st.sampled_from([0.0, 0.25, 2.0]),
    },
}
MAY_CONFLICT = (CircuitBreaker, ConcurrencyLimit, Hedge, LoadShed)


def changes(kind, **narrowed):
    """Draw one parameter, or several at once, of a kind of policy, with their new values."""
    values = VALUES[kind] | narrowed
    alone = [st.fixed_dictionaries({name: value}) for name, value in values.items()]
    return st.one_of(*alone, st.fixed_dictionaries({}, optional=values))


def change(live, values):
    """Change a running policy, by a handle where that will do; returns whether it agreed."""
    before, revision = live.policy, live.revision
    try:
        if len(values) == 1:
            ((name, value),) = values.items()
            live.parameter(name).set(value)
        else:
            live.change(values)
    except ConfigError:
        # Values that do not go together are refused, and then none of them holds.
        assert isinstance(before, MAY_CONFLICT)
        assert (live.policy, live.revision) == (before, revision)
        return False
    assert all(getattr(live.policy, name) == value for name, value in values.items())
    # What is so already is left alone.
    differs = any(getattr(before, name) != value for name, value in values.items())
    assert live.revision == revision + differs
    return True
