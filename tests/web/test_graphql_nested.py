"""From stacks to their policies, and on: each part is a command of its own."""

import pytest

from ninelives_control import ControlPlane
from ninelives_control.transports.graphql import nested as graphql_nested
from ninelives_grpc import Stack, Timeout
from tests.web.graphql_asker import Asker

NAMES = "{ stacks { name } }"
STATES = "{ stacks { policies { path state { name value } } } }"


@pytest.fixture
def rules(tmp_path):
    path = tmp_path / "rules.toml"
    path.write_text(
        """
        include_defaults = true

        [[rules]]
        id = "no-metrics-of-retries"
        roles = ["viewer"]
        verdict = "deny"
        commands = ["get_metrics"]
        paths = ["*/retry"]
        """
    )
    return path


@pytest.fixture
def plane(registry, shop, tokens, tokens_path, rules):
    """One that writes down what is read as well."""
    plane = ControlPlane(
        registry, grpc_port=None, http_port=0, tokens=tokens_path, rules=rules, audit_reads=True
    )
    with plane:
        yield plane


@pytest.fixture
def ran(entries):
    """Return which commands ran, and how they ended, by name."""
    return lambda: sorted((entry.command, str(entry.status)) for entry in entries())


def test_one_document_leads_from_a_stack_to_all_that_is_in_it(ask, shop, registry, plane):
    Stack("search", Timeout(1.0), registry=registry)
    shop.call(lambda: 1)
    plane.execute("set_parameter", path="shop/retry/max_attempts", value=5)

    (stack,) = ask(
        "admin",
        """
        {
          stacks(match: "sh*") {
            name
            expression
            traffic(window: 300) { calls }
            metrics { traffic { successes } }
            events(kinds: ["ParameterChanged"]) { events { policy } }
            parameters(policy: "retry", limit: 1) { path }
            policies(match: "*/retry", limit: 2) {
              path
              kind
              revision
              parameters(match: "*/*/max_attempts") { path value declared }
              state { name }
              metrics(window: 900) { path retries }
              events { events { name } more }
            }
          }
        }
        """,
    )["stacks"]

    assert stack == {
        "name": "shop",
        "expression": repr(shop.expression),
        "traffic": {"calls": 1},
        "metrics": {"traffic": {"successes": 1}},
        "events": {"events": [{"policy": "retry"}]},
        "parameters": [{"path": "shop/retry/max_attempts"}],
        "policies": [
            {
                "path": "shop/retry",
                "kind": "Retry",
                "revision": 2,
                "parameters": [{"path": "shop/retry/max_attempts", "value": 5, "declared": 3}],
                "state": [],
                "metrics": {"path": "shop/retry", "retries": 0},
                "events": {"events": [{"name": "ParameterChanged"}], "more": False},
            }
        ],
    }


def test_what_is_not_selected_is_not_asked_for(ask, ran):
    ask("viewer", NAMES)

    assert ran() == [("list_stacks", "succeeded")]


def test_each_part_is_written_down_as_the_command_it_is(ask, ran, shop):
    (stack,) = ask("viewer", STATES)["stacks"]

    paths = [policy["path"] for policy in stack["policies"]]
    assert paths == [f"shop/{name}" for name in shop.policies]
    described = [("describe_policy", "succeeded")] * len(paths)
    assert ran() == [*described, ("list_policies", "succeeded"), ("list_stacks", "succeeded")]


def test_who_may_not_run_the_command_does_not_get_the_part(plane, tokens, ask, ran):
    document = '{ stacks { policies(match: "*/*r*") { path metrics { retries } } } }'

    with pytest.raises(Exception, match="no-metrics-of-retries") as caught:
        ask("viewer", document)

    (error,) = caught.value.errors
    assert error["path"] == ["stacks", 0, "policies", 0, "metrics"]
    assert error["extensions"] == {"code": "permission_denied", "rule": "no-metrics-of-retries"}
    policies = caught.value.data["stacks"][0]["policies"]
    assert [(policy["path"], policy["metrics"]) for policy in policies] == [
        ("shop/retry", None),
        ("shop/retry_budget", {"retries": 0}),
        ("shop/circuit_breaker", {"retries": 0}),
    ]
    assert ("get_metrics", "refused") in ran()


