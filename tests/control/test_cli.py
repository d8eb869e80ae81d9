import json
import os
import re
import subprocess
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import click
import grpc
import pytest

from ninelives_control.audit.chain import Status
from ninelives_control.audit.log import Attempt
from ninelives_control.cli import group, main, show
from ninelives_control.cli.group import DEBUG, Exit, run
from ninelives_control.cli.values import VALUE
from ninelives_control.identity.tokens import TokenFile, read
from tests.control import added

PATH = "shop/retry/max_attempts"
NINELIVES = Path(sys.executable).parent / "ninelives"


@pytest.fixture
def ninelives(plane, tokens, monkeypatch, capsys):
    """Run a command line against the control plane, and return exit code, stdout and stderr."""
    for entry in added.ALL:
        plane.commands.add(entry)
    monkeypatch.setenv("NINELIVES_ADDRESS", f"127.0.0.1:{plane.grpc_port}")
    monkeypatch.delenv("NINELIVES_TOKEN", raising=False)

    def ask(*args, role=None):
        if role is not None:
            args = (*args, "--token", tokens[role])
        code = run(args)
        out, err = capsys.readouterr()
        return code, out, err

    return ask


def test_a_command_is_run_with_arguments_of_every_kind(ninelives, shop):
    code, out, err = ninelives(
        "call", "set_parameter", PATH, "5", "--reason", "a=b", "-o", "json", role="admin"
    )

    assert (code, err) == (0, "")
    told = json.loads(out)
    assert (told["path"], told["old"], told["new"], told["revision"]) == (PATH, 3, 5, 2)
    assert told["dry_run"] is False
    assert shop.parameters["retry/max_attempts"].get() == 5


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("2.5", 2.5),
        ("true", True),
        ("null", None),
        ('"5"', "5"),
        ("open", "open"),
        ("", ""),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ("[1, 2]", [1, 2]),
        ("a=b", "a=b"),
    ],
)
def test_a_value_is_json_if_it_can_be(text, value):
    parsed = VALUE.convert(text, None, None)

    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("args", "role", "code", "said"),
    [
        (("nothing",), "admin", Exit.NOT_FOUND, "no command named 'nothing'"),
        (("get_parameter", "shop/retry/x"), "viewer", Exit.NOT_FOUND, "no parameter"),
        (("get_parameter", "x"), "viewer", Exit.INVALID, "stack/policy/parameter"),
        (("set_parameter", PATH, "500"), "admin", Exit.INVALID, "from 1 to 100"),
        (("set_parameter", PATH, "5"), "viewer", Exit.DENIED, "may not use"),
        (("list_stacks",), None, Exit.DENIED, "show a token"),
        (
            ("set_parameter", PATH, "5", "--expected-revision", "9"),
            "admin",
            Exit.CONFLICT,
            "is at revision 1, not 9",
        ),
        (("decline",), "admin", Exit.UNAVAILABLE, "come back tomorrow"),
        (("stumble",), "admin", Exit.FAILED, "the command failed"),
        (("get_parameter",), "viewer", Exit.INVALID, "Missing argument 'PATH'"),
        (("get_parameter", "a", "b"), "viewer", Exit.INVALID, "unexpected extra argument"),
        (("get_parameter", "--nonsense"), None, Exit.INVALID, "No such option"),
        (("list_stacks", "--address", "127.0.0.1:1"), None, Exit.UNAVAILABLE, "127.0.0.1:1"),
        (("list_stacks", "--token-file", "/nowhere"), None, Exit.INVALID, "does not exist"),
    ],
    ids=lambda part: " ".join(map(str, part)) if isinstance(part, tuple) else None,
)
def test_an_error_is_one_line_and_an_exit_code(ninelives, args, role, code, said):
    ended, out, err = ninelives("call", *args, role=role)

    assert (ended, out) == (code, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert said in err
    assert "Traceback" not in err


def test_a_token_comes_from_a_file_or_the_environment(ninelives, tokens, tmp_path, monkeypatch):
    file = tmp_path / "token"
    file.write_text(tokens["viewer"] + "\n")

    assert ninelives("call", "list_stacks", "--token-file", str(file))[0] == 0
    monkeypatch.setenv("NINELIVES_TOKEN", tokens["viewer"])
    assert ninelives("call", "list_stacks")[0] == 0


def test_what_can_be_no_token_is_not_sent(ninelives):
    code, out, err = ninelives("call", "list_stacks", "--token", "t\u00f6ken")

    assert (code, out) == (Exit.INVALID, "")
    assert "the token has characters that no token has" in err


def test_something_else_at_the_address_is_told_apart(ninelives, plane, monkeypatch):
    code, _, err = ninelives("call", "list_stacks", "--timeout", "nonsense")
    assert (code, "is not a valid float" in err) == (2, True)

    plane.stop()
    code, _, err = ninelives("call", "list_stacks")
    assert (code, "no control plane can be reached" in err) == (Exit.UNAVAILABLE, True)


def test_tables_are_for_people(ninelives, shop):
    shop.call(lambda: 1)

    _, state, _ = ninelives("call", "get_state", role="viewer")
    _, stacks, _ = ninelives("call", "list_stacks", role="viewer")
    _, parameter, _ = ninelives("call", "get_parameter", PATH, role="viewer")

    assert "  path                  kind            revision  values" in state
    assert "mode=auto" in state
    assert "calls=1 " in state
    assert stacks.splitlines()[-1].startswith("shop  Timeout(2.0) + Retry()")
    assert parameter.splitlines()[:2] == [f"path      {PATH}", "value     3"]


def test_the_commands_are_listed_with_those_of_the_application(ninelives):
    _, table, _ = ninelives("commands", role="agent")
    _, text, _ = ninelives("commands", "-o", "json", role="agent")

    lines = {line.split()[0]: line.split()[1:3] for line in table.splitlines()}
    assert lines["set_parameter"] == ["change", "true"]
    assert lines["erase"] == ["destructive", "false"]
    assert "arguments_schema" in json.loads(text)["commands"][0]


def test_values_are_cut_in_columns_but_the_last(capsys):
    show.show_table([{"a": "x" * 100, "b": "y" * 100}, {"a": None, "b": "two\nlines"}])

    first, second = capsys.readouterr().out.splitlines()[1:]
    assert "x" * 47 + "…" in first
    assert first.endswith("y" * 100)
    assert second.split() == ["-", "'two\\nlines'"]


def test_lists_of_plain_values_and_nothing_at_all_are_shown(capsys):
    show.show({"choices": ["a", "b"], "empty": [], "share": 0.1234567, "flag": True}, "table")

    assert capsys.readouterr().out == ("choices  a b\nempty\nflag     true\nshare    0.123457\n")


@pytest.fixture
def alone(capsys):
    """Run a command line that needs no control plane."""

    def ask(*args):
        code = run([str(arg) for arg in args])
        out, err = capsys.readouterr()
        return code, out, err

    return ask


def test_tokens_are_made_listed_and_removed(alone, tmp_path):
    file = tmp_path / "new" / "tokens.json"

    code, token, hint = alone("token", "create", "--name", "ada", "--role", "admin", "--file", file)
    assert (code, token.startswith("ninelives_")) == (0, True)
    assert token.strip() not in hint
    assert "keep it now" in hint

    _, listed, _ = alone("token", "list", "--file", file)
    assert listed.splitlines()[1].split()[:2] == ["ada", "admin"]
    assert "sha256" not in listed
    assert listed.splitlines()[1].split()[-1] == "-"

    assert alone("token", "remove", "--name", "ada", "--file", file) == (0, "", "")
    assert alone("token", "list", "--file", file) == (0, "", "")


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("list",), Exit.INVALID, "cannot be read"),
        (("remove", "--name", "x"), Exit.INVALID, "cannot be read"),
        (("create", "--name", "x", "--role", "king"), Exit.INVALID, "'king' is not one of"),
        (("create", "--name", "", "--role", "admin"), Exit.INVALID, "name must have at least 1"),
        (("create", "--name", "x"), Exit.INVALID, "Missing option '--role'"),
        (("create", "--role", "admin", "--expires", "8"), Exit.INVALID, "say 90s, 30m, 8h"),
        (("create", "--role", "admin", "--expires", "0h"), Exit.INVALID, "is no duration"),
        (("create", "--role", "admin", "--expires", "9" * 30 + "h"), Exit.INVALID, "is too long"),
        (("add", "--role", "admin"), Exit.INVALID, "No such command 'add'"),
    ],
)
def test_what_is_wrong_with_tokens_is_said(alone, tmp_path, args, code, said):
    ended, out, err = alone("token", *args, "--file", tmp_path / "tokens.json")

    assert (ended, out, err.count("\n")) == (code, "", 1)
    assert said in err


