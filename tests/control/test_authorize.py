"""`ninelives authorize` decides by a file, and `explain_authorization` in a control plane."""

import json

import pytest

from ninelives_control.authorization.rules import DEFAULT_RULES, Rule, Verdict
from ninelives_control.cli.group import Exit, run
from ninelives_control.errors import Code, CommandError
from tests.control.desk import Desk

PATH = "shop/retry/max_attempts"
RULES = """
[[rules]]
id = "tune"
roles = ["agent"]
commands = ["set_parameter", "drain"]
step = 2.0
factor = 4.0
reason_required = true
hours = "09:00-17:00"

[[rules]]
id = "payments"
roles = ["agent"]
verdict = "deny"
paths = ["payments/**"]
"""
AGENT_SETS = ("--role", "agent", "--command", "set_parameter", "--path", PATH)
GOOD = (*AGENT_SETS, "--reason", "x", "--declared", "4", "--at", "2026-11-27T12:00Z")


@pytest.fixture
def authorize(tmp_path, capsys):
    """Ask, and return exit code, stdout and stderr."""
    file = tmp_path / "rules.toml"
    file.write_text(RULES, encoding="utf-8")

    def ask(*args):
        code = run(["authorize", "--rules", str(file), *args])
        out, err = capsys.readouterr()
        return code, out, err.replace(str(file), "FILE")

    return ask


def test_what_is_allowed_is_one_line(authorize):
    assert authorize(*GOOD, "--value", "8") == (Exit.OK, "allowed by tune\n", "")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((*GOOD, "--value", "9"), "denied: rule tune allows shop/retry/max_attempts numbers from"),
        ((*GOOD, "--value", "8", "--present", "16", "--value", "7"), "it is 16 now and the step"),
        ((*GOOD, "--value", "8", "--reason", ""), "with a reason only"),
        ((*GOOD, "--value", "8", "--at", "2026-11-27T18:00"), "the next time from Sat 2026-11-28"),
        ((*GOOD, "--value", "8", "--path", "payments/retry/x"), "denied: rule payments denies"),
        (("--role", "viewer", "--command", "get_state"), "no rule allows it to anybody"),
    ],
)
def test_what_is_denied_is_one_line_that_says_what_would_be_allowed(authorize, args, said):
    code, out, err = authorize(*args)

    assert (code, err, out.count("\n")) == (Exit.DENIED, "", 1)
    assert said in out


def test_an_explanation_has_a_line_for_each_rule(authorize):
    code, out, _ = authorize(*GOOD, "--value", "9", "--explain")

    assert code == Exit.DENIED
    header, tune, payments, last = out.splitlines()
    assert header.split() == ["rule", "outcome", "decided", "sentence"]
    assert tune.split()[:3] == ["tune", "would_allow", "true"]
    assert payments.split()[:3] == ["payments", "silent", "false"]
    assert last.startswith("denied: rule tune allows")


def test_it_is_told_as_json_as_well(authorize):
    code, out, _ = authorize(*GOOD, "--value", "8", "--explain", "-o", "json")

    told = json.loads(out)
    assert (code, told["allowed"], told["rule"]) == (Exit.OK, True, "tune")
    assert [found["outcome"] for found in told["findings"]] == ["allows", "silent"]


def test_a_command_of_an_application_is_decided_on_by_its_effect(authorize):
    drain = ("--role", "agent", "--command", "drain", "--reason", "x", "--at", "2026-11-27T12:00")

    assert authorize(*drain)[0] == Exit.INVALID
    assert "or say its --effect" in authorize(*drain)[2]
    assert authorize(*drain, "--effect", "change")[0] == Exit.OK


def test_what_is_missing_is_named(authorize):
    code, _, err = authorize(
        *AGENT_SETS, "--reason", "x", "--at", "2026-11-27T12:00", "--value", "8"
    )

    assert (code, "give it by --declared" in err) == (Exit.INVALID, True)
    assert "give --path" in authorize("--role", "agent", "--command", "drain", "--value", "8")[2]


def test_a_broken_file_is_named(tmp_path, capsys):
    code = run(["authorize", "--rules", str(tmp_path / "no.toml"), *GOOD])

    assert (code, "no.toml: cannot be read" in capsys.readouterr().err) == (Exit.INVALID, True)


def test_without_a_file_the_default_rules_hold(capsys):
    code = run(["authorize", *AGENT_SETS, "--declared", "3", "--value", "12"])

    assert (code, capsys.readouterr().out) == (Exit.OK, "allowed by agents-tune\n")


def outcomes(told):
    return {found.rule: str(found.outcome) for found in told.findings}


def test_everybody_may_ask_about_themselves(desk):
    told = desk.ask("agent", "explain_authorization", command="set_parameter", path=PATH, value=500)

    assert (told.allowed, told.role, told.rule) == (False, "agent", "agents-tune")
    assert "numbers from 0.75 to 12" in told.sentence
    assert outcomes(told) == {
        "everybody-reads": "silent",
        "audit-is-for-operators": "silent",
        "operators-change": "silent",
        "agents-tune": "would_allow",
        "agents-reset": "silent",
        "admins-do-everything": "silent",
    }
    assert [found.rule for found in told.findings if found.decided] == ["agents-tune"]
    assert told.problem == ""


def test_without_a_value_or_a_place_only_the_rest_is_looked_at(desk):
    asked = {"command": "set_parameter"}

    assert desk.ask("agent", "explain_authorization", **asked).allowed
    assert desk.ask("agent", "explain_authorization", **asked, path=PATH).allowed
    assert not desk.ask("agent", "explain_authorization", **asked, path=PATH, value=None).allowed


def test_operators_and_admins_may_ask_about_others(desk):
    asked = {"command": "set_parameter", "path": PATH, "value": 500}

    assert desk.ask("operator", "explain_authorization", role="agent", **asked).role == "agent"
    assert desk.ask("admin", "explain_authorization", role="operator", **asked).allowed
    assert desk.ask("viewer", "explain_authorization", role="viewer", **asked).role == "viewer"
    with pytest.raises(CommandError, match="may ask about itself only") as caught:
        desk.ask("agent", "explain_authorization", role="admin", **asked)
    assert (caught.value.code, caught.value.field) == (Code.PERMISSION_DENIED, "role")


@pytest.mark.parametrize(
    ("asked", "code", "field"),
    [
        ({"command": "set_paramter"}, Code.UNKNOWN_COMMAND, ""),
        (
            {"command": "set_parameter", "path": "shop/retry/max", "value": 3},
            Code.NOT_FOUND,
            "path",
        ),
    ],
)
def test_what_is_not_there_cannot_be_asked_about(desk, asked, code, field):
    with pytest.raises(CommandError) as caught:
        desk.ask("agent", "explain_authorization", **asked)

    assert (caught.value.code, caught.value.field) == (code, field)


def test_who_may_not_read_somewhere_is_not_told_the_values_there(
    registry, shop, commands, audit, tokens, tokens_path
):
    deny = Rule(id="secret", roles=("agent",), verdict=Verdict.DENY, paths=("shop/**",))
    desk = Desk(registry, commands, audit, tokens, tokens_path, rules=[*DEFAULT_RULES, deny])

    with pytest.raises(CommandError, match="rule secret denies explain_authorization"):
        desk.ask("agent", "explain_authorization", command="set_parameter", path=PATH, value=9)
    desk.close()
