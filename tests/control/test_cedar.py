"""Policies in Cedar decide as rules that say the same."""

import sys

import pytest

from ninelives_control import ControlPlane
from ninelives_control.authorization.authorization import Authorization, authorization_of
from ninelives_control.authorization.cedar import Cedar, read, schema
from ninelives_control.authorization.decision import BY_DEFAULT, Facts, Request
from ninelives_control.authorization.rules import Rule, Verdict
from ninelives_control.cli.group import Exit, run
from ninelives_control.command import Effect, Proposal, Target
from ninelives_control.commands import BUILT_IN
from ninelives_control.errors import CommandError
from ninelives_control.files import Loaded
from ninelives_control.identity.identity import Identity, Proof, Role
from ninelives_grpc.errors import ConfigError, MissingExtraError, UnknownNameError

RULES = (
    Rule(id="everybody-reads", roles=tuple(Role), effects=(Effect.READ,)),
    Rule(id="operators-change", roles=(Role.OPERATOR,), effects=(Effect.CHANGE,)),
    Rule(
        id="agents-tune",
        roles=(Role.AGENT,),
        commands=("set_parameter",),
        paths=("shop/**", "payments/**"),
        factor=4.0,
        step=2.0,
        reason_required=True,
    ),
    Rule(
        id="payments-is-for-people",
        roles=(Role.AGENT,),
        verdict=Verdict.DENY,
        effects=(Effect.CHANGE,),
        paths=("payments/**",),
    ),
    Rule(id="secret", roles=(Role.VIEWER,), verdict=Verdict.DENY, paths=("vault/**",)),
    Rule(id="admins-do-everything", roles=(Role.ADMIN,)),
)
POLICIES = """
@id("everybody-reads")
permit (principal, action in Action::"read", resource);

@id("operators-change")
permit (principal in Role::"operator", action in Action::"change", resource);

@id("agents-tune")
permit (principal in Role::"agent", action == Action::"set_parameter", resource)
when {
  (resource in Place::"shop" || resource in Place::"payments") && context.reason_given
}
when {
  context has new && context has declared && context has old &&
  context.new <= context.declared * 4 && context.new * 4 >= context.declared &&
  context.new <= context.old * 2 && context.new * 2 >= context.old
};

@id("payments-is-for-people")
forbid (principal in Role::"agent", action in Action::"change", resource in Place::"payments");

@id("secret")
forbid (principal in Role::"viewer", action, resource in Place::"vault");

@id("admins-do-everything")
permit (principal in Role::"admin", action, resource);
"""
SET = ("set_parameter", Effect.CHANGE)
READ = ("get_state", Effect.READ)
RESET = ("reset_circuit_breaker", Effect.CHANGE)
ERASE = ("erase", Effect.DESTRUCTIVE)
PATH = "shop/retry/max_attempts"


def to(value, path=PATH):
    return Proposal(path=path, value=value)


def at(path):
    return Target(path=path)


TABLE = [
    (Role.VIEWER, READ, (), "", True, "everybody-reads"),
    (Role.VIEWER, READ, (at("shop"),), "", True, "everybody-reads"),
    (Role.VIEWER, READ, (at("vault"),), "", False, "secret"),
    (Role.VIEWER, READ, (at("vault/retry"),), "", False, "secret"),
    (Role.VIEWER, READ, (at(""),), "", False, "secret"),
    (Role.OPERATOR, READ, (at(""),), "", True, "everybody-reads"),
    (Role.VIEWER, SET, (to(4),), "", False, BY_DEFAULT),
    (Role.OPERATOR, SET, (to(400),), "", True, "operators-change"),
    (Role.OPERATOR, SET, (to("word"),), "", True, "operators-change"),
    (Role.OPERATOR, ERASE, (), "", False, BY_DEFAULT),
    (Role.AGENT, SET, (to(8),), "why", True, "agents-tune"),
    (Role.AGENT, SET, (to(16),), "why", True, "agents-tune"),
    (Role.AGENT, SET, (to(16.1),), "why", False, None),
    (Role.AGENT, SET, (to(3.9),), "why", False, None),
    (Role.AGENT, SET, (to(4),), "why", True, "agents-tune"),
    (Role.AGENT, SET, (to(8),), " ", False, None),
    (Role.AGENT, SET, (to("8"),), "why", False, None),
    (Role.AGENT, SET, (to(None),), "why", False, None),
    (Role.AGENT, SET, (to(value=True),), "why", False, None),
    (Role.AGENT, SET, (to(1e300),), "why", False, None),
    (Role.AGENT, SET, (to(8), to(9)), "why", True, "agents-tune"),
    (Role.AGENT, SET, (to(8), to(99)), "why", False, None),
    (Role.AGENT, SET, (to(8, "payments/retry/max_attempts"),), "why", False,
     "payments-is-for-people"),
    (Role.AGENT, SET, (to(8, "search/retry/max_attempts"),), "why", False, BY_DEFAULT),
    (Role.AGENT, RESET, (at("shop/circuit_breaker"),), "why", False, BY_DEFAULT),
    (Role.ADMIN, ERASE, (), "", True, "admins-do-everything"),
    (Role.ADMIN, SET, (to(1e6, "payments/retry/max_attempts"),), "", True, "admins-do-everything"),
]  # fmt: skip


