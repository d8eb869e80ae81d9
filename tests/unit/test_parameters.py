import math

import pytest

from ninelives_grpc import Bulkhead, CircuitBreaker, ConfigError, RateLimit, Retry, Timeout
from ninelives_grpc.parameters import option, parameter, policy, settings, specs
from ninelives_grpc.policies.backoff import Jitter
from ninelives_grpc.policies.policy import Policy


def spec(kind, name):
    return specs(kind)[name]


@pytest.mark.parametrize(
    ("kind", "name", "value", "parsed"),
    [
        (Bulkhead, "max_concurrent", 5, 5),
        (Bulkhead, "max_concurrent", 5.0, 5),
        (Timeout, "seconds", 2, 2.0),
        (Timeout, "seconds", 2.5, 2.5),
        (Timeout, "refuse_hopeless", False, False),
        (Retry, "jitter", "none", Jitter.NONE),
        (Retry, "jitter", Jitter.A6, Jitter.A6),
        (CircuitBreaker, "consecutive_failures", None, None),
        (CircuitBreaker, "consecutive_failures", 3, 3),
        (CircuitBreaker, "slow_call_duration", 1, 1.0),
    ],
)
def test_a_value_is_taken_in_the_parameters_own_type(kind, name, value, parsed):
    found = spec(kind, name).parse(value)

    assert found == parsed
    assert type(found) is type(parsed)


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (Bulkhead, "max_concurrent", 5.5),
        (Bulkhead, "max_concurrent", True),
        (Bulkhead, "max_concurrent", "5"),
        (Bulkhead, "max_concurrent", None),
        (Bulkhead, "max_concurrent", 0),
        (Bulkhead, "max_concurrent", 1_000_001),
        (Bulkhead, "max_concurrent", 10**400),
        (Bulkhead, "max_concurrent", [5]),
        (Timeout, "seconds", True),
        (Timeout, "seconds", math.nan),
        (Timeout, "seconds", math.inf),
        (Timeout, "seconds", 10**400),
        (Timeout, "seconds", 0.0009),
        (Timeout, "refuse_hopeless", 1),
        (Timeout, "refuse_hopeless", "true"),
        (Retry, "jitter", "NONE"),
        (Retry, "jitter", True),
        (Retry, "jitter", 1),
        (CircuitBreaker, "consecutive_failures", 0),
        (CircuitBreaker, "failure_rate_threshold", None),
    ],
)
def test_a_value_of_another_type_or_outside_the_bounds_is_refused(kind, name, value):
    with pytest.raises(ValueError, match=r"must be .*, not "):
        spec(kind, name).parse(value)


@pytest.mark.parametrize(
    ("kind", "name", "text"),
    [
        (Bulkhead, "max_concurrent", "a whole number from 1 to 1e+06 calls"),
        (Timeout, "seconds", "a number from 0.001 to 86400 seconds"),
        (Timeout, "refuse_hopeless", "true or false"),
        (Retry, "multiplier", "a number from 1 to 100"),
        (Retry, "jitter", "one of full, equal, decorrelated, a6, none"),
        (
            CircuitBreaker,
            "consecutive_failures",
            "a whole number from 1 to 100000 calls, or null",
        ),
    ],
)
def test_the_bounds_are_said_in_words(kind, name, text):
    assert spec(kind, name).bounds() == text


def test_bounds_may_be_open():
    @policy
    class Free(Policy):
        n: int = parameter(default=1, doc="Any number.")

    assert specs(Free)["n"].bounds() == "a whole number from any to any"
    assert Free(n=-(10**9)).n == -(10**9)


def test_a_wrong_setting_names_class_and_field():
    with pytest.raises(ConfigError) as caught:
        RateLimit(10, burst=0)

    assert caught.value.path == "RateLimit.burst"
    assert str(caught.value) == "RateLimit.burst: must be a number from 1 to 1e+09 calls, not 0"


def test_everything_is_known_of_a_parameter():
    found = spec(Retry, "initial_backoff")

    assert (found.name, found.type, found.type_name) == ("initial_backoff", float, "float")
    assert (found.default, found.low, found.high, found.unit) == (0.1, 0.0, 3600.0, "seconds")
    assert found.doc == "Wait before the second attempt."
    assert not found.optional
    assert spec(Bulkhead, "max_concurrent").default is None


def test_a_choice_lists_its_words_and_a_number_has_none():
    assert spec(Retry, "jitter").type_name == "choice"
    assert spec(Retry, "jitter").choices == ("full", "equal", "decorrelated", "a6", "none")
    assert spec(Retry, "max_attempts").choices == ()


@pytest.mark.parametrize("kind", [Bulkhead, CircuitBreaker, RateLimit, Retry, Timeout])
def test_every_parameter_has_a_sentence_and_a_default_within_its_bounds(kind):
    for found in specs(kind).values():
        assert found.doc.endswith(".")
        if found.default is not None:
            assert found.parse(found.default) == found.default


def test_options_are_settings_but_no_parameters():
    assert "scope" not in specs(RateLimit)
    assert settings(RateLimit) == {
        "name": False,
        "rate": True,
        "burst": False,
        "max_wait": False,
        "enforced": False,
        "critical_burst": False,
        "max_keys": False,
        "scope": False,
        "weight": False,
    }


def test_specs_are_made_once():
    assert specs(Retry) is specs(Retry)


def test_a_policy_is_a_frozen_snapshot():
    with pytest.raises(AttributeError):
        Retry().max_attempts = 5


def test_a_policy_of_ones_own_takes_part():
    @policy
    class Custom(Policy):
        limit: int = parameter(low=1, high=9, doc="A limit.", kw_only=False)
        label: str = option(default="x")

    assert repr(Custom(3, label="y")) == "Custom(3, label=y)"
    assert Custom.default_name() == "custom"
    with pytest.raises(ConfigError, match=r"Custom.limit"):
        Custom(10)
    with pytest.raises(NotImplementedError):
        Custom(3).live(None)
