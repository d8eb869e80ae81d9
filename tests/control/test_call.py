"""Commands as subcommands, made of what they declare."""

import io
import json
import os
import pty
import sys

import click
import pytest
from pydantic import BaseModel, Field

from ninelives_control.cli import remote
from ninelives_control.cli.arguments import fields_of
from ninelives_control.cli.call import Declared, RemoteCommand
from ninelives_control.cli.group import Exit, run
from ninelives_control.command import Context, Effect, command
from ninelives_control.commands import BUILT_IN
from ninelives_control.errors import Code, CommandError
from ninelives_control.model import Arguments, NamedValue, ParameterPath, ParameterValue, Result
from ninelives_grpc.events import Severity
from tests.control import added

PATH = "shop/retry/max_attempts"


class Change(BaseModel):
    path: ParameterPath = Field(description="Its address.")
    value: ParameterValue = Field(description="Its value.")
    expected_revision: int | None = Field(default=None, description="At this revision only.")


class Everything(Arguments):
    """Arguments of every kind, and with the names of our own options."""

    changes: list[Change] = Field(description="What to change.")
    count: int = Field(ge=1, le=9, description="How many.")
    sure: bool = Field(description="Whether it is meant.")
    extra: list[int] = Field(description="A second list that must be there.")
    kinds: list[str] = Field(default=[], description="Which kinds.")
    severity: Severity = Field(default=Severity.INFO, description="How bad.")
    share: float | None = Field(default=None, gt=0, lt=1, description="How much.")
    fast: bool = Field(default=True, description="Whether it hurries.")
    maybe: bool | None = Field(default=None, description="Nobody knows.")
    one: Change | None = Field(default=None, description="A single one.")
    either: int | None = Field(default=5, description="A number, or null.")
    anything: ParameterValue = Field(default=None, description="Whatever.")
    key: str = Field(default="", description="Not that of a certificate.")
    output: str = Field(default="", description="Not how to print.")
    form: str = Field(default="", description="Neither.")
    yes: bool = Field(default=False, description="Not to be asked.")


class Repeated(Result):
    """What arrived."""

    arguments: list[NamedValue] = Field(description="As JSON.")


@command(Effect.DESTRUCTIVE)
def everything(arguments: Everything, context: Context) -> Repeated:
    """Say what arrived."""
    told = arguments.model_dump(mode="json", exclude_unset=True)
    return Repeated(
        arguments=[NamedValue(name=name, value=json.dumps(value)) for name, value in told.items()]
    )


class Ending(Arguments):
    """Which error to end with."""

    code: Code = Field(description="Its code.")


@command(Effect.READ)
def fail(arguments: Ending, context: Context) -> Repeated:
    """Fail as told."""
    raise CommandError(arguments.code, "as told")


@pytest.fixture
def call(plane, tokens, monkeypatch, capsys):
    """Call a command as admin, and return exit code, stdout and stderr."""
    for entry in (*added.ALL, everything, fail):
        plane.commands.add(entry)
    monkeypatch.setenv("NINELIVES_ADDRESS", f"127.0.0.1:{plane.grpc_port}")
    monkeypatch.setenv("NINELIVES_TOKEN", tokens["admin"])

    def ask(*args):
        code = run(["call", *args])
        out, err = capsys.readouterr()
        return code, out, err

    return ask


def arrived(out):
    return {each["name"]: json.loads(each["value"]) for each in json.loads(out)["arguments"]}


NEEDED = (f"{PATH}=5", "2", "true", "--extra", "7")


def test_arguments_of_every_kind_arrive_as_they_were_meant(call):
    code, out, err = call(
        "everything",
        f"{PATH}=5",
        '{"path": "shop/timeout/seconds", "value": 1.5, "expected_revision": 3}',
        "a/b/mode=open",
        "2",
        "true",
        *("--extra", "7", "--extra", "-8", "--kinds", "A", "--kinds", "B"),
        *("--severity", "error", "--share", "0.5", "--no-fast", "--maybe", "--one", "a/b/c=null"),
        *("--either", "null", "--anything", "-5", "--key", "k", "--form", "f", "--yes"),
        *("-y", "-o", "json", "--output", "words"),
    )

    assert (code, err) == (0, "")
    assert arrived(out) == {
        "changes": [
            {"path": PATH, "value": 5},
            {"path": "shop/timeout/seconds", "value": 1.5, "expected_revision": 3},
            {"path": "a/b/mode", "value": "open"},
        ],
        "count": 2,
        "sure": True,
        "extra": [7, -8],
        "kinds": ["A", "B"],
        "severity": "error",
        "share": 0.5,
        "fast": False,
        "maybe": True,
        "one": {"path": "a/b/c", "value": None},
        "either": None,
        "anything": -5,
        "key": "k",
        "form": "f",
        "output": "words",
        "yes": True,
    }


