import pytest
from hypothesis import given
from hypothesis import strategies as st

from ninelives_control.authorization import BY_DEFAULT, Authorization
from ninelives_control.command import Effect, Proposal, Target
from ninelives_control.identity import Identity, Proof, Role
from ninelives_control.rules import DEFAULT_RULES, Rule, Verdict
from ninelives_grpc.errors import UnknownNameError

DECLARED = {
    "shop/retry/max_attempts": 4,
    "shop/bulkhead/max_queue": 0,
    "shop/circuit_breaker/slow_call_duration": None,
    "shop/circuit_breaker/mode": "auto",
    "shop/timeout/refuse_hopeless": True,
    "shop/offset": -2.0,
}


def declared(path):
    if path not in DECLARED:
        raise UnknownNameError("parameter", path, DECLARED)
    return DECLARED[path]


def who(role):
    return Identity(name="x", role=role, proof=Proof.TOKEN)


def may(role, command, effect, *targets, rules=DEFAULT_RULES):
    return Authorization(declared, rules).may_do(who(role), command, effect, targets)


def may_set(value, path="shop/retry/max_attempts", rules=DEFAULT_RULES, role=Role.AGENT):
    target = Proposal(path=path, value=value)
    return may(role, "set_parameter", Effect.CHANGE, target, rules=rules)


SHOP = Target(path="shop/circuit_breaker")


@pytest.mark.parametrize(
    ("role", "command", "effect", "rule"),
    [
        (Role.VIEWER, "get_state", Effect.READ, "everybody-reads"),
        (Role.VIEWER, "added_by_application", Effect.READ, "everybody-reads"),
        (Role.AGENT, "list_events", Effect.READ, "everybody-reads"),
        (Role.AGENT, "reset_circuit_breaker", Effect.CHANGE, "agents-reset"),
        (Role.OPERATOR, "force_circuit_breaker", Effect.CHANGE, "operators-change"),
        (Role.ADMIN, "erase", Effect.DESTRUCTIVE, "admins-do-everything"),
    ],
)
def test_by_default_a_role_may(role, command, effect, rule):
    decision = may(role, command, effect, SHOP)

    assert (decision.allowed, decision.rule, decision.sentence) == (True, rule, "")


@pytest.mark.parametrize(
    ("role", "command", "effect", "others"),
    [
        (Role.VIEWER, "set_parameter", Effect.CHANGE, "operator or agent or admin"),
        (Role.AGENT, "force_circuit_breaker", Effect.CHANGE, "operator or admin"),
        (Role.OPERATOR, "erase", Effect.DESTRUCTIVE, "the role admin may"),
    ],
)
def test_by_default_a_role_may_not(role, command, effect, others):
    decision = may(role, command, effect, SHOP)

    assert (decision.allowed, decision.rule) == (False, BY_DEFAULT)
    assert others in decision.sentence


def test_without_a_rule_nothing_is_allowed():
    decision = may(Role.ADMIN, "get_state", Effect.READ, SHOP, rules=())

    assert not decision.allowed
    assert "no rule allows it to anybody" in decision.sentence


@pytest.mark.parametrize("value", [1, 1.0, 4, 16, 15.9])
def test_an_agent_moves_a_number_within_a_factor_of_what_was_declared(value):
    assert may_set(value).allowed


@pytest.mark.parametrize("value", [0.99, 17, 0, -4, "4", True, None])
def test_an_agent_does_not_move_it_further(value):
    decision = may_set(value)

    assert (decision.allowed, decision.rule) == (False, "agents-tune")
    assert decision.sentence == (
        "rule agents-tune allows shop/retry/max_attempts numbers from 1 to 16, as 4 is declared "
        "and the factor is 4"
    )


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_bounds_hold_for_every_number(value):
    assert may_set(value).allowed == (1 <= value <= 16)


@pytest.mark.parametrize(
    "path",
    [
        "shop/bulkhead/max_queue",
        "shop/circuit_breaker/slow_call_duration",
        "shop/circuit_breaker/mode",
        "shop/timeout/refuse_hopeless",
    ],
)
def test_what_has_no_multiple_needs_a_minimum_and_a_maximum(path):
    half = Rule(id="half", roles=(Role.AGENT,), factor=4.0, minimum=0.0)
    whole = Rule(id="whole", roles=(Role.AGENT,), factor=4.0, minimum=0.0, maximum=8.0)

    assert "would need a minimum and a maximum" in may_set(2, path).sentence
    assert not may_set(2, path, rules=[half]).allowed
    assert may_set(8, path, rules=[whole]).allowed
    assert not may_set(9, path, rules=[whole]).allowed
    assert not may_set("open", path, rules=[whole]).allowed


