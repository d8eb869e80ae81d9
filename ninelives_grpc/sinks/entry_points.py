"""Find sinks by name: ours, and those that other distributions bring.

A distribution names its sinks in the entry points of the group `ninelives_grpc.sinks`; each is a
class or a function that returns a `Sink`.
"""

from __future__ import annotations

import importlib
from importlib.metadata import EntryPoint, entry_points

from ninelives_grpc.errors import ConfigError, UnknownNameError
from ninelives_grpc.sinks.sink import Sink

GROUP = "ninelives_grpc.sinks"
_OURS = {
    "json_lines": "ninelives_grpc.sinks.json_lines:JsonLinesSink",
    "log": "ninelives_grpc.sinks.log:log_sink",
    "memory": "ninelives_grpc.sinks.memory:MemorySink",
    "null": "ninelives_grpc.sinks.sink:NullSink",
    "otel_log": "ninelives_grpc.sinks.otel:OtelLogSink",
    "span": "ninelives_grpc.sinks.otel:SpanSink",
    "structlog": "ninelives_grpc.sinks.log:StructlogSink",
}


def load(name: str, **options: object) -> Sink:
    """Make the sink of a name.

    Args:
        name: Of ours json_lines, log, memory, null, otel_log, span, structlog; or what another
            distribution calls its own. Ours come first.
        options: What it is to be made with.

    Raises:
        UnknownNameError: There is none; suggests the nearest.
        ConfigError: It can not be imported or made; says whose it is, and why.
    """
    if name in _OURS:
        module, _, attribute = _OURS[name].partition(":")
        found = getattr(importlib.import_module(module), attribute)
        return _made(name, "ninelives-grpc", found, options)
    others = {point.name: point for point in entry_points(group=GROUP)}
    if name not in others:
        raise UnknownNameError("sink", name, {*_OURS, *others})
    point = others[name]
    try:
        found = point.load()
    except Exception as error:
        msg = f"can not be loaded from {_owner(point)}: {type(error).__name__}: {error}"
        raise ConfigError(msg, path=f"sink {name!r}") from error
    return _made(name, _owner(point), found, options)


def _made(name: str, owner: str, found: object, options: dict[str, object]) -> Sink:
    if not callable(found):
        msg = f"of {owner} must be a class or a function that returns a Sink, not {found!r}"
        raise ConfigError(msg, path=f"sink {name!r}")
    try:
        sink = found(**options)
    except (TypeError, ValueError, OSError, ImportError) as error:
        msg = f"of {owner} can not be made: {error}"
        raise ConfigError(msg, path=f"sink {name!r}") from error
    if not isinstance(sink, Sink):
        msg = f"of {owner} must be a Sink, not {sink!r}"
        raise ConfigError(msg, path=f"sink {name!r}")
    return sink


def _owner(point: EntryPoint) -> str:
    return point.value if point.dist is None else point.dist.name
