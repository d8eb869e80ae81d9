import json
import tomllib

import pytest

from ninelives_grpc import (
    ConcurrencyBudget,
    Registry,
    Respond,
    RetryBudget,
    ThrottleBudget,
    WindowBudget,
    config,
    default_registry,
)
from ninelives_grpc.outcome import Code, Kind, failed
from tests.unit.backend import StatusError

FILE = """
[budgets.payments]
kind = "window"
ratio = 0.5

[stacks.payments]
expression = "timeout + retry + circuit_breaker + bulkhead"
timeout = { seconds = 2.0 }
retry = { max_attempts = 4, budget = "payments", codes = ["ABORTED"], jitter = "none" }
circuit_breaker = { failure_codes = ["UNAVAILABLE"], scope = "method" }
bulkhead = { max_concurrent = 64 }

[stacks.search]
preset = "high_throughput"
overrides = { "retry/max_attempts" = 2 }

[stacks.suggest]
expression = "timeout_attempt + search | empty"
timeout_attempt = { seconds = 1.0 }

[routes]
"shop.v1.Payments/*" = "payments"
"shop.v1.Search/Suggest" = "suggest"
"shop.v1.Search/Ping" = ""
"*" = "search"
"""


@pytest.fixture
def load(tmp_path, registry):
    def write_and_load(text, name="ninelives.toml", **settings):
        file = tmp_path / name
        file.write_text(text, encoding="utf-8")
        return config.load(file, registry=registry, **settings)

    return write_and_load


@pytest.fixture
def routes(load):
    return load(FILE, policies={"empty": Respond("nothing found")})


def test_stacks_are_built_and_methods_routed_to_them(routes, registry):
    assert [stack.name for stack in registry] == ["payments", "search", "suggest"]
    assert routes("shop.v1.Payments/Pay") is registry.stack("payments")
    assert routes("shop.v1.Search/Suggest") is registry.stack("suggest")
    assert routes("shop.v1.Search/Ping") is None
    assert routes("shop.v1.Other/X") is registry.stack("search")


@pytest.mark.usefixtures("routes")
def test_expressions_are_read_as_in_python(registry):
    assert repr(registry.stack("suggest").expression).startswith("(Timeout(1.0, name='timeout_att")
    assert repr(registry.stack("suggest").expression).endswith(" | Respond(nothing found)")


@pytest.mark.usefixtures("routes")
def test_settings_reach_their_policies(registry):
    payments = registry.stack("payments")

    assert payments.parameters["timeout/seconds"].get() == 2.0
    assert payments.parameters["retry/max_attempts"].get() == 4
    assert payments.policy("retry").policy.codes == {Code.ABORTED}
    assert payments.policy("circuit_breaker").policy.scope == "method"


@pytest.mark.usefixtures("routes")
def test_only_the_failure_codes_told_are_failures(registry):
    classify = registry.stack("payments").policy("circuit_breaker").policy.classify

    assert classify(failed(StatusError(Code.INTERNAL), 0.0)) is Kind.SUCCESS
    assert classify(failed(StatusError(Code.UNAVAILABLE), 0.0)) is None
    assert classify(failed(StatusError(Code.ABORTED), 0.0)) is None


@pytest.mark.usefixtures("routes")
def test_a_preset_takes_overrides(registry):
    search = registry.stack("search")

    assert search.parameters["retry/max_attempts"].get() == 2
    assert search.parameters["rate_limit/rate"].get() == 500.0


@pytest.mark.usefixtures("routes")
def test_a_stack_inside_another_is_the_same_stack(registry):
    first, _ = registry.stack("suggest").plan.leaf.plans

    assert registry.stack("search").policy("bulkhead") in first.layers


def test_a_name_used_twice_is_one_policy(registry):
    config.parse(
        {"stacks": {"s": {"expression": "timeout | timeout", "timeout": {"seconds": 1}}}},
        registry=registry,
    )

    assert [name for name in registry.stack("s").policies if "timeout" in name] == ["timeout"]


def test_json_says_the_same(load, registry):
    data = {
        "stacks": {"s": {"expression": "timeout", "timeout": {"seconds": 2}}},
        "routes": {"*": "s"},
    }

    routes = load(json.dumps(data), "ninelives.json")

    assert routes("any.Service/Method") is registry.stack("s")


