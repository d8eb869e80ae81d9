"""What holds for all rules and all requests."""

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ninelives_control.authorization.authorization import Authorization
from ninelives_control.authorization.decision import BY_DEFAULT, Facts, Request
from ninelives_control.authorization.rules import Rule, Verdict
from ninelives_control.authorization.schedule import Day
from ninelives_control.command import Effect, Proposal, Target
from ninelives_control.identity.identity import Identity, Proof, Role

DECLARED, PRESENT = 8.0, 16.0
COMMANDS = ("set_parameter", "reset_circuit_breaker", "get_state")
PATHS = ("", "shop", "shop/retry", "shop/retry/max_attempts", "search/retry/max_attempts")
PATTERNS = ("**", "shop/**", "*/retry/*", "shop", "search/*/*")
ANY = Rule(id="any", roles=tuple(Role))


def some(values):
    return st.lists(st.sampled_from(values), min_size=1, max_size=3, unique=True).map(tuple)


PLACES = {
    "roles": some(tuple(Role)),
    "commands": some(("*", "set_*", *COMMANDS)),
    "effects": some(tuple(Effect)),
    "paths": some(PATTERNS),
    "hours": st.sampled_from(["", "09:00-17:00", "22:00-06:00"]),
    "days": st.lists(st.sampled_from(Day), max_size=3, unique=True).map(tuple),
}
CONDITIONS = {
    "factor": st.none() | st.sampled_from([1.5, 4.0]),
    "step": st.none() | st.sampled_from([1.5, 4.0]),
    "minimum": st.none() | st.just(2.0),
    "maximum": st.none() | st.just(20.0),
    "reason_required": st.booleans(),
    "changes_per_hour": st.none() | st.integers(1, 3),
}


def named(name, verdict, fields):
    return st.fixed_dictionaries(fields).map(lambda made: Rule(id=name, verdict=verdict, **made))


def allowing(name):
    return named(name, Verdict.ALLOW, PLACES | CONDITIONS)


def denying(name):
    return named(name, Verdict.DENY, PLACES)


RULES = st.integers(0, 5).flatmap(
    lambda count: st.tuples(
        *(allowing(f"rule-{number}") | denying(f"rule-{number}") for number in range(count))
    )
)
TARGETS = st.sampled_from(PATHS).map(lambda path: Target(path=path)) | st.builds(
    lambda path, value: Proposal(path=path, value=value),
    st.sampled_from(PATHS[3:]),
    st.sampled_from([0, 1, 4, 8.0, 16, 24, 64, None, True, "word"]),
)
REQUESTS = st.builds(
    lambda role, command, effect, targets, reason: Request(
        identity=Identity(name="x", role=role, proof=Proof.TOKEN),
        command=command,
        effect=effect,
        targets=targets,
        reason=reason,
    ),
    st.sampled_from(Role),
    st.sampled_from(COMMANDS),
    st.sampled_from(Effect),
    st.lists(TARGETS, max_size=3),
    st.sampled_from(["", "why"]),
)
MOMENTS = st.integers(0, 2 * 7 * 24).map(
    lambda hours: datetime(2026, 11, 1, tzinfo=UTC) + timedelta(hours=hours)
)
QUICK = settings(max_examples=30, stateful_step_count=20, deadline=None)


def decided(rules, request, moment):
    authorization = Authorization(facts(lambda: moment), rules)
    decision = authorization.may_do(request)
    assert authorization.explain(request).decision == decision
    assert authorization.begin(request) == decision
    assert bool(decision.sentence) is not decision.allowed
    return decision


def facts(wall, present=lambda _: PRESENT, now=lambda: 0.0):
    return Facts(
        declared=lambda _: DECLARED, present=present, below=lambda _: (), wall=wall, now=now
    )


@QUICK
@given(RULES, REQUESTS, MOMENTS)
def test_without_a_rule_that_allows_it_is_denied(rules, request, moment):
    only_denying = [entry for entry in rules if entry.verdict is Verdict.DENY]

    assert not decided(only_denying, request, moment).allowed
    assert decided((), request, moment).rule == BY_DEFAULT


@QUICK
@given(RULES, allowing("more"), st.integers(0, 5), REQUESTS, MOMENTS)
def test_one_more_rule_that_allows_never_takes_away(rules, more, place, request, moment):
    with_more = [*rules[:place], more, *rules[place:]]

    if decided(rules, request, moment).allowed:
        assert decided(with_more, request, moment).allowed


@QUICK
@given(RULES, denying("more"), st.integers(0, 5), REQUESTS, MOMENTS)
def test_one_more_rule_that_denies_never_gives(rules, more, place, request, moment):
    with_more = [*rules[:place], more, *rules[place:]]

    if not decided(rules, request, moment).allowed:
        assert not decided(with_more, request, moment).allowed


FOR_EVERYBODY = {name: PLACES[name] for name in ("commands", "paths")} | {
    "roles": st.just(tuple(Role))
}


@QUICK
@given(RULES, named("more", Verdict.DENY, FOR_EVERYBODY), REQUESTS, MOMENTS)
def test_a_rule_that_denies_wins_over_all_that_allow(rules, more, request, moment):
    if not decided([ANY, more], request, moment).allowed:
        assert not decided([*rules, ANY, more], request, moment).allowed
        assert not decided([more, ANY, *rules], request, moment).allowed


@QUICK
@given(RULES, REQUESTS, MOMENTS)
def test_what_may_be_done_may_be_used(rules, request, moment):
    authorization = Authorization(facts(lambda: moment), rules)
    use = authorization.may_use(request.identity, request.command, request.effect)

    assert use.allowed or not authorization.may_do(request).allowed


class Agent(RuleBasedStateMachine):
    """An agent that tries to get as far as it can, while time passes."""

    FACTOR, STEP, RATE = 4.0, 2.0, 5

    def __init__(self):
        super().__init__()
        self.value, self.seconds = DECLARED, 0.0
        self.changed = []
        careful = Rule(
            id="careful",
            roles=(Role.AGENT,),
            factor=self.FACTOR,
            step=self.STEP,
            changes_per_hour=self.RATE,
        )
        start = datetime(2026, 11, 27, tzinfo=UTC)
        self.authorization = Authorization(
            facts(
                lambda: start + timedelta(seconds=self.seconds),
                present=lambda _: self.value,
                now=lambda: self.seconds,
            ),
            [careful],
        )

    @rule(times=st.floats(0.1, 10.0))
    def move(self, times):
        before, wanted = self.value, self.value * times
        request = Request(
            identity=Identity(name="x", role=Role.AGENT, proof=Proof.TOKEN),
            command="set_parameter",
            effect=Effect.CHANGE,
            targets=[Proposal(path="shop/retry/max_attempts", value=wanted)],
        )
        recent = [moment for moment in self.changed if moment > self.seconds - 3600]
        in_bounds = DECLARED / self.FACTOR <= wanted <= DECLARED * self.FACTOR
        in_reach = before / self.STEP <= wanted <= before * self.STEP
        expected = in_bounds and in_reach and len(recent) < self.RATE

        assert self.authorization.begin(request).allowed is expected
        if expected:
            self.value = wanted
            self.changed.append(self.seconds)

    @rule(seconds=st.integers(1, 1800))
    def wait(self, seconds):
        self.seconds += seconds

    @invariant()
    def it_stays_within_the_factor_of_what_was_declared(self):
        assert DECLARED / self.FACTOR <= self.value <= DECLARED * self.FACTOR


TestAgent = Agent.TestCase
TestAgent.settings = QUICK