def test_what_was_exported_is_applied_as_a_whole(call, tmp_path, shop):
    file = tmp_path / "night.json"
    code, exported, _ = call("export_parameters", "-o", "json")
    file.write_text(exported)
    shop.parameters["retry/max_attempts"].set(7)
    shop.parameters["retry/multiplier"].set(3.0)

    tried, told, _ = call("apply_parameters", f"@{file}", "--dry-run", "-o", "json")
    between = shop.parameters["retry/max_attempts"].get()
    done, _, _ = call("apply_parameters", f"@{file}", "--reason", "as it was")

    assert (code, tried, done, between) == (0, 0, 0, 7)
    assert {change["path"] for change in json.loads(told)["changes"]} == {
        f"shop/{name}" for name in shop.parameters
    }
    assert call("export_parameters", "-o", "json")[1] == exported
    assert (shop.parameters["retry/max_attempts"].get(), shop.policies["retry"].revision) == (3, 4)


def test_objects_come_from_files_and_from_standard_input_and_as_words(call, tmp_path, monkeypatch):
    file = tmp_path / "a list.json"
    file.write_text('[{"path": "a/b/c", "value": 1}, {"path": "a/b/d", "value": null}]')
    given = json.dumps({"changes": [{"path": "ä/b/e", "value": "x"}]}).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))

    words = ("a/b/f=2", f"@{file}", "@-", '{"path": "@/b/g", "value": 3}')
    code, out, err = call("everything", *words, "2", "true", "--extra", "7", "-y", "-o", "json")

    assert (code, err) == (0, "")
    assert arrived(out)["changes"] == [
        {"path": "a/b/f", "value": 2},
        {"path": "a/b/c", "value": 1},
        {"path": "a/b/d", "value": None},
        {"path": "ä/b/e", "value": "x"},
        {"path": "@/b/g", "value": 3},
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "is not JSON"),
        (b"\xff", "is not JSON"),
        (b'{"changes": NaN}', "is not JSON: NaN"),
        (b"5", "has no list of objects, and no changes"),
        (b"[5]", "has no list of objects, and no changes"),
        (b'{"parameters": []}', "has no list of objects, and no changes"),
        (b'{"changes": [], "more": 1}', "has no list of objects, and no changes"),
        (b"[]", "changes"),
    ],
)
def test_a_file_without_objects_is_refused(call, tmp_path, shop, content, said):
    file = tmp_path / "night.json"
    if content is not None:
        file.write_bytes(content)

    code, out, err = call("apply_parameters", f"@{file}")

    assert (code, out, err.count("\n")) == (Exit.INVALID, "", 1)
    assert said in err
    assert shop.policies["retry"].revision == 1


def test_what_is_not_given_is_not_sent(call):
    _, out, _ = call("everything", *NEEDED, "-y", "-o", "json")

    assert arrived(out).keys() == {"changes", "count", "sure", "extra"}


WRONG = [
    ((), "Missing argument"),
    (("a=5", "2", "true"), "Missing option '--extra'"),
    (("nothing", "2", "true", "--extra", "1"), "neither PATH=VALUE nor a JSON object"),
    (("{", "2", "true", "--extra", "1"), "is not JSON"),
    (("a=5", "10", "true", "--extra", "1"), "1<=x<=9"),
    (("a=5", "2", "true", "--extra", "x"), "not a valid integer"),
    (("a=5", "2", "perhaps", "--extra", "1"), "not a valid boolean"),
    ((*NEEDED, "--severity", "loud"), "'loud' is not one of"),
    ((*NEEDED, "--share", "1"), "0<x<1"),
    ((*NEEDED, "--shar", "0.5"), "No such option"),
]


def test_what_can_not_be_meant_is_refused_before_it_is_sent(call, plane):
    for args, said in WRONG:
        code, out, err = call("everything", *args, "-y")

        assert (code, out, err.count("\n")) == (Exit.INVALID, "", 1)
        assert said in err
    assert plane.dispatcher._journal._audit.entries() == []


def test_numbers_below_zero_are_no_options(call):
    code, _, err = call("set_parameter", PATH, "-5")

    assert (code, "-5" in err, "from 1 to 100" in err) == (Exit.INVALID, True, True)


