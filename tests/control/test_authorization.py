from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ninelives_control.authorization.authorization import Authorization
from ninelives_control.authorization.decision import BY_DEFAULT, Facts, Request
from ninelives_control.authorization.rules import DEFAULT_RULES, Rule, Verdict
from ninelives_control.command import Effect, Proposal, Target
from ninelives_control.identity.identity import Identity, Proof, Role
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


class World:
    """Values, and times that pass when they are told to."""

    def __init__(self):
        self.present = dict(DECLARED)
        self.time = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
        self.seconds = 0.0

    @property
    def facts(self):
        return Facts(
            declared=declared,
            present=self.present.__getitem__,
            below=lambda _: (),
            wall=lambda: self.time,
            now=lambda: self.seconds,
        )

    def go_on(self, seconds):
        self.time += timedelta(seconds=seconds)
        self.seconds += seconds


def request(role, command, effect, *targets, reason="", name="x"):
    identity = Identity(name=name, role=role, proof=Proof.TOKEN)
    return Request(
        identity=identity, command=command, effect=effect, targets=targets, reason=reason
    )


def may(role, command, effect, *targets, rules=DEFAULT_RULES):
    asked = request(role, command, effect, *targets)
    return Authorization(World().facts, rules).may_do(asked)


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
    authorization = Authorization(World().facts, [*DEFAULT_RULES, deny])

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


@pytest.fixture
def world():
    return World()


def tries(world, *rules):
    """Return how an agent sets a parameter, for real, and is told what decided."""
    authorization = Authorization(world.facts, rules)

    def set_to(value, path="shop/retry/max_attempts", reason="", name="x", effect=Effect.CHANGE):
        targets = [Proposal(path=path, value=value)]
        asked = request(Role.AGENT, "set_parameter", effect, *targets, reason=reason, name=name)
        decision = authorization.begin(asked)
        if decision.allowed:
            world.present[path] = value
        return decision

    return set_to


def test_a_step_is_measured_from_the_present_value(world):
    set_to = tries(world, Rule(id="slow", roles=(Role.AGENT,), step=2.0))

    assert not set_to(8.1).allowed
    assert set_to(8).allowed
    assert set_to(16).allowed
    assert set_to(7).sentence == (
        "rule slow allows shop/retry/max_attempts numbers from 8 to 32, as it is 16 now and the "
        "step is 2"
    )


def test_repeated_steps_stay_within_the_factor(world):
    set_to = tries(world, Rule(id="slow", roles=(Role.AGENT,), step=2.0, factor=4.0))

    assert [set_to(value).allowed for value in (8, 16, 17, 32)] == [True, True, False, False]
    assert set_to(17).sentence == (
        "rule slow allows shop/retry/max_attempts numbers from 8 to 16, as 4 is declared and the "
        "factor is 4 and it is 16 now and the step is 2"
    )


def test_who_is_further_away_than_one_step_is_told_so(world):
    world.present["shop/retry/max_attempts"] = 100
    set_to = tries(world, Rule(id="slow", roles=(Role.AGENT,), step=2.0, factor=4.0))

    for value in (16, 50, 100):
        assert "allows shop/retry/max_attempts no number now" in set_to(value).sentence


def test_a_step_from_nothing_needs_other_bounds(world):
    path = "shop/bulkhead/max_queue"
    free = tries(world, Rule(id="slow", roles=(Role.AGENT,), step=2.0))
    bound = tries(world, Rule(id="slow", roles=(Role.AGENT,), step=2.0, minimum=0.0, maximum=9.0))

    assert "the present value of shop/bulkhead/max_queue, which is 0" in free(3, path).sentence
    assert not bound(10, path).allowed
    assert bound(9, path).allowed


@pytest.mark.parametrize("reason", ["", "  \n"])
def test_a_reason_may_be_required(world, reason):
    set_to = tries(world, Rule(id="why", roles=(Role.AGENT,), reason_required=True))

    assert set_to(5, reason=reason).sentence == (
        "rule why allows set_parameter with a reason only: say why in the argument reason"
    )
    assert set_to(5, reason="calm down").allowed
    assert set_to(5, effect=Effect.READ).allowed


def test_a_rule_may_hold_at_some_hours(world):
    office = Rule(id="office", roles=(Role.AGENT,), hours="09:00-17:00", days=("mon", "fri"))
    set_to = tries(world, office)

    assert set_to(5).allowed
    world.go_on(5 * 3600)
    assert set_to(5).sentence == (
        "rule office holds 09:00-17:00 on mon and fri (UTC), the next time from "
        "Mon 2026-11-30 09:00"
    )


def test_a_rule_that_denies_may_hold_at_some_hours(world):
    freeze = Rule(
        id="freeze", roles=(Role.AGENT,), verdict=Verdict.DENY, hours="16:00-24:00", days=("fri",)
    )
    set_to = tries(world, *DEFAULT_RULES, freeze)
    authorization = Authorization(world.facts, [*DEFAULT_RULES, freeze])

    def may_use():
        return authorization.may_use(who(Role.AGENT), "set_parameter", Effect.CHANGE).allowed

    assert set_to(5).allowed
    assert may_use()
    world.go_on(4 * 3600)
    assert not may_use()
    assert set_to(5).rule == "freeze"
    assert set_to(5).sentence.endswith("to the role agent, 16:00-24:00 on fri (UTC)")
    world.go_on(8 * 3600)
    assert set_to(5).allowed


