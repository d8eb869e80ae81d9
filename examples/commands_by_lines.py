"""A program that is commanded on its own standard input: a line of JSON each, and one in answer."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from ninelives_control import ControlPlane, JsonLines, Role
from ninelives_control.identity import tokens
from ninelives_grpc import Registry, Retry, Stack

PATH = "shop/retry/max_attempts"


def serve(token_file: Path) -> None:
    """Be that program: it has no port, and prints nothing else."""
    registry = Registry()
    Stack("shop", Retry(3), registry=registry)
    with ControlPlane(registry, grpc_port=None, http_port=None, tokens=token_file) as plane:
        JsonLines(plane.dispatcher).serve(sys.stdin.buffer, sys.stdout.buffer)


def main(token_file: Path) -> None:
    """Start it, and command it."""
    token = tokens.create(token_file, "parent", Role.OPERATOR)
    lines = [
        {"id": "tried", "cmd": "set_parameter", "args": {"path": PATH, "value": 500}},
        {"id": "set", "cmd": "set_parameter", "args": {"path": PATH, "value": 5}},
        {"id": "got", "cmd": "get_parameter", "args": {"path": PATH}},
    ]
    ended = subprocess.run(  # noqa: S603 - itself
        [sys.executable, __file__, token_file],
        input="\n".join(json.dumps(line | {"auth": token}) for line in lines),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    for line in ended.stdout.splitlines():
        match json.loads(line):
            case {"id": word, "ok": True, "result": result}:
                print(word, result.get("value", result.get("new")))
            case {"id": word, "ok": False, "error": error}:
                print(word, error["code"], error["message"])


if __name__ == "__main__":
    if sys.argv[1:]:
        serve(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as name:
            main(Path(name) / "tokens.json")
