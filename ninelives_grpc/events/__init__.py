"""What policies did: one class an event, named in the past tense.

Events are published after the policy has released its lock. Two of them happen on every good call;
they are marked `routine`, and are only counted, not built, unless a sink asks for them.
"""

from ninelives_grpc.events.calls import (
    FallbackSkipped,
    FallbackUsed,
    FaultInjected,
    HedgeRefused,
    HedgeStarted,
    HedgeWon,
    RaceStarted,
    RaceWon,
    RequestFailed,
    RequestSucceeded,
    Responded,
    RetryAttempt,
    RetryExhausted,
)
from ninelives_grpc.events.changes import ParameterChanged
from ninelives_grpc.events.emitter import Emitter
from ninelives_grpc.events.event import KINDS, Event, Severity
from ninelives_grpc.events.gates import (
    BulkheadAcquired,
    BulkheadQueued,
    BulkheadRefused,
    CircuitClosed,
    CircuitHalfOpened,
    CircuitOpened,
    CircuitRefused,
    CircuitReset,
    ConcurrencyLimitRefused,
    LimitChanged,
    ProbeReclaimed,
    RateLimitDelayed,
    RateLimitExceeded,
    RateLimitRefused,
    TimeoutOccurred,
    TimeoutRefused,
)
from ninelives_grpc.events.laws import LawAdjusted, LawFailed, LoopPaused, LoopResumed

__all__ = [
    "KINDS",
    "BulkheadAcquired",
    "BulkheadQueued",
    "BulkheadRefused",
    "CircuitClosed",
    "CircuitHalfOpened",
    "CircuitOpened",
    "CircuitRefused",
    "CircuitReset",
    "ConcurrencyLimitRefused",
    "Emitter",
    "Event",
    "FallbackSkipped",
    "FallbackUsed",
    "FaultInjected",
    "HedgeRefused",
    "HedgeStarted",
    "HedgeWon",
    "LawAdjusted",
    "LawFailed",
    "LimitChanged",
    "LoopPaused",
    "LoopResumed",
    "ParameterChanged",
    "ProbeReclaimed",
    "RaceStarted",
    "RaceWon",
    "RateLimitDelayed",
    "RateLimitExceeded",
    "RateLimitRefused",
    "RequestFailed",
    "RequestSucceeded",
    "Responded",
    "RetryAttempt",
    "RetryExhausted",
    "Severity",
    "TimeoutOccurred",
    "TimeoutRefused",
]