def value(number):
    def of(path):
        if not path.endswith("max_attempts"):
            raise UnknownNameError("parameter", path, ())
        return number

    return of


FACTS = Facts(
    declared=value(4),
    present=value(8),
    below=lambda path: [place for place in ("vault", "vault/retry") if place.startswith(path)],
    wall=lambda: None,
    now=lambda: 0.0,
)


def asked(role, command, targets=(), reason=""):
    name, effect = command
    identity = Identity(name="x", role=role, proof=Proof.TOKEN)
    return Request(identity=identity, command=name, effect=effect, targets=targets, reason=reason)


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "policies.cedar"
    file.write_text(POLICIES, encoding="utf-8")
    return file


@pytest.fixture
def cedar(path):
    loaded = Loaded(value=read(path, BUILT_IN))
    return Cedar(FACTS, lambda: loaded)


@pytest.mark.parametrize(("role", "command", "targets", "reason", "allowed", "rule"), TABLE)
@pytest.mark.parametrize("kind", ["rules", "cedar"])
def test_both_decide_alike(kind, cedar, role, command, targets, reason, allowed, rule):
    authorizer = cedar if kind == "cedar" else Authorization(FACTS, RULES)
    request = asked(role, command, targets, reason)

    decision = authorizer.may_do(request)

    assert decision.allowed is allowed
    assert bool(decision.sentence) is not allowed
    # A rule tells which condition of it does not hold; Cedar, that no policy permits it.
    assert decision.rule == (rule or (BY_DEFAULT if kind == "cedar" else "agents-tune"))
    assert authorizer.explain(request).decision == decision
    assert authorizer.begin(request) == decision


@pytest.mark.parametrize(
    ("role", "command", "allowed"),
    [
        (Role.VIEWER, READ, True),
        (Role.VIEWER, SET, False),
        (Role.AGENT, SET, True),
        (Role.AGENT, RESET, False),
        (Role.OPERATOR, ERASE, False),
        (Role.ADMIN, ERASE, True),
    ],
)
@pytest.mark.parametrize("kind", ["rules", "cedar"])
def test_both_say_alike_who_may_use_a_command_at_all(kind, cedar, role, command, allowed):
    authorizer = cedar if kind == "cedar" else Authorization(FACTS, RULES)
    request = asked(role, command)

    decision = authorizer.may_use(request.identity, request.command, request.effect)

    assert decision.allowed is allowed


def test_a_refusal_is_a_sentence(cedar):
    agent = asked(Role.AGENT, SET, (to(99),), "why")
    there = asked(Role.AGENT, SET, (to(8, "payments/retry/max_attempts"),), "why")

    assert cedar.may_do(agent).sentence == (
        f"no policy permits set_parameter on {PATH}, as it is asked for, to the role agent"
    )
    assert cedar.may_do(there).sentence == (
        "policy payments-is-for-people forbids set_parameter on payments/retry/max_attempts to "
        "the role agent"
    )


def test_an_explanation_goes_as_far_as_cedar_tells(cedar):
    there = asked(Role.ADMIN, SET, (to(8),), "why")

    findings = cedar.explain(there).findings

    assert [(found.rule, found.outcome) for found in findings if found.decided] == [
        ("admins-do-everything", "allows")
    ]
    assert {found.outcome for found in findings if not found.decided} == {"silent"}


