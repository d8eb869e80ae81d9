"""What the README shows is what the examples do, which test_examples runs."""

import inspect
import re
import tomllib

import pytest

import ninelives_grpc
from ninelives_grpc.policies.policy import Policy

from .readme import EXAMPLES, README, ROOT, blocks, marked, without_comment


@pytest.mark.parametrize("example", ["quickstart.py", "algebra.py", "entry_points.py"])
def test_python_block_is_an_example(example):
    assert marked(example) in blocks("python")


def test_every_python_block_is_an_example():
    shown = [marked(name) for name in ("quickstart.py", "algebra.py", "entry_points.py")]

    assert sorted(blocks("python")) == sorted(shown)


def test_every_shell_block_is_a_command_of_two_or_an_example():
    commands = [text for text in blocks("sh") if ".venv" in text]
    others = [text for text in blocks("sh") if ".venv" not in text]

    assert len(commands) == 2
    assert others == [without_comment("tune.sh"), without_comment("state.sh")]


def test_json_block_is_an_example():
    assert blocks("json") == [(EXAMPLES / "mcp.json").read_text(encoding="utf-8")]


def test_commands_need_nothing_but_python_and_pip():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]

    for command in (text for text in blocks("sh") if ".venv" in text):
        made, installed, run = command.strip().split(" && ")
        assert made == "python3 -m venv .venv"
        extra = re.fullmatch(r"\.venv/bin/pip install -e '\.\[(\w+)\]'", installed)
        assert extra is not None
        assert extra[1] in extras
        assert run in {".venv/bin/ninelives demo", ".venv/bin/pytest"}


def test_every_policy_is_in_the_table():
    policies = {
        name
        for name in ninelives_grpc.__all__
        if inspect.isclass(made := getattr(ninelives_grpc, name)) and issubclass(made, Policy)
    }
    # A target is where calls go, and what `|` and `&` make says so itself.
    rows = "".join(re.findall(r"^\|.*\n", README, re.MULTILINE))
    shown = set(re.findall(r"`(\w+)`", rows)) | {"Target", "Fallback", "Race"}

    assert policies <= shown


def test_it_stays_short():
    assert len(README.splitlines()) <= 150


def test_files_it_links_to_exist():
    for link in re.findall(r"\]\(([\w./-]+)\)", README):
        assert (ROOT / link).is_file(), link