@pytest.mark.parametrize(
    ("document", "code", "field"),
    [
        ("{ stacks(limit: 1001) { name } }", "invalid_argument", "limit"),
        ("{ stacks { policies(limit: 1001) { path } } }", "invalid_argument", "limit"),
        ("{ stacks { traffic(window: 61) { calls } } }", "invalid_argument", "window"),
        ('{ stacks { parameters(policy: "rety") { path } } }', "not_found", "policy"),
        ("{ stacks { policies { nothing } } }", "invalid_argument", None),
        ('{ stacks { policies(stack: "search") { path } } }', "invalid_argument", None),
    ],
)
def test_what_can_not_be_meant_is_refused_with_a_code(document, code, field, ask, ran):
    (error,) = ask.errors("viewer", document)

    assert (error["extensions"]["code"], error["extensions"].get("field")) == (code, field)
    assert [status for _, status in ran()].count("succeeded") == len(ran()) - 1


def test_nobody_without_a_token_learns_the_names(ask):
    (error,) = ask.errors(None, NAMES)

    assert error["extensions"] == {"code": "unauthenticated"}


def test_changes_are_told_where_they_were_made(ask, plane, registry, shop):
    Stack("s*", Timeout(1.0), registry=registry)
    for path, value in {"shop/retry/max_attempts": 5, "shop/timeout/seconds": 3.0}.items():
        plane.execute("set_parameter", path=path, value=value)
    plane.execute("set_parameter", path="s*/timeout/seconds", value=2.0)
    changes = 'audit(command: "set_parameter") { entries { changes { path new } } }'

    odd, told = ask("operator", f"{{ stacks {{ {changes} policies {{ path {changes} }} }} }}")[
        "stacks"
    ]

    assert made(odd) == [("s*/timeout/seconds", 2.0)]
    assert made(told) == [("shop/retry/max_attempts", 5), ("shop/timeout/seconds", 3.0)]
    policies = {policy["path"]: made(policy) for policy in told["policies"]}
    assert {path: found for path, found in policies.items() if found} == {
        "shop/retry": [("shop/retry/max_attempts", 5)],
        "shop/timeout": [("shop/timeout/seconds", 3.0)],
    }


def test_who_may_not_read_the_audit_does_not_get_it_with_a_stack(ask):
    errors = ask.errors("viewer", "{ stacks { name audit { more } } }")

    assert [error["path"] for error in errors] == [["stacks", 0, "audit"]]
    assert errors[0]["extensions"]["rule"] == "audit-is-for-operators"


def made(place):
    """Return what was changed, as its audit tells it."""
    changes = [change for entry in place["audit"]["entries"] for change in entry["changes"]]
    return [(change["path"], change["new"]) for change in changes]


def test_no_document_runs_commands_without_end(ask, monkeypatch, ran):
    monkeypatch.setattr(graphql_nested, "MOST_PARTS", 3)

    errors = ask.errors("viewer", STATES)

    assert {error["extensions"]["code"] for error in errors} == {"invalid_argument"}
    assert "more than 3 commands would run" in errors[0]["message"]
    assert len(ran()) == 1 + 3


def test_an_empty_control_plane_has_no_stacks(registry):
    with ControlPlane(registry, grpc_port=None, http_port=0) as plane:
        assert Asker(plane, {})(None, STATES) == {"stacks": []}


def test_a_part_whose_command_is_removed_is_gone(plane, ask):
    plane.commands.remove("get_state")
    (error,) = ask.errors("viewer", "{ stacks { traffic { calls } } }")
    plane.commands.remove("list_stacks")
    (gone,) = ask.errors("viewer", NAMES)

    assert error["extensions"]["code"] == "invalid_argument"
    assert gone["extensions"]["code"] == "unknown_command"