def test_a_negative_declaration_has_bounds_too():
    assert may_set(-8.0, "shop/offset").allowed
    assert not may_set(-8.1, "shop/offset").allowed
    assert not may_set(-0.4, "shop/offset").allowed


def test_explicit_bounds_narrow_the_factor():
    rule = Rule(id="narrow", roles=(Role.AGENT,), factor=4.0, minimum=2.0, maximum=10.0)

    allowed = [value for value in range(1, 17) if may_set(value, rules=[rule]).allowed]

    assert allowed == list(range(2, 11))


def test_explicit_bounds_stand_alone_as_well():
    rule = Rule(id="cap", roles=(Role.AGENT,), maximum=10.0)

    assert may_set(-1e9, rules=[rule]).allowed
    assert may_set(11, rules=[rule]).sentence == (
        "rule cap allows shop/retry/max_attempts numbers from -inf to 10"
    )


def test_of_several_rules_that_allow_one_is_enough():
    wide = Rule(id="wide", roles=(Role.AGENT,), factor=10.0)

    assert may_set(40, rules=[*DEFAULT_RULES, wide]).rule == "wide"
    assert may_set(41, rules=[*DEFAULT_RULES, wide]).rule == "agents-tune"


def test_a_rule_that_denies_wins_over_all_that_allow():
    deny = Rule(id="hands-off", roles=(Role.ADMIN,), verdict=Verdict.DENY, paths=("shop/**",))
    for rules in ([*DEFAULT_RULES, deny], [deny, *DEFAULT_RULES]):
        decision = may(Role.ADMIN, "reset", Effect.CHANGE, SHOP, rules=rules)

        assert (decision.allowed, decision.rule) == (False, "hands-off")
        assert decision.sentence == "rule hands-off denies reset on shop/** to the role admin"
        elsewhere = Target(path="search/retry")
        assert may(Role.ADMIN, "reset", Effect.CHANGE, elsewhere, rules=rules).allowed


def test_what_is_denied_in_one_place_is_not_shown_in_a_list_of_all():
    deny = Rule(id="secret", roles=(Role.VIEWER,), verdict=Verdict.DENY, paths=("shop/**",))
    rules = [*DEFAULT_RULES, deny]

    for path, allowed in (("", False), ("shop", False), ("search", True)):
        decision = may(Role.VIEWER, "get_state", Effect.READ, Target(path=path), rules=rules)
        assert decision.allowed is allowed
    assert may(Role.VIEWER, "list_commands", Effect.READ, rules=rules).allowed


def test_a_rule_that_denies_everywhere_denies_without_a_place():
    deny = Rule(id="frozen", roles=(Role.OPERATOR,), verdict=Verdict.DENY, commands=("set_*",))
    authorization = Authorization(declared, [*DEFAULT_RULES, deny])

    decision = authorization.may_use(who(Role.OPERATOR), "set_parameter", Effect.CHANGE)

    assert (decision.allowed, decision.rule) == (False, "frozen")
    assert authorization.may_use(who(Role.OPERATOR), "reset", Effect.CHANGE).allowed


def test_a_rule_for_some_places_says_which():
    rule = Rule(id="search", roles=(Role.OPERATOR,), paths=("search/**", "cache/**"))

    decision = may(Role.OPERATOR, "set_parameter", Effect.CHANGE, SHOP, rules=[rule])

    assert not decision.allowed
    assert decision.sentence == (
        "the role operator may use set_parameter on search/** and cache/** only"
    )
    everything = Target(path="")
    assert not may(Role.OPERATOR, "get_state", Effect.READ, everything, rules=[rule]).allowed


def test_all_targets_must_be_allowed():
    good = Proposal(path="shop/retry/max_attempts", value=5)
    bad = Proposal(path="shop/retry/max_attempts", value=500)

    assert may(Role.AGENT, "set_parameter", Effect.CHANGE, good, good).allowed
    assert not may(Role.AGENT, "set_parameter", Effect.CHANGE, good, bad).allowed


def test_bounds_on_values_do_not_keep_from_commands_without_a_value():
    rule = Rule(id="tune", roles=(Role.AGENT,), factor=2.0)

    assert may(Role.AGENT, "reset", Effect.CHANGE, SHOP, rules=[rule]).allowed


def test_the_declared_value_of_what_is_not_there_is_an_error():
    with pytest.raises(UnknownNameError):
        may_set(3, "shop/retry/max")