def test_help_shows_what_there_is_to_know(call):
    _, out, _ = call("everything", "-h")
    text = " ".join(out.split())

    assert "Usage: ninelives call everything [OPTIONS] PATH=VALUE... COUNT SURE" in text
    assert "Say what arrived. It can not be undone: you are asked to confirm it." in text
    assert "COUNT How many. [1<=x<=9]" in text
    assert "PATH=VALUE... What to change. @FILE stands for those in a file of JSON" in text
    assert "--severity [debug|info|warning|error] How bad. [default: info]" in text
    assert "-y " in text
    assert "--key TEXT Not that of a certificate." in text


def test_help_of_commands_that_are_built_in_needs_no_control_plane(capsys):
    assert run(["call", "--help"]) == 0
    listed = capsys.readouterr().out
    for entry in BUILT_IN:
        assert f"  {entry.name} " in listed
        assert run(["call", entry.name, "--help", "--address", "127.0.0.1:9"]) == 0
        out = " ".join(capsys.readouterr().out.split())
        assert entry.summary in out
        for field in entry.arguments.model_fields.values():
            assert " ".join(field.description.split()) in out


def test_where_the_connection_is_said_does_not_matter(plane, tokens, monkeypatch, capsys):
    for entry in added.ALL:
        plane.commands.add(entry)
    monkeypatch.delenv("NINELIVES_ADDRESS", raising=False)
    monkeypatch.delenv("NINELIVES_TOKEN", raising=False)
    where = ("--address", f"127.0.0.1:{plane.grpc_port}", "--token", tokens["admin"])

    assert run(["call", "note", "--text", "behind", *where]) == 0
    assert run(["call", *where, "note", "--text", "before"]) == 0
    assert run(["call", "--token", "x", "note", "--text", "both", *where]) == 0
    assert run(["call", *where[:2], "note", *where[2:]]) == 0
    assert "behind" in capsys.readouterr().out


def test_an_argument_is_not_taken_for_the_option_of_that_name(call, shop):
    code, _, err = call("reset_circuit_breaker", "shop/circuit_breaker", "--key", "/nowhere")

    assert (code, "no circuit for the key '/nowhere'" in err) == (Exit.NOT_FOUND, True)


def test_every_error_has_its_exit_code(call):
    for code in Code:
        ended, out, err = call("fail", str(code))

        assert (ended, out, err) == (remote.EXITS[code], "", "error: as told\n")
        assert ended in set(Exit) - {Exit.OK, Exit.INTERRUPTED}


def test_every_exit_code_is_told(capsys):
    run(["--help"])
    _, _, told = capsys.readouterr().out.partition("It ends with")

    assert [int(line.split()[0]) for line in told.strip().splitlines()] == sorted(Exit)


def test_what_can_not_be_undone_is_not_done_without_a_terminal(call, plane):
    code, out, err = call("erase")

    assert (code, out) == (Exit.INVALID, "")
    assert "erase can not be undone; confirm it by --yes" in err
    assert plane.dispatcher._journal._audit.entries() == []
    assert call("erase", "-y")[0] == 0


@pytest.mark.parametrize(("word", "code"), [("y", 0), ("n", Exit.FAILED)])
def test_what_can_not_be_undone_is_asked_for_on_a_terminal(call, monkeypatch, word, code):
    ours, theirs = pty.openpty()
    os.write(ours, f"{word}\n".encode())

    with os.fdopen(theirs) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        ended, out, err = call("erase")
    os.close(ours)

    assert ended == code
    assert "erase can not be undone. Run it at 127.0.0.1" in err
    assert ("gone" in out) is (word == "y")


def test_the_form_comes_from_the_environment(call, monkeypatch):
    monkeypatch.setenv("NINELIVES_OUTPUT", "json")
    assert json.loads(call("get_parameter", PATH)[1])["value"] == 3
    assert "value     3" in call("get_parameter", PATH, "-o", "table")[1]
    monkeypatch.setenv("NINELIVES_OUTPUT", "poem")
    assert call("get_parameter", PATH)[0] == Exit.INVALID


@pytest.mark.parametrize("entry", BUILT_IN, ids=lambda entry: entry.name)
def test_every_argument_is_there_once(entry):
    made = RemoteCommand(
        Declared(
            name=entry.name,
            summary=entry.summary,
            effect=entry.effect,
            schema=entry.arguments.model_json_schema(),
        )
    )

    fields = fields_of(entry.arguments.model_json_schema())
    names = [name for parameter in made.params for name in parameter.opts]

    assert [field.name for field in fields] == list(entry.arguments.model_fields)
    assert len(names) == len(set(names))
    required = {name for name, field in entry.arguments.model_fields.items() if field.is_required()}
    assert required == {
        field.name for field in fields if isinstance(field.parameter, click.Argument)
    }
