"""`ninelives check` says all that is wrong with a configuration, and where."""

import json
from pathlib import Path

import pytest

from ninelives_control.cli.group import Exit, run
from ninelives_control.cli.places import line_of
from ninelives_grpc import config

ROOT = Path(__file__).parents[2]
SOUND = """
[stacks.shop]
expression = "timeout + retry + circuit_breaker + bulkhead"
timeout = { seconds = 2.0 }
bulkhead = { max_concurrent = 64 }
"""
WRONG = """\
[stacks.shop]
expression = "timeout + retri + bulkhead"
bulkhead = { max_concurrent = 0, max_cue = 3 }

[stacks.shop.timeout]
margin = 0.1
seconds = -1

[budgets.b]
ratio = 7

[routes]
"a.B/*" = "shop"
"a.B/C" = "shopp"
"""
RISKY = """
[stacks.shop]
expression = "circuit_breaker + retry"
"""


@pytest.fixture
def check(tmp_path, capsys):
    """Write a file, check it, and return exit code, stdout and stderr, with FILE for its name."""

    def write_and_run(text, *args, name="c.toml"):
        file = tmp_path / name
        file.write_text(text, encoding="utf-8")
        code = run(["check", str(file), *args])
        out, err = capsys.readouterr()
        return code, out.replace(str(file), "FILE"), err.replace(str(file), "FILE")

    return write_and_run


def test_a_sound_file_is_fine(check):
    assert check(SOUND) == (Exit.OK, "ok: 1 stack\n", "")


def test_each_problem_is_a_line_with_place_and_field(check):
    code, out, err = check(WRONG)

    assert (code, err) == (Exit.INVALID, "")
    said = """\
FILE:10: budgets.b.ratio: must be a number from 0 to 1 tokens, not 7
FILE:7: stacks.shop.timeout.seconds: must be a number from 0.001 to 86400 seconds, not -1
FILE:2: stacks.shop.expression: no policy or stack named 'retri'; did you mean retry?\
 (--policy NAME if the program hands it in)
FILE:3: stacks.shop.bulkhead.max_concurrent: must be a whole number from 1 to 1e+06 calls, not 0
FILE:3: stacks.shop.bulkhead.max_cue: no setting of Bulkhead named 'max_cue';\
 did you mean max_queue or max_concurrent?
FILE:14: routes."a.B/C": no stack named 'shopp'; did you mean shop?
"""
    assert out == said


def test_problems_are_told_as_json(check):
    code, out, _ = check(RISKY.replace("retry", "retri"), "-o", "json")

    report = json.loads(out)
    assert code == Exit.INVALID
    assert (report["file"], report["findings"]) == ("FILE", [])
    (problem,) = report["problems"]
    assert (problem["line"], problem["field"]) == (3, "stacks.shop.expression")


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ("[stacks\n", "c.toml", "FILE:1: is not valid TOML: "),
        ("[stacks.a]\nx = 1\ny = = 2", "c.toml", "FILE:3: is not valid TOML: "),
        ('{\n"stacks": ]', "c.json", "FILE:2: is not valid JSON: "),
        ("", "c.yaml", "FILE: must be a .toml or a .json file"),
        ("[]", "c.json", "FILE: must be a table, not []"),
    ],
)
def test_a_file_that_can_not_be_parsed_is_one_problem(check, text, name, said):
    code, out, _ = check(text, name=name)

    assert code == Exit.INVALID
    assert out.startswith(said)
    assert out.count("\n") == 1


def test_a_file_that_is_not_there_is_one_problem(capsys):
    assert run(["check", "/nowhere/c.toml"]) == Exit.INVALID
    assert capsys.readouterr().out.startswith("/nowhere/c.toml: can not be read: ")


def test_lines_are_found_in_json(check):
    text = """{
  "routes": {"*": "shop"},
  "stacks": {
    "timeout": {"preset": "standard", "overrides": {}},
    "shop": {
      "expression": "retry + bulkhead",
      "retry": {"codes": ["INTERNAL"], "name": "r"},
      "bulkhead": {
        "max_concurrent": 0
      }
    }
  }
}"""

    _, out, _ = check(text, name="c.json")

    assert out.startswith("FILE:9: stacks.shop.bulkhead.max_concurrent: ")


