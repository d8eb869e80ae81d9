"""A service config of gRPC becomes stacks that behave as it does there, or better."""

import json
import logging

import pytest

from ninelives_grpc import ConfigError, config
from ninelives_grpc.outcome import Code
from ninelives_grpc.testing import VirtualClock

from .backend import Backend, StatusError

# From gRFC A6, "Configuration Language".
RETRY_POLICY = {
    "maxAttempts": 4,
    "initialBackoff": ".1s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
HEDGING_POLICY = {
    "maxAttempts": 4,
    "hedgingDelay": ".5s",
    "nonFatalStatusCodes": ["UNAVAILABLE", "INTERNAL", "ABORTED"],
}
THROTTLING = {"maxTokens": 10, "tokenRatio": 0.1}
NAME = {"service": "shop.v1.Payments"}


def method_config(*names, **fields):
    return {"methodConfig": [{"name": list(names or [NAME]), **fields}]}


def retrying(**changes):
    return method_config(retryPolicy={**RETRY_POLICY, **changes})


@pytest.fixture
def read(registry):
    def from_service_config(data):
        return config.from_service_config(data, registry=registry)

    return from_service_config


@pytest.fixture
def values(registry):
    """The values of a policy, by its address."""

    def of(path, *names):
        return tuple(registry.parameter(f"{path}/{name}").get() for name in names)

    return of


def test_the_retry_policy_of_a6_becomes_a_retry(read, registry, values):
    read(retrying())

    names = ("max_attempts", "initial_backoff", "max_backoff", "multiplier", "jitter", "backoff")
    found = values("shop.v1.Payments/retry", *names)
    assert found == (4, 0.1, 1.0, 2.0, "a6", "exponential")
    assert registry.policy("shop.v1.Payments/retry").policy.codes == {Code.UNAVAILABLE}


def test_the_throttling_of_a6_becomes_one_budget_for_all(read, registry, values):
    entries = [
        {"name": [{"service": name}], "retryPolicy": RETRY_POLICY} for name in ("a.A", "b.B")
    ]

    read({"methodConfig": entries, "retryThrottling": THROTTLING})

    first, second = (registry.policy(f"{name}/retry_budget") for name in ("a.A", "b.B"))
    assert first is second
    assert type(first.policy).__name__ == "ThrottleBudget"
    assert values("a.A/retry_budget", "capacity", "ratio") == (10.0, 0.1)


def test_without_throttling_the_default_budget_is_shared(read, registry):
    entries = [
        {"name": [{"service": name}], "retryPolicy": RETRY_POLICY} for name in ("a.A", "b.B")
    ]

    read({"methodConfig": entries})

    first, second = (registry.policy(f"{name}/retry_budget") for name in ("a.A", "b.B"))
    assert first is second
    assert type(first.policy).__name__ == "RetryBudget"


@pytest.mark.parametrize(("delay", "seconds"), [(".5s", 0.5), ("0s", 0.0)])
def test_the_hedging_policies_of_a6_become_hedges(read, registry, values, delay, seconds):
    read(method_config(hedgingPolicy={**HEDGING_POLICY, "hedgingDelay": delay}))

    policy = registry.policy("shop.v1.Payments/hedge").policy
    assert values("shop.v1.Payments/hedge", "max_hedges", "delay") == (3, seconds)
    assert policy.codes == {Code.UNAVAILABLE, Code.INTERNAL, Code.ABORTED}
    assert policy.idempotent is True


def test_a_hedge_without_a_delay_starts_all_attempts_at_once(read, values):
    read(method_config(hedgingPolicy={"maxAttempts": 9}))

    assert values("shop.v1.Payments/hedge", "max_hedges", "delay") == (4, 0.0)


def test_hedges_are_paid_by_the_throttling_too(read, registry):
    read({**method_config(hedgingPolicy=HEDGING_POLICY), "retryThrottling": THROTTLING})

    stack = registry.stack("shop.v1.Payments")
    assert type(stack.policy("hedge").budget.policy).__name__ == "ThrottleBudget"


@pytest.mark.parametrize(
    ("code", "listed", "calls"),
    [
        (Code.UNAVAILABLE, "UNAVAILABLE", 3),
        (Code.ABORTED, "ABORTED", 3),
        (Code.UNAVAILABLE, "ABORTED", 1),
        (Code.INTERNAL, "UNAVAILABLE", 1),
    ],
)
def test_exactly_its_status_codes_are_repeated(read, registry, code, listed, calls):
    read(retrying(maxAttempts=3, retryableStatusCodes=[listed], initialBackoff="0.001s"))
    stack = registry.stack("shop.v1.Payments")
    backend = Backend(VirtualClock(), StatusError(code))

    with pytest.raises(StatusError):
        stack.call(backend)

    assert backend.calls == calls


def test_a_timeout_stands_outside_of_the_retry(read, registry, values):
    read(method_config(timeout="1.5s", retryPolicy=RETRY_POLICY))

    assert list(registry.stack("shop.v1.Payments").policies) == ["timeout", "retry", "retry_budget"]
    assert values("shop.v1.Payments/timeout", "seconds") == (1.5,)


def test_the_limit_of_an_attempt_stands_inside(read, registry, values):
    read(method_config(retryPolicy={**RETRY_POLICY, "perAttemptRecvTimeout": "0.2s"}))

    assert repr(registry.stack("shop.v1.Payments").expression).startswith("Retry(")
    assert values("shop.v1.Payments/attempt_timeout", "seconds") == (0.2,)


def test_methods_are_routed_as_grpc_chooses_their_config(read):
    routes = read(
        {
            "methodConfig": [
                {"name": [{"service": "a.A"}, {"service": "b.B", "method": "M"}], "timeout": "1s"},
                {"name": [{"service": "a.A", "method": "Bare"}], "waitForReady": True},
                {"name": [{}], "timeout": "2s"},
            ]
        }
    )

    assert routes("/a.A/Any") is routes("/b.B/M")
    assert routes("/a.A/Any").name == "a.A"
    assert routes("/a.A/Bare") is None
    assert routes("/c.C/Any").name == routes("/b.B/Other").name == "default"


def test_a_method_has_a_stack_of_its_own(read):
    routes = read(method_config({"service": "a.A", "method": "M"}, timeout="1s"))

    assert routes("/a.A/M").name == "a.A:M"
    assert routes("/a.A/N") is None


def test_json_is_read_too(read):
    assert read(json.dumps(retrying()))("/shop.v1.Payments/Pay").name == "shop.v1.Payments"


def test_an_empty_one_protects_nothing(read, registry):
    assert read("{}")("/a.A/M") is None
    assert len(registry) == 0


def test_no_more_than_five_attempts_are_made_as_in_grpc(read, values):
    read(retrying(maxAttempts=9))

    assert values("shop.v1.Payments/retry", "max_attempts") == (5,)


def test_what_is_left_to_grpc_is_noted(read, caplog):
    caplog.set_level(logging.INFO, logger="ninelives_grpc")

    read({"loadBalancingPolicy": "round_robin", **method_config(waitForReady=True, timeout="1s")})

    assert caplog.messages == [
        "service config.loadBalancingPolicy is left to gRPC",
        "service config: methodConfig[0].waitForReady is left to gRPC",
    ]


def without(name):
    return {key: value for key, value in RETRY_POLICY.items() if key != name}


POLICY = "service config: methodConfig[0].retryPolicy"
MISTAKES = {
    "json": ("{", "service config: is not valid JSON: "),
    "not a table": ("[]", "service config: must be a table, not []"),
    "entries": ({"methodConfig": {}}, "service config: methodConfig: must be a list, not {}"),
    "names": (
        {"methodConfig": [{"timeout": "1s"}]},
        'service config: methodConfig[0].name: must be a list such as [{"service": ',
    ),
    "method without service": (
        method_config({"method": "M"}),
        "service config: methodConfig[0].name: needs a service, and may have a method, not ",
    ),
    "a pattern for a name": (
        method_config({"service": "a.A/*"}, timeout="1s"),
        "service config: methodConfig[0].name: takes plain names, not {'service': 'a.A/*'}",
    ),
    "the same name twice": (
        method_config(NAME, NAME, timeout="1s"),
        "service config: methodConfig[0].name: shop.v1.Payments/* has a config already",
    ),
    "timeout": (
        method_config(timeout=1),
        'service config: methodConfig[0].timeout: must be a duration such as "0.1s", not 1',
    ),
    "backoff": (
        retrying(initialBackoff="100ms"),
        f"{POLICY}.initialBackoff: must be a duration such as \"0.1s\", not '100ms'",
    ),
    "attempts": (
        retrying(maxAttempts=1),
        f"{POLICY}.maxAttempts: must be a whole number of at least 2, not 1",
    ),
    "multiplier": (
        retrying(backoffMultiplier=0),
        f"{POLICY}.backoffMultiplier: must be a number from 1 to 100, not 0",
    ),
    "no codes": (
        retrying(retryableStatusCodes=[]),
        f"{POLICY}.retryableStatusCodes: must name at least one status code",
    ),
    "code": (
        retrying(retryableStatusCodes=["UNAVAILABEL"]),
        f"{POLICY}.retryableStatusCodes: no status code named 'UNAVAILABEL'; did you mean",
    ),
    "missing": (
        method_config(retryPolicy=without("maxBackoff")),
        f"{POLICY}: needs maxBackoff",
    ),
    "both policies": (
        method_config(retryPolicy=RETRY_POLICY, hedgingPolicy={}),
        "service config: methodConfig[0]: has a retryPolicy and a hedgingPolicy; only one may",
    ),
    "a hedge of one": (
        method_config(hedgingPolicy={**HEDGING_POLICY, "maxAttempts": 1}),
        "service config: methodConfig[0].hedgingPolicy.maxAttempts: must be a whole number of at",
    ),
    "throttling": (
        {"retryThrottling": {**THROTTLING, "maxTokens": 0}},
        "service config: retryThrottling.maxTokens: must be a number from 1 to 1000 tokens, not 0",
    ),
    "half a throttling": (
        {"retryThrottling": {"maxTokens": 10}},
        "service config: retryThrottling: needs tokenRatio",
    ),
}


@pytest.mark.parametrize(("data", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_names_its_place_in_words_of_grpc(read, registry, data, message):
    with pytest.raises(ConfigError) as caught:
        read(data)

    assert str(caught.value).startswith(message)
    assert len(registry) == 0