def test_a_token_is_for_as_long_as_it_is_said_and_needs_no_name(alone, tmp_path):
    file = tmp_path / "tokens.json"

    _, token, hint = alone("token", "create", "--role", "agent", "--expires", "8h", "--file", file)
    _, listed, _ = alone("token", "list", "--file", file)

    (entry,) = read(file)
    assert entry.expires - datetime.fromisoformat(entry.created) == timedelta(hours=8)
    assert re.fullmatch(r"agent-[0-9a-f]{6}", entry.name)
    assert entry.name in hint
    assert listed.split()[-1] == entry.expires.isoformat().replace("+00:00", "Z")
    assert TokenFile(file).find(token.strip()) == entry


def test_a_name_of_nobody_cannot_be_removed(alone, tokens, tokens_path):
    code, _, err = alone("token", "remove", "--name", "nobody", "--file", tokens_path)

    assert (code, "no token named 'nobody'" in err) == (Exit.NOT_FOUND, True)


def test_the_audit_is_verified_and_listed(alone, ninelives, plane, audit_path, tmp_path):
    ninelives("call", "set_parameter", PATH, "5", role="operator")
    ninelives("call", "set_parameter", PATH, "6", role="viewer")

    code, out, _ = alone("audit", "verify", audit_path)
    anchor = out.split()[-1]
    assert (code, out.startswith("ok: 3 rows; anchor 3:")) == (0, True)
    assert alone("audit", "verify", audit_path, "--anchor", anchor)[0] == 0

    code, _, err = alone("audit", "verify", audit_path, "--anchor", "9:" + "0" * 64)
    assert (code, "there was a row 9" in err) == (Exit.FAILED, True)
    key = tmp_path / "key"
    key.write_bytes(b"other")
    code, _, err = alone("audit", "verify", audit_path, "--key-file", key)
    assert (code, "row 1 was edited, or written with another key" in err) == (Exit.FAILED, True)
    assert alone("audit", "verify", audit_path, "--anchor", "nonsense")[0] == Exit.INVALID

    _, table, _ = alone("audit", "list", audit_path)
    changed, refused = table.splitlines()[1:]
    assert changed.split()[2:7] == ["operator", "set_parameter", "succeeded", "3", "5"]
    assert "permission_denied" in refused
    _, text, _ = alone("audit", "list", audit_path, "-o", "json", "--after", 1)
    (entry,) = json.loads(text)
    assert (entry["seq"], entry["arguments"]) == (3, {"path": PATH, "value": 6})