TOML = """\
stacks."a.b".x = 1
"stacks".a.x = 2

[routes]
"a.B/*" = [
  "one",
  "two",
]
last = '''
two lines'''
"""
JSON = """{"a": {"b": 1}, "a": {
"c": {"x.y":
 2}}}"""


@pytest.mark.parametrize(
    ("text", "field", "line"),
    [
        (TOML, "stacks.a.b.x", 1),
        (TOML, "stacks.a.x", 2),
        (TOML, "stacks.a.y", 2),
        (TOML, "stacks.a.x.deeper", 2),
        (TOML, 'routes."a.B/*"', 5),
        (TOML, "routes.last", 9),
        (TOML, "routes", 4),
        (TOML, "nothing", None),
        (TOML, "", None),
        (JSON, "a.c.x.y", 1),
        (JSON, "a", 1),
        (JSON.replace('"a": {"b": 1}, ', ""), "a.c.x.y", 2),
    ],
)
def test_the_line_of_a_field_is_found(text, field, line):
    assert line_of(text, field, toml=text is TOML) == line


@pytest.mark.parametrize(("args", "code"), [((), Exit.OK), (("--strict",), Exit.FAILED)])
def test_the_linter_has_a_say_when_it_is_asked_to(check, args, code):
    ended, out, err = check(RISKY, *args)

    assert (ended, err) == (code, "")
    assert out == (
        "FILE: shop/circuit_breaker: it stands outside shop/retry, and sees one call, not the"
        " attempts; put the retry outside the circuit breaker: retry + circuit_breaker"
        " [breaker-outside-retry]\n"
    )


def test_findings_are_told_as_json(check):
    code, out, _ = check(RISKY, "-o", "json")

    (finding,) = json.loads(out)["findings"]
    assert code == Exit.OK
    assert (finding["rule"], finding["path"]) == ("breaker-outside-retry", "shop/circuit_breaker")


def test_the_example_is_sound_with_the_policy_that_its_program_hands_in(capsys):
    example = str(ROOT / "examples/ninelives.toml")

    assert run(["check", example, "--strict", "--policy", "sorry"]) == Exit.OK
    assert run(["check", example]) == Exit.INVALID
    assert "sorry" in capsys.readouterr().out


def test_loops_are_checked_with_the_gauges_that_their_program_hands_in(check):
    text = (
        SOUND
        + """
[stacks.shop.loops.size]
law = "governor"
parameter = "bulkhead/max_concurrent"
gauge = "queue"
full = 64.0
interval = 0
"""
    )
    code, out, _ = check(text)
    assert code == Exit.INVALID
    assert "stacks.shop.loops.size.gauge: no gauge named 'queue'" in out
    assert "(--gauge NAME if the program hands it in)" in out
    assert "stacks.shop.loops.size.interval" in out

    code, out, _ = check(text, "--gauge", "queue")

    assert code == Exit.INVALID
    assert out == (
        "FILE:12: stacks.shop.loops.size.interval: must be a number from 0.01 to 3600 "
        "seconds, not 0\n"
    )
    assert check(text.replace("interval = 0", ""), "--gauge", "queue")[0] == Exit.OK


def test_variables_are_checked_as_they_would_be_applied(check, monkeypatch):
    monkeypatch.setenv("NINELIVES_SHOP__RETRY__MAX_ATTEMPTS", "0")

    code, out, _ = check(SOUND)

    assert code == Exit.INVALID
    assert out == (
        "FILE: NINELIVES_SHOP__RETRY__MAX_ATTEMPTS: must be a whole number from 1 to 100 attempts,"
        " not 0\n"
    )


def test_the_schema_is_printed(capsys):
    assert run(["check", "--schema"]) == Exit.OK
    assert json.loads(capsys.readouterr().out) == config.schema()


def test_a_file_is_needed(capsys):
    assert run(["check"]) == Exit.INVALID
    assert "name a file" in capsys.readouterr().err
