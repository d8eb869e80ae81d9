"""Where events go: log, JSON lines, memory, a bus, OpenTelemetry, and sinks around sinks.

Sinks compose like policies: `A + B` feeds both, `A | B` feeds B what A can not take.
"""

from ninelives_grpc.sinks.entry_points import load
from ninelives_grpc.sinks.json_lines import JsonLinesSink
from ninelives_grpc.sinks.log import LogSink, StructlogSink, log_sink
from ninelives_grpc.sinks.memory import MemorySink
from ninelives_grpc.sinks.non_blocking import Backpressure, NonBlockingSink
from ninelives_grpc.sinks.sink import (
    FallbackSink,
    MulticastSink,
    NullSink,
    Sink,
    SinkError,
)
from ninelives_grpc.sinks.streaming import StreamingSink, Subscription, SubscriptionFigures

__all__ = [
    "Backpressure",
    "FallbackSink",
    "JsonLinesSink",
    "LogSink",
    "MemorySink",
    "MulticastSink",
    "NonBlockingSink",
    "NullSink",
    "Sink",
    "SinkError",
    "StreamingSink",
    "StructlogSink",
    "Subscription",
    "SubscriptionFigures",
    "load",
    "log_sink",
]
