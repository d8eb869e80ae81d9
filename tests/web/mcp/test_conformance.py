"""What others say of the server: the official conformance suite, and the official inspector."""

import asyncio
import json
import os
from pathlib import Path

import pytest

from ninelives_control import ControlPlane, Limits

from . import node_tools
from .clients import LEGACY, MODERN

pytestmark = [
    pytest.mark.timeout(150),
    pytest.mark.skipif(
        not node_tools.ready(),
        reason="Node, the conformance suite and the inspector are not there; "
        "`python tests/web/mcp/node_tools.py` gets them",
    ),
]
BOTH = (
    "tools-list",
    "resources-list",
    "prompts-list",
    "dns-rebinding-protection",
    "server-sse-multiple-streams",
)
SCENARIOS = {
    LEGACY: {*BOTH, "server-initialize", "ping", "server-session-lifecycle"},
    MODERN: {
        *BOTH,
        "server-stateless",
        "caching",
        "sep-2164-resource-not-found",
        "http-header-validation",
        "input-required-result-unsupported-methods",
        "input-required-result-validate-input",
    },
}
"""Those that ask for no tools, resources and prompts of the suite's own, by revision."""

HURRY = Limits(unknown_per_second=1000, unknown_burst=1000)
"""The suite asks thirty times a second, without a token, and would be told that it is too often."""

UNTESTABLE = "Not testable: server does not list the diagnostic tool"
"""The rest of a scenario counts all the same."""


async def run(*command, folder):
    """Run a program of Node, and return its exit code and what it wrote."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "HOME": str(folder)},
        cwd=folder,
    )
    output, errors = await process.communicate()
    return process.returncode, output.decode(), errors.decode()


async def test_the_conformance_suite_finds_nothing_wrong(registry, shop, tmp_path):
    with ControlPlane(registry, grpc_port=None, http_port=0, limits=HURRY) as plane:
        url = f"http://127.0.0.1:{plane.http_port}/mcp"
        suite = [*node_tools.command("conformance"), "server", "--url", url]
        await asyncio.gather(
            *(
                run(*suite, "--requirements", revision, "-o", revision, folder=tmp_path)
                for revision in SCENARIOS
            )
        )

    for revision, scenarios in SCENARIOS.items():
        for scenario in scenarios:
            checks = checks_of(tmp_path / revision, scenario)
            assert any(check["status"] == "SUCCESS" for check in checks), (revision, scenario)
            assert [check for check in checks if failed(check)] == [], (revision, scenario)


def checks_of(folder: Path, scenario: str):
    (results,) = folder.glob(f"server-{scenario}-20*")
    return json.loads((results / "checks.json").read_text())


def failed(check):
    untestable = str(check.get("errorMessage", "")).startswith(UNTESTABLE)
    return check["status"] == "FAILURE" and not untestable


async def test_the_inspector_drives_it(plane, url, tokens, entries, tmp_path):
    inspector = [*node_tools.command("mcp-inspector"), "--cli", f"{url}/mcp"]
    shown = ["--transport", "http", "--header", f"authorization: Bearer {tokens['operator']}"]
    change = ["path=shop/retry/max_attempts", "value=5", "reason=a try"]
    stack = "ninelives://stacks/shop"
    answers = await asyncio.gather(
        *(
            run(*inspector, *shown, "--method", *arguments, folder=tmp_path)
            for arguments in (
                ["tools/list", "--strict"],
                ["tools/call", "--tool-name", "set_parameter", "--tool-arg", *change],
                ["resources/read", "--uri", stack],
                ["prompts/get", "--prompt-name", "diagnose_errors"],
            )
        )
    )

    assert [(code, errors) for code, _, errors in answers] == [(0, "")] * 4
    tools, changed, resource, prompt = (json.loads(output) for _, output, _ in answers)
    assert "set_parameter" in {tool["name"] for tool in tools["tools"]}
    assert (changed["structuredContent"]["new"], changed["isError"]) == (5, False)
    assert json.loads(resource["contents"][0]["text"])["name"] == "shop"
    assert "get_metrics" in prompt["messages"][0]["content"]["text"]
    (entry,) = entries()
    assert (entry.command, entry.identity, entry.transport) == ("set_parameter", "operator", "mcp")
