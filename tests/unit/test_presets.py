import pytest

from ninelives_grpc import CircuitBreaker, ConfigError, Respond, UnknownNameError, presets
from ninelives_grpc.outcome import Code, Kind, failed
from tests.unit.backend import Backend, StatusError

TABLE = {
    presets.critical: (0.3, 5, 50.0, 75.0),
    presets.standard: (0.5, 10, 100.0, 200.0),
    presets.network: (0.4, 10, 150.0, 300.0),
    presets.high_throughput: (0.6, 15, 500.0, 1000.0),
    presets.relaxed: (0.7, 20, 200.0, 500.0),
}
EVERY_PRESET = pytest.mark.parametrize("preset", TABLE, ids=lambda preset: preset.__name__)


@EVERY_PRESET
def test_a_preset_has_the_values_of_the_table(registry, preset):
    parameters = preset("s", registry=registry).parameters

    found = tuple(
        parameters[path].get()
        for path in (
            "circuit_breaker/failure_rate_threshold",
            "circuit_breaker/minimum_calls",
            "rate_limit/rate",
            "rate_limit/burst",
        )
    )

    assert found == TABLE[preset]


@EVERY_PRESET
def test_a_preset_is_a_whole_stack_in_the_order_of_the_table(registry, preset):
    stack = preset("s", registry=registry)

    assert [name for name in stack.policies if name != "retry_budget"] == [
        "timeout",
        "retry",
        "rate_limit",
        "circuit_breaker",
        "bulkhead",
        "attempt_timeout",
    ]
    assert registry.stack("s") is stack
    assert stack.call(lambda: "answer") == "answer"


@pytest.mark.parametrize(
    ("preset", "limit"),
    [(presets.server, "admission_queue"), (presets.aio_server, "concurrency_limit")],
    ids=["server", "aio_server"],
)
def test_a_server_has_a_limit_and_within_it_a_timeout(registry, preset, limit):
    stack = preset("s", {"timeout/seconds": 5.0}, registry=registry)

    assert [*stack.policies] == [limit, "timeout"]
    assert stack.parameters["timeout/seconds"].get() == 5.0
    assert registry.stack("s") is stack


def test_there_is_a_function_for_every_preset():
    functions = {preset.__name__ for preset in TABLE} | {"server", "aio_server"}

    assert functions == set(presets.PRESETS)


@EVERY_PRESET
def test_a_preset_takes_overrides(registry, preset):
    overrides = {"retry/max_attempts": 5, "attempt_timeout/seconds": 1}

    stack = preset("s", overrides, registry=registry)

    assert stack.parameters["retry/max_attempts"].get() == 5
    assert stack.parameters["attempt_timeout/seconds"].get() == 1.0
    assert stack.parameters["timeout/seconds"].get() == 10.0


def test_overrides_that_go_together_do_so_in_any_order(registry):
    overrides = {
        "circuit_breaker/open_duration": 8.0,
        "circuit_breaker/max_open_duration": 30.0,
    }

    stack = presets.standard("s", overrides, registry=registry)

    assert stack.parameters["circuit_breaker/open_duration"].get() == 8.0


@pytest.mark.parametrize(
    ("overrides", "path"),
    [
        ({"retry/max_attempts": 0}, "retry/max_attempts"),
        ({"circuit_breaker/open_duration": 8.0}, "circuit_breaker"),
    ],
)
def test_an_override_that_is_not_allowed_is_named(registry, overrides, path):
    with pytest.raises(ConfigError) as caught:
        presets.standard("s", overrides, registry=registry)

    assert caught.value.path == path


def test_an_override_of_nothing_comes_with_a_hint(registry):
    with pytest.raises(UnknownNameError, match="did you mean retry/max_attempts"):
        presets.standard("s", {"retry/max_attempt": 1}, registry=registry)


@EVERY_PRESET
def test_a_preset_takes_a_fallback(registry, clock, preset):
    stack = preset("s", {"retry/max_attempts": 1}, fallback=Respond("local"), registry=registry)

    assert stack.call(Backend(clock, StatusError())) == "local"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (Code.UNAVAILABLE, None),
        (Code.DEADLINE_EXCEEDED, None),
        (Code.INTERNAL, Kind.SUCCESS),
        (Code.UNKNOWN, Kind.SUCCESS),
        (Code.ABORTED, None),
    ],
)
def test_only_network_errors_count_for_caches(code, kind):
    assert presets.network_errors(failed(StatusError(code), 0.0)) is kind
    (breaker,) = (
        part for part in presets.PRESETS["network"].parts() if isinstance(part, CircuitBreaker)
    )
    assert breaker.classify is presets.network_errors