def test_a_policy_that_fails_denies(path):
    path.write_text(
        "permit (principal, action, resource);\n"
        'forbid (principal, action == Action::"set_parameter", resource)\n'
        "when { context has new && context.new * 9223372036854775807 > 5 };",
        encoding="utf-8",
    )
    loaded = Loaded(value=read(path, BUILT_IN))

    decision = Cedar(FACTS, lambda: loaded).may_do(asked(Role.ADMIN, SET, (to(8),)))

    assert (decision.allowed, decision.rule) == (False, BY_DEFAULT)
    assert "is denied, as a policy fails" in decision.sentence
    assert "overflow" in decision.sentence


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("permit (principal", "is not Cedar: "),
        (POLICIES.replace("context.reason_given", "context.reason_gven"),
         "policy 'agents-tune': attribute `reason_gven`"),
        (POLICIES.replace("context has old &&", ""), "policy 'agents-tune': unable to guarantee"),
        (POLICIES.replace('== Action::"set_parameter"', '== Action::"set_paramter"'),
         "policy 'agents-tune': unrecognized action"),
        (POLICIES.replace('Role::"viewer"', 'Rle::"viewer"'), "policy 'secret': "),
        (POLICIES.replace('@id("secret")', '@id("agents-tune")'), "a second policy 'agents-tune'"),
        ("permit (principal == ?principal, action, resource);", "has a template"),
        (None, "cannot be read"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_file_is_named(path, text, message):
    if text is None:
        path.unlink()
    else:
        path.write_text(text, encoding="utf-8")

    with pytest.raises(ConfigError) as caught:
        read(path, BUILT_IN)

    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_file_allows_nothing(path):
    path.write_text("", encoding="utf-8")
    loaded = Loaded(value=read(path, BUILT_IN))

    assert not Cedar(FACTS, lambda: loaded).may_do(asked(Role.ADMIN, READ)).allowed


def test_the_schema_has_every_command_within_its_effect():
    text = schema(BUILT_IN)

    for entry in BUILT_IN:
        assert f'action "{entry.name}" in ["{entry.effect}"]' in text


def test_policies_can_name_commands_of_the_application(path, commands):
    from tests.control.test_command import drain  # noqa: PLC0415 - only here

    path.write_text('permit (principal, action == Action::"drain", resource);', encoding="utf-8")
    with pytest.raises(ConfigError, match="unrecognized action"):
        read(path, commands)

    commands.add(drain)

    assert list(read(path, commands).ids) == ["policy0"]


def test_a_control_plane_decides_by_policies_and_takes_new_ones(registry, shop, path, caplog):
    plane = ControlPlane(registry, grpc_port=None, http_port=None, rules=path)
    agent = Identity(name="tuner", role=Role.AGENT, proof=Proof.TOKEN)

    def change(number):
        arguments = {"path": PATH, "value": number, "reason": "x"}
        plane.dispatcher.execute("set_parameter", arguments, caller=agent, transport="desk")

    with plane:
        change(6)
        with pytest.raises(CommandError, match="no policy permits"):
            change(13)
        path.write_text("permit (", encoding="utf-8")
        with pytest.raises(CommandError, match=r"these are the rules of before, as .*not Cedar"):
            change(13)
        path.write_text("permit (principal, action, resource);", encoding="utf-8")
        change(13)
        told = plane.execute("explain_authorization", command="set_parameter")
        assert (told.allowed, told.rule, told.problem) == (True, "policy0", "")
    assert [record.levelname for record in caplog.records].count("ERROR") == 1


def test_without_the_extra_the_pip_command_is_printed(path, monkeypatch, capsys):
    for name in [
        name for name in sys.modules if name.startswith("ninelives_control.authorization.cedar")
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("ninelives_control.authorization.cedar")
    monkeypatch.setitem(sys.modules, "cedarpy", None)

    with pytest.raises(MissingExtraError, match=r'pip install "ninelives-grpc\[cedar\]"'):
        authorization_of(path, FACTS, BUILT_IN)
    assert run(["authorize", "--cedar-schema"]) == Exit.FAILED
    assert 'pip install "ninelives-grpc[cedar]"' in capsys.readouterr().err


def test_the_command_line_decides_by_policies_too(path, capsys):
    args = ["authorize", "--rules", str(path), "--role", "agent", "--command", "set_parameter"]
    args += ["--path", PATH, "--reason", "x", "--declared", "4"]

    assert run([*args, "--value", "8", "--explain"]) == Exit.OK
    assert capsys.readouterr().out.endswith("allowed by agents-tune\n")
    assert run([*args, "--value", "9"]) == Exit.DENIED
    assert "denied: no policy permits" in capsys.readouterr().out
    assert run(["authorize", "--cedar-schema"]) == Exit.OK
    assert capsys.readouterr().out == schema(BUILT_IN)
