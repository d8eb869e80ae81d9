"""Put events and the state of stacks into bytes that fit a given room."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from ninelives_grpc.flight_recorder.layout import OVERHEAD
from ninelives_grpc.sinks.json_lines import line_of

if TYPE_CHECKING:
    from ninelives_grpc.events import Event
    from ninelives_grpc.registry import Registry
    from ninelives_grpc.stacks.stack import Stack

_SHORT = 200
_NAME = 30


def event_data(event: Event, size: int) -> bytes:
    """Return an event as JSON; without details, and shortened, where it is too long."""
    line = line_of(event).encode()
    if len(line) <= size - OVERHEAD:
        return line
    fields = json.loads(line)
    del fields["details"]
    short = {
        name: value[:_NAME] if isinstance(value, str) and name != "why" else value
        for name, value in fields.items()
    }
    short["why"] = fields["why"][:_SHORT]
    data = json.dumps(short, ensure_ascii=False).encode()
    if len(data) > size - OVERHEAD:
        # Names of many bytes a character.
        short["why"] = ""
        data = json.dumps(short, ensure_ascii=False).encode()
    return data


def state_data(registry: Registry, size: int, *, lost: int) -> bytes:
    """Return the state of all stacks as JSON; those that do not fit are counted."""
    stacks: list[str] = []
    left_out, room = 0, size - OVERHEAD - _SHORT
    for stack in registry:
        data = f"{json.dumps(stack.name)}: {json.dumps(_state_of(stack), default=str)}"
        # With the comma before it.
        if len(data) + 2 > room:
            left_out += 1
            continue
        room -= len(data) + 2
        stacks.append(data)
    counts = f'"left_out": {left_out}, "lost": {lost}'
    return f'{{"stacks": {{{", ".join(stacks)}}}, {counts}}}'.encode()


def _state_of(stack: Stack) -> dict[str, Any]:
    state = stack.state()
    policies = {
        policy.name: {
            "kind": policy.kind,
            "revision": policy.revision,
            "state": policy.values,
            "parameters": {
                name: getattr(stack.policies[policy.name].policy, name)
                for name in stack.policies[policy.name].specs
            },
        }
        for policy in state.policies
    }
    return {"policies": policies, "traffic": dataclasses.asdict(state.traffic)}
