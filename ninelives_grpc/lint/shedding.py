"""Policies that refuse a share of the calls, and have nothing to go by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ninelives_grpc.lint.finding import Finding
from ninelives_grpc.policies.early_drop import EarlyDrop
from ninelives_grpc.policies.gate import Gate
from ninelives_grpc.policies.load_shed import LoadShed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ninelives_grpc.lint.finding import Way


def early_drop_without_limit(way: Way) -> Iterator[Finding]:
    """Find early drops with nothing behind them that would hold."""
    for index, live in enumerate(way):
        policy = live.policy
        if not isinstance(policy, EarlyDrop) or policy.of or policy.gauge is not None:
            continue
        behind = [gate for gate in way[index + 1 :] if isinstance(gate, Gate)]
        if all(isinstance(gate.policy, EarlyDrop) or gate.fill() is None for gate in behind):
            yield Finding(
                rule="early-drop-without-limit",
                path=live.path,
                message="there is no limit behind it whose fill it could go by, so it does nothing",
                fix="put it in front of a Bulkhead or another limit, or give it a gauge",
            )


def load_shed_without_source(way: Way) -> Iterator[Finding]:
    """Find load sheds that are told nothing."""
    for live in way:
        if not isinstance(live.policy, LoadShed) or not live.blind:  # type: ignore[attr-defined]
            continue
        message, fix = "it has neither sources nor sensors", 'name one, such as sources=["memory"]'
        if live.policy.sources:
            message = f"this system does not tell {' or '.join(live.policy.sources)}"
            fix = "name another source, or install psutil, which knows the memory of more systems"
        yield Finding(
            rule="load-shed-without-source",
            path=live.path,
            message=f"{message}, so it never refuses a call",
            fix=fix,
        )
