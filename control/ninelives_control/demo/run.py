"""Run the demo: the world, the control plane beside it, and the story."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from ninelives_control.demo.operator import Operator
from ninelives_control.demo.sampler import Sampler
from ninelives_control.demo.screen import LineScreen, LiveScreen
from ninelives_control.demo.story import RATE, Story
from ninelives_control.demo.world import World
from ninelives_control.identity import tokens
from ninelives_control.identity.identity import Role
from ninelives_control.server import ControlPlane

if TYPE_CHECKING:
    from ninelives_control.demo.story import Finding


def run(*, once: bool, grpc_port: int, http_port: int) -> bool:
    """Run the demo, once or until interrupted; whether it showed what it was to show.

    Raises:
        AddressError: A port is in use.
    """
    console = Console()
    with tempfile.TemporaryDirectory(prefix="ninelives-demo-") as folder:
        tokens_file = Path(folder, "tokens.json")
        token = tokens.create(tokens_file, "demo", Role.OPERATOR)
        world = World()
        plane = ControlPlane(
            world.registry,
            grpc_port=grpc_port,
            http_port=http_port,
            tokens=tokens_file,
            audit=Path(folder, "audit.sqlite"),
        )
        with plane:
            try:
                world.start()
                findings = _tell(console, world, plane, token, once=once)
            finally:
                world.stop()
    if not once:
        # Interrupted at any time: what there was not the time for is not worth a word.
        findings = [finding for finding in findings if finding.shown]
    for finding in findings:
        mark = "[green]shown[/]" if finding.shown else "[red]not shown[/]"
        console.print(f"{mark}  ", end="")
        console.print(finding.text, highlight=False, markup=False, soft_wrap=True)
    return all(finding.shown for finding in findings)


def _tell(
    console: Console, world: World, plane: ControlPlane, token: str, *, once: bool
) -> list[Finding]:
    header = _header(plane, token)
    live = console.is_terminal and not once
    screen = LiveScreen(console, header) if live else LineScreen(console, header)
    with Operator(plane, token) as operator, screen:
        story = Story(world, operator, screen, Sampler(world.registry))
        try:
            story.tell()
            while not once:
                story.tell()
        except KeyboardInterrupt:
            # The way to end it; once it was told to the end, that is a good end.
            pass
        return story.findings()


def _header(plane: ControlPlane, token: str) -> str:
    service = "ninelives_control.v1.ControlService"
    web, rpc = f"http://{plane.host}:{plane.http_port}", f"{plane.host}:{plane.grpc_port}"
    bearer = f"-H 'Authorization: Bearer {token}'"
    return "\n".join(
        (
            f"gRPC {rpc}   GraphQL {web}/graphql   MCP {web}/mcp   metrics {web}/metrics",
            f"token {token} (operator)",
            "",
            (
                "buf curl --protocol grpc --http2-prior-knowledge "
                f"""{bearer} -d '{{"path":"{RATE}","value":30}}' http://{rpc}/{service}/SetParameter"""
            ),
            (
                f"curl {web}/graphql {bearer} -H 'Content-Type: application/json' "
                """-d '{"query":"{ getState { stacks { name } } }"}'"""
            ),
            f"ninelives mcp --address {rpc} --token {token}",
            "",
        )
    )
