"""Which control plane is meant."""

import json

import click
import pytest

from ninelives_control.cli.connection import connection_options
from ninelives_control.cli.group import Exit, ninelives, run
from ninelives_control.transports.grpc.connection import Connection

CONFIG = """
default_profile = "test"

[profiles.test]
address = "test:1"
token_file = "test.token"
timeout = 3

[profiles.prod]
address = "prod:1"
token_file = "~/prod.token"
ca = "ca.pem"

[profiles.open]
address = "open:1"
"""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home of one's own, with profiles and their tokens."""
    for name in ("ADDRESS", "TOKEN", "TOKEN_FILE", "PROFILE", "CONFIG", "OUTPUT"):
        monkeypatch.delenv(f"NINELIVES_{name}", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / ".config" / "ninelives"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(CONFIG)
    (folder / "test.token").write_text("of-test\n")
    (folder / "ca.pem").write_text("of somebody")
    (tmp_path / "prod.token").write_text("of-prod\n")
    return folder


@pytest.fixture
def connected(monkeypatch):
    """Return the connection that a command line means."""
    found: list[Connection] = []

    @click.command("who")
    @connection_options
    def who(connection: Connection) -> None:
        found.append(connection)

    monkeypatch.setattr(type(ninelives), "get_command", lambda *_: who)

    def ask(*args):
        assert run(["who", *args]) == 0
        return found.pop()

    return ask


def bearer(connection):
    return dict(connection.metadata()).get("authorization", "").removeprefix("Bearer ")


PROD = {"NINELIVES_PROFILE": "prod"}
ELSEWHERE = {"NINELIVES_ADDRESS": "env:1"}


@pytest.mark.parametrize(
    ("args", "environment", "address", "token"),
    [
        ("", {}, "test:1", "of-test"),
        ("--profile prod", {}, "prod:1", "of-prod"),
        ("", PROD, "prod:1", "of-prod"),
        ("--profile test", PROD, "test:1", "of-test"),
        ("--token mine", {}, "test:1", "mine"),
        ("", {"NINELIVES_TOKEN": "mine"}, "test:1", "mine"),
        ("--profile prod", {"NINELIVES_TOKEN": "mine"}, "prod:1", "of-prod"),
        ("--profile prod --token given", {"NINELIVES_TOKEN": "mine"}, "prod:1", "given"),
        ("--profile prod", ELSEWHERE, "prod:1", "of-prod"),
        ("--profile prod --address given:1", ELSEWHERE, "given:1", "of-prod"),
        ("--profile open", {}, "open:1", ""),
        # The token of a profile is for its address.
        ("--address given:1", {}, "given:1", ""),
        ("--address given:1", PROD, "given:1", ""),
        ("", ELSEWHERE, "env:1", ""),
        ("", ELSEWHERE | PROD, "env:1", "of-prod"),
        ("--address given:1", ELSEWHERE | {"NINELIVES_TOKEN": "mine"}, "given:1", "mine"),
    ],
)
def test_options_win_over_the_environment_and_that_over_profiles(
    connected, monkeypatch, args, environment, address, token
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    connection = connected(*args.split())

    assert (connection.address, bearer(connection)) == (address, token)


def test_settings_of_a_profile_are_used_one_by_one(connected, home, tmp_path):
    assert connected() == Connection("test:1", token_file=home / "test.token", timeout=3.0)
    assert connected("--timeout", "1").timeout == 1.0
    assert connected("--profile", "prod") == Connection(
        "prod:1", token_file=tmp_path / "prod.token", ca=home / "ca.pem"
    )


def test_without_a_file_there_is_the_usual_address(connected, home):
    (home / "config.toml").unlink()

    assert connected() == Connection("127.0.0.1:50090")


def test_the_file_may_be_elsewhere(connected, home, tmp_path, monkeypatch):
    other = tmp_path / "other" / "ninelives" / "config.toml"
    other.parent.mkdir(parents=True)
    other.write_text('default_profile = "x"\nprofiles.x.address = "other:1"')

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "other"))
    assert connected().address == "other:1"
    monkeypatch.setenv("NINELIVES_CONFIG", str(home / "config.toml"))
    assert connected().address == "test:1"


@pytest.mark.parametrize(
    ("text", "args", "said"),
    [
        ("profiles.x.address = ", "", "is not TOML"),
        ("profiles.x.adress = 'a'", "", "did you mean address"),
        ("profiles.x.timeout = 0", "", "profiles.x.timeout: must be greater than 0"),
        ("profiles = 5", "", "config.toml: profiles"),
        ("default_profile = 'y'", "", "no profile named 'y'"),
        ("[profiles.prod]", "--profile prd", "did you mean prod?"),
        ("default_profile = 'x'\nprofiles.x.token_file = 'gone'", "", "gone: cannot be read"),
        ("default_profile = 'x'\nprofiles.x.ca = 'gone'", "", "gone: cannot be read"),
        ("profiles.x.token = 'swordfish'", "", "profiles.x.token: has no place in this file"),
        ("", "--token a --token-file ~/prod.token", "leave one of them out"),
    ],
)
def test_what_is_wrong_with_it_is_said(home, capsys, tmp_path, text, args, said):
    (home / "config.toml").write_text(text)

    code = run(["commands", *args.replace("~", str(tmp_path)).split()])

    err = capsys.readouterr().err
    assert (code, err.count("\n")) == (Exit.INVALID, 1)
    assert said in err
    assert "swordfish" not in err


def test_a_file_that_is_named_must_be_there(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("NINELIVES_CONFIG", str(tmp_path / "gone"))

    assert run(["profiles"]) == Exit.INVALID
    assert "is not there; NINELIVES_CONFIG names it" in capsys.readouterr().err


def test_profiles_are_listed_without_their_tokens(capsys, home):
    assert run(["profiles"]) == 0
    table = capsys.readouterr().out
    run(["profiles", "-o", "json"])
    data = json.loads(capsys.readouterr().out)
    (home / "config.toml").unlink()
    run(["profiles"])
    none = capsys.readouterr().out

    assert [line.split()[0] for line in table.splitlines()] == ["name", "open", "prod", "test"]
    assert table.splitlines()[3].split()[1:3] == ["true", "test:1"]
    assert "of-test" not in table + json.dumps(data)
    assert data["file"] == str(home / "config.toml")
    assert [profile["default"] for profile in data["profiles"]] == [False, False, True]
    assert none.startswith("there are none")


def test_a_token_is_not_shown_by_the_connection():
    assert "swordfish" not in repr(Connection("a:1", "swordfish"))