def test_a_single_stack_needs_no_route(load, registry):
    routes = load('[stacks.only]\npreset = "standard"')

    assert routes("any.Service/Method") is registry.stack("only")


def test_an_empty_file_protects_nothing(load, registry):
    assert load("").stacks == ()
    assert len(registry) == 0


def test_stacks_that_name_one_budget_share_it(registry):
    stack = {"expression": "retry", "retry": {"budget": "shared"}}
    data = {"budgets": {"shared": {}}, "stacks": {"a": stack, "b": stack}}

    config.parse(data, registry=registry)

    assert registry.policy("a/retry_budget") is registry.policy("b/retry_budget")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ({}, RetryBudget),
        ({"kind": "success"}, RetryBudget),
        ({"kind": "throttle"}, ThrottleBudget),
        ({"kind": "window"}, WindowBudget),
        ({"kind": "concurrency"}, ConcurrencyBudget),
    ],
)
def test_every_kind_of_budget_can_be_named(registry, kind, expected):
    stack = {"expression": "retry", "retry": {"budget": "b"}}

    config.parse({"budgets": {"b": kind}, "stacks": {"s": stack}}, registry=registry)

    assert type(registry.policy("s/retry_budget").policy) is expected


def test_a_policy_that_the_program_hands_in_goes_before_all_others(registry):
    given = Respond("handed in")

    config.parse(
        {"stacks": {"s": {"expression": "timeout"}}},
        policies={"timeout": given},
        registry=registry,
    )

    assert registry.stack("s").expression is given


def test_stacks_go_to_the_default_registry_unless_told_otherwise():
    config.parse({"stacks": {"of the config test": {"preset": "standard"}}})

    try:
        assert "of the config test" in default_registry
    finally:
        default_registry.remove("of the config test")


def test_a_policy_may_be_given_another_name(registry):
    table = {"expression": "timeout", "timeout": {"seconds": 1, "name": "whole_call"}}

    config.parse({"stacks": {"s": table}}, registry=registry)

    assert list(registry.stack("s").policies) == ["whole_call"]


def test_each_load_builds_stacks_of_its_own():
    data = {"stacks": {"s": {"preset": "standard"}}}
    first, second = Registry(), Registry()

    config.parse(data, registry=first)
    config.parse(data, registry=second)

    assert first.stack("s") is not second.stack("s")


LOOPS = """
[stacks.prices]
expression = "bulkhead + rate_limit"
bulkhead = { max_concurrent = 64 }
rate_limit = { rate = 100.0 }

[stacks.prices.loops.size]
law = "aimd"
parameter = "bulkhead/max_concurrent"
interval = 60.0
low = 8
high = 200
latency = 0.2

[stacks.prices.loops.memory]
law = "governor"
parameter = "rate_limit/rate"
gauge = "queue"
full = 100.0

[stacks.prices.loops.wait]
law = "governor"
parameter = "bulkhead/max_wait"
gauge = "memory"
full = 1.0

[stacks.search]
preset = "relaxed"
loops = { open = { law = "open_time", parameter = "circuit_breaker/open_duration" } }
"""


def test_loops_are_built_over_the_parameters_of_their_stacks_and_asked(load, registry, monkeypatch):
    monkeypatch.setenv("NINELIVES_PRICES__SIZE__BACKOFF", "0.8")
    try:
        load(LOOPS, gauges={"queue": lambda: 0.5})

        assert registry.runner.running
        assert {loop.path: loop.handle.path for loop in registry.loops} == {
            "prices/size": "prices/bulkhead/max_concurrent",
            "prices/memory": "prices/rate_limit/rate",
            "prices/wait": "prices/bulkhead/max_wait",
            "search/open": "search/circuit_breaker/open_duration",
        }
        size = registry.policy("prices/size")
        assert (size.policy.interval, size.policy.latency, size.bounds()) == (60.0, 0.2, (8, 200))
        assert registry.parameter("prices/size/backoff").get() == 0.8
        assert registry.policy("prices/memory").gauge() == 0.5
        assert registry.policy("prices/wait").gauge() > 0.0
    finally:
        registry.stop_loops()


def test_a_file_with_loops_agrees_with_the_schema():
    jsonschema = pytest.importorskip("jsonschema")

    jsonschema.validate(tomllib.loads(LOOPS), config.schema())