def test_changes_are_counted_for_each_identity_and_for_an_hour(world):
    set_to = tries(world, Rule(id="few", roles=(Role.AGENT,), changes_per_hour=2))

    assert set_to(5).allowed
    world.go_on(600)
    assert set_to(6).allowed
    assert set_to(7).sentence == (
        "rule few allows 2 changes an hour; again in 3000 s, from 13:00:00 UTC"
    )
    assert set_to(7, name="another").allowed
    world.go_on(2999)
    assert not set_to(7).allowed
    world.go_on(1)
    assert set_to(7).allowed
    assert not set_to(8).allowed


def test_what_is_only_asked_and_what_reads_is_not_counted(world):
    few = Rule(id="few", roles=(Role.AGENT,), changes_per_hour=1)
    authorization = Authorization(world.facts, [few])
    change = request(Role.AGENT, "set_parameter", Effect.CHANGE, SHOP)
    look = request(Role.AGENT, "get_state", Effect.READ, SHOP)

    for _ in range(3):
        assert authorization.may_do(change).allowed
        assert authorization.explain(change).decision.allowed
        assert authorization.begin(look).allowed
    assert authorization.begin(change).allowed
    assert not authorization.may_do(change).allowed
    assert authorization.may_do(look).allowed


def test_each_target_is_a_change(world):
    few = Rule(id="few", roles=(Role.AGENT,), changes_per_hour=3)
    authorization = Authorization(world.facts, [few])
    two = request(Role.AGENT, "apply", Effect.CHANGE, SHOP, SHOP)
    four = request(Role.AGENT, "apply", Effect.CHANGE, *[SHOP] * 4)

    assert authorization.begin(four).sentence == (
        "rule few allows 3 changes an hour, and never more at once"
    )
    assert authorization.begin(two).allowed
    assert not authorization.begin(two).allowed
    assert authorization.begin(request(Role.AGENT, "reset", Effect.CHANGE)).allowed
    assert not authorization.begin(request(Role.AGENT, "reset", Effect.CHANGE)).allowed


def test_where_the_changes_of_a_rule_are_spent_another_rule_decides(world):
    careful = Rule(id="careful", roles=(Role.AGENT,), factor=2.0)
    few = Rule(id="few", roles=(Role.AGENT,), changes_per_hour=1)
    set_to = tries(world, few, careful)

    assert [set_to(value).rule for value in (5, 6, 40)] == ["few", "careful", "few"]


def test_threads_do_not_change_more_often_than_allowed_between_them(world):
    few = Rule(id="few", roles=(Role.AGENT,), changes_per_hour=20)
    authorization = Authorization(world.facts, [few])
    change = request(Role.AGENT, "reset", Effect.CHANGE, SHOP)

    with ThreadPoolExecutor(8) as pool:
        decisions = list(pool.map(lambda _: authorization.begin(change), range(100)))

    assert sum(decision.allowed for decision in decisions) == 20


def test_an_explanation_says_of_each_rule_why_it_did_or_did_not_decide(world):
    rules = [
        Rule(id="for-admins", roles=(Role.ADMIN,)),
        Rule(id="elsewhere", roles=(Role.AGENT,), paths=("search/**",)),
        Rule(id="night", roles=(Role.AGENT,), verdict=Verdict.DENY, hours="22:00-06:00"),
        Rule(id="narrow", roles=(Role.AGENT,), factor=1.5),
        Rule(id="wide", roles=(Role.AGENT,), factor=4.0),
        Rule(id="resets", roles=(Role.AGENT,), commands=("reset_*",)),
    ]
    authorization = Authorization(world.facts, rules)
    proposal = Proposal(path="shop/retry/max_attempts", value=8)

    explained = authorization.explain(request(Role.AGENT, "set_parameter", Effect.CHANGE, proposal))

    assert (explained.decision.allowed, explained.decision.rule) == (True, "wide")
    told = [(found.rule, found.outcome, found.decided) for found in explained.findings]
    assert told == [
        ("for-admins", "silent", False),
        ("elsewhere", "silent", False),
        ("night", "silent", False),
        ("narrow", "would_allow", False),
        ("wide", "allows", True),
        ("resets", "silent", False),
    ]
    assert [found.sentence for found in explained.findings] == [
        "rule for-admins speaks of the roles admin",
        "rule elsewhere speaks of the paths search/**",
        "rule night holds 22:00-06:00 (UTC), the next time from Fri 2026-11-27 22:00",
        (
            "rule narrow allows shop/retry/max_attempts numbers from 2.66667 to 6, as 4 is "
            "declared and the factor is 1.5"
        ),
        "rule wide allows set_parameter here",
        "rule resets speaks of the commands reset_*",
    ]
