import pytest

from ninelives_grpc import ConfigError, Routes, Stack, Timeout
from ninelives_grpc.routes import EXEMPT, client_routes, server_routes


@pytest.fixture
def stacks(registry):
    return [Stack(name, Timeout(1.0), registry=registry) for name in ("one", "all", "rest")]


def test_the_full_name_goes_before_the_service_and_that_before_the_rest(stacks):
    one, service, rest = stacks
    routes = Routes({"*": rest, "shop.v1.Shop/*": service, "shop.v1.Shop/Buy": one})

    assert routes("shop.v1.Shop/Buy") is one
    assert routes("/shop.v1.Shop/Buy") is one
    assert routes("shop.v1.Shop/Look") is service
    assert routes("shop.v1.Other/Buy") is rest


def test_a_method_without_a_route_is_not_protected(stacks):
    routes = Routes({"shop.v1.Shop/*": stacks[0]})

    assert routes("shop.v1.Other/Buy") is None


def test_a_route_may_lead_to_nothing(stacks):
    routes = Routes({"*": stacks[0], "shop.v1.Shop/Look": None})

    assert routes("shop.v1.Shop/Look") is None
    assert routes("shop.v1.Shop/Buy") is stacks[0]


@pytest.mark.parametrize(
    "pattern",
    ["", "Buy", "shop.v1.Shop/", "/", "*/Buy", "shop.*/Buy", "shop.v1.Shop/Get*", "a/b/c", "**"],
)
def test_any_other_pattern_is_refused(stacks, pattern):
    with pytest.raises(ConfigError) as caught:
        Routes({pattern: stacks[0]})

    assert str(caught.value) == (
        f"Routes: a route is package.Service/Method, package.Service/* or *, not {pattern!r}"
    )


def test_a_route_leads_to_a_stack_or_nothing_and_not_to_a_policy():
    with pytest.raises(ConfigError) as caught:
        Routes({"*": Timeout(1.0)})

    assert str(caught.value) == (
        "Routes['*']: leads to Timeout(1.0); give a Stack, or None to leave a method unprotected"
    )


def test_the_stacks_of_routes_are_each_listed_once(stacks):
    one, service, _ = stacks
    routes = Routes({"a/*": one, "b/*": service, "c/*": one, "d/*": None})

    assert routes.stacks == (one, service)
    assert repr(routes) == "Routes({'a/*': 'one', 'b/*': 'all', 'c/*': 'one', 'd/*': None})"


def test_a_client_stack_is_for_all_methods(stacks):
    routes = client_routes(stacks[0])

    assert routes("grpc.health.v1.Health/Check") is stacks[0]
    assert client_routes(routes) is routes


@pytest.mark.parametrize("pattern", EXEMPT)
def test_a_server_answers_what_operates_it_when_nothing_else_is_answered(stacks, pattern):
    routes = server_routes(stacks[0])

    assert routes(pattern.replace("*", "Check")) is None
    assert routes("shop.v1.Shop/Buy") is stacks[0]


def test_routes_say_themselves_what_is_exempt_on_a_server(stacks):
    routes = Routes({"*": stacks[0]})

    assert server_routes(routes) is routes
    assert routes("grpc.health.v1.Health/Check") is stacks[0]
