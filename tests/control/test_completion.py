"""What shells are told when somebody presses tab."""

import os
import shutil
import subprocess
import sysconfig

import pytest

from ninelives_control.cli import addresses
from ninelives_control.cli.group import SUBCOMMANDS, Exit, run
from tests.control import added

BASH = shutil.which("bash")


@pytest.fixture
def complete(plane, tokens, monkeypatch, capsys):
    """Return the words that may stand in place of the last one."""
    for entry in added.ALL:
        plane.commands.add(entry)
    monkeypatch.setenv("NINELIVES_ADDRESS", f"127.0.0.1:{plane.grpc_port}")
    monkeypatch.setenv("NINELIVES_TOKEN", tokens["viewer"])
    monkeypatch.setenv("_NINELIVES_COMPLETE", "bash_complete")
    # However busy the machine is.
    monkeypatch.setattr(addresses, "_PATIENCE", 20.0)

    def ask(line):
        words = line.split(" ")
        monkeypatch.setenv("COMP_WORDS", f"ninelives {line}")
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        with pytest.raises(SystemExit) as ended:
            run([])
        out, err = capsys.readouterr()
        assert (ended.value.code, err) == (0, "")
        return [each.partition(",")[2] for each in out.splitlines() if each]

    return ask


def test_names_of_subcommands_and_commands_are_completed(complete):
    assert complete("") == sorted(SUBCOMMANDS)
    assert complete("co") == ["commands", "completion"]
    assert complete("call set_") == ["set_parameter"]
    assert complete("call er") == ["erase"]
    assert "--dry-run" in complete("call set_parameter --d")
    assert complete("call list_events --severity w") == ["warning"]


def test_addresses_are_those_of_what_runs(complete):
    assert complete("call set_parameter shop/timeout/s") == ["shop/timeout/seconds"]
    assert "shop/retry/max_attempts" in complete("call get_parameter shop/")
    assert "shop/circuit_breaker" in complete("call reset_circuit_breaker ")
    assert complete("call get_state --stack sh") == ["shop"]
    assert complete("call get_parameter nowhere/") == []


def test_options_before_it_say_where_to_look(complete, plane, tokens, monkeypatch):
    monkeypatch.setenv("NINELIVES_TOKEN", "nobody's")
    where = f"--token {tokens['viewer']}"

    assert complete("call get_state --stack sh") == []
    assert complete(f"call {where} get_state --stack sh") == ["shop"]
    assert complete(f"call get_state {where} --stack sh") == ["shop"]
    assert complete(f"call note {where} --te") == ["--text"]


def test_profiles_are_completed(complete, tmp_path, monkeypatch):
    config = tmp_path / "config.toml"
    monkeypatch.setenv("NINELIVES_CONFIG", str(config))
    assert complete("top --profile ") == []

    config.write_text("[profiles.prod]\n[profiles.proof]\n[profiles.test]")

    assert complete("top --profile pro") == ["prod", "proof"]


def test_where_nobody_answers_what_is_known_is_completed_in_silence(complete, monkeypatch):
    monkeypatch.setenv("NINELIVES_ADDRESS", "127.0.0.1:9")

    assert complete("call set_") == ["set_parameter"]
    assert complete("call get_parameter shop/") == []
    assert complete("call note --te") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_what_a_shell_needs_is_printed(shell, capsys):
    assert run(["completion", shell]) == 0
    assert "_NINELIVES_COMPLETE" in capsys.readouterr().out


def test_of_another_shell_nothing_is_known(capsys):
    assert run(["completion", "cmd"]) == Exit.INVALID
    assert "'cmd' is not one of" in capsys.readouterr().err


@pytest.mark.skipif(BASH is None, reason="there is no bash")
def test_bash_understands_it(tmp_path):
    script = (
        'eval "$(ninelives completion bash)"; '
        "COMP_WORDS=(ninelives completio); COMP_CWORD=1; "
        'COMPREPLY=(); _ninelives_completion ninelives completio ""; echo "${COMPREPLY[@]}"'
    )
    ended = subprocess.run(
        [BASH, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PATH": f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"},
    )

    assert (ended.stdout, ended.stderr) == ("completion\n", "")