def test_an_empty_audit_is_fine_and_no_audit_is_not(alone, audit, tmp_path, plane, audit_path):
    assert alone("audit", "verify", audit_path)[1] == "ok: it is empty\n"
    assert alone("audit", "list", audit_path) == (0, "", "")
    other = tmp_path / "other"
    other.write_text("nothing of the kind")
    for name in ("verify", "list"):
        code, _, err = alone("audit", name, other)
        assert (code, "cannot be read" in err) == (Exit.FAILED, True)


def test_a_command_without_outcome_is_told(alone, plane, audit_path):
    log = plane.dispatcher._journal._audit

    log.append(Attempt(id="lost", transport="t", command="c", arguments="{}"), Status.INTENDED)

    _, out, _ = alone("audit", "verify", audit_path)

    assert "no outcome is known of the command lost" in out


def test_help_is_there_and_what_is_not_there_is_an_error(alone):
    code, out, _ = alone("--help")
    assert (code, all(name in out for name in group.SUBCOMMANDS)) == (0, True)
    assert "Verify, read, export and prune the audit." in out

    code, out, err = alone()
    assert (code, out, "Usage:" in err) == (Exit.INVALID, "", True)
    assert alone("nothing")[0] == Exit.INVALID
    for name in group.SUBCOMMANDS:
        assert alone(name, "--help")[0] == 0


