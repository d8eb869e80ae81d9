"""Where events go: null, log, memory, streaming, multicast, fallback, non-blocking, OpenTelemetry.

Sinks compose like policies: `A + B` feeds both, `A | B` feeds B what A can not take.
"""

from ninelives_grpc.sinks.log import LogSink
from ninelives_grpc.sinks.memory import MemorySink
from ninelives_grpc.sinks.non_blocking import NonBlockingSink
from ninelives_grpc.sinks.sink import (
    FallbackSink,
    MulticastSink,
    NullSink,
    Sink,
    SinkError,
)
from ninelives_grpc.sinks.streaming import StreamingSink, Subscription

__all__ = [
    "FallbackSink",
    "LogSink",
    "MemorySink",
    "MulticastSink",
    "NonBlockingSink",
    "NullSink",
    "Sink",
    "SinkError",
    "StreamingSink",
    "Subscription",
]