@pytest.fixture
def added_subcommand(monkeypatch):
    """Add a subcommand as a further module of the package does, that raises something."""

    def add(error):
        @click.command()
        def cli() -> None:
            raise error

        module = types.ModuleType("ninelives_control.cli.broken")
        module.cli = cli
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(group.SUBCOMMANDS, "broken", "Fail.")

    return add


def test_what_nobody_foresaw_is_a_line_too_unless_it_is_wanted_whole(
    alone, added_subcommand, monkeypatch
):
    added_subcommand(RuntimeError("oh\nno"))

    monkeypatch.delenv(DEBUG, raising=False)
    assert alone("broken") == (1, "", f"error: RuntimeError: oh no; set {DEBUG}=1 to see where\n")
    monkeypatch.setenv(DEBUG, "1")
    with pytest.raises(RuntimeError):
        alone("broken")


def test_an_interrupt_has_its_exit_code(alone, added_subcommand):
    added_subcommand(KeyboardInterrupt())

    assert alone("broken")[0] == Exit.INTERRUPTED


def processes(*args, **options):
    return subprocess.run(
        [NINELIVES, *args], capture_output=True, text=True, check=False, timeout=50, **options
    )


def test_the_command_line_is_a_program_of_its_own(plane, tokens, shop):
    environment = os.environ | {
        "NINELIVES_ADDRESS": f"127.0.0.1:{plane.grpc_port}",
        "NINELIVES_TOKEN": tokens["operator"],
        "PYTHONWARNINGS": "error",
    }

    changed = processes("call", "set_parameter", PATH, "5", env=environment)
    refused = processes("call", "set_parameter", PATH, "500", env=environment)

    assert (changed.returncode, changed.stderr) == (0, "")
    assert shop.parameters["retry/max_attempts"].get() == 5
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)


def test_help_is_quick_as_nothing_is_imported_for_it(unmeasured):
    code = (
        "import sys; from ninelives_control.cli.group import run; run(['--help']);"
        "print(sorted({'grpc', 'pydantic', 'google', 'sqlite3'} & set(sys.modules)))"
    )

    inside = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=unmeasured
    )

    assert inside.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(("args", "code"), [(["--version"], 0), (["nothing"], 2)])
def test_the_process_ends_with_the_exit_code(monkeypatch, capsys, args, code):
    monkeypatch.setattr(sys, "argv", ["ninelives", *args])

    with pytest.raises(SystemExit) as caught:
        main()

    assert caught.value.code == code


def test_what_is_no_control_plane_is_told_apart(alone):
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()

    code, _, err = alone("call", "list_stacks", "--address", f"127.0.0.1:{port}")

    server.stop(0).wait()
    assert (code, err) == (Exit.FAILED, "error: UNIMPLEMENTED: Method not found!\n")


def test_a_reader_that_has_enough_is_no_error(plane, tokens):
    command = (
        f"{NINELIVES} call list_parameters --limit 1000 --address 127.0.0.1:{plane.grpc_port} "
        f"--token {tokens['viewer']} | true"
    )

    ended = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=False, timeout=50
    )

    assert ended.stderr == ""


def test_without_click_the_command_to_install_it_is_printed(tmp_path):
    (tmp_path / "click.py").write_text("raise ModuleNotFoundError('no', name='click')")
    code = "from ninelives_control.cli import main; main()"

    ended = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )

    assert ended.returncode == 1
    assert 'pip install "ninelives-grpc[control]"' in ended.stderr
    assert ended.stderr.count("\n") == 1
