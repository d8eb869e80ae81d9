"""Resilience for gRPC in Python: policies, composed into stacks, on channels, servers, functions.

stack = Stack("payments", Timeout(2.0) + Retry() + CircuitBreaker() + Bulkhead(64))
channel = wrap_channel(grpc.insecure_channel(target), stack)
"""

from ninelives_grpc import aio, config, laws, presets, sinks
from ninelives_grpc.admission.executor import AdmissionExecutor
from ninelives_grpc.call import Call, Method, current_call, prioritize, shield
from ninelives_grpc.errors import (
    ConfigError,
    NinelivesError,
    Refused,
    RevisionError,
    TimedOut,
    UnknownNameError,
)
from ninelives_grpc.laws.loop import FeedbackLoop
from ninelives_grpc.lint import Finding
from ninelives_grpc.observer.observer import Observer
from ninelives_grpc.outcome import Kind, Outcome
from ninelives_grpc.parameters import Adaptive
from ninelives_grpc.policies.admission_queue import AdmissionQueue
from ninelives_grpc.policies.budget import (
    ConcurrencyBudget,
    RetryBudget,
    ThrottleBudget,
    WindowBudget,
)
from ninelives_grpc.policies.bulkhead import Bulkhead
from ninelives_grpc.policies.circuit_breaker import CircuitBreaker
from ninelives_grpc.policies.concurrency_limit import ConcurrencyLimit
from ninelives_grpc.policies.early_drop import EarlyDrop
from ninelives_grpc.policies.fault import Fault
from ninelives_grpc.policies.hedge import Hedge
from ninelives_grpc.policies.load_shed import LoadShed
from ninelives_grpc.policies.rate_limit import RateLimit
from ninelives_grpc.policies.respond import Respond
from ninelives_grpc.policies.retry import Retry
from ninelives_grpc.policies.target import Target
from ninelives_grpc.policies.throttle import Throttle
from ninelives_grpc.policies.timeout import Timeout
from ninelives_grpc.priority import Priority
from ninelives_grpc.protection import client_interceptors, server_interceptor, wrap_channel
from ninelives_grpc.registry import Registry, default_registry
from ninelives_grpc.routes import Routes
from ninelives_grpc.stacks.algebra import Fallback, Race
from ninelives_grpc.stacks.stack import Stack

__all__ = [
    "Adaptive",
    "AdmissionExecutor",
    "AdmissionQueue",
    "Bulkhead",
    "Call",
    "CircuitBreaker",
    "ConcurrencyBudget",
    "ConcurrencyLimit",
    "ConfigError",
    "EarlyDrop",
    "Fallback",
    "Fault",
    "FeedbackLoop",
    "Finding",
    "Hedge",
    "Kind",
    "LoadShed",
    "Method",
    "NinelivesError",
    "Observer",
    "Outcome",
    "Priority",
    "Race",
    "RateLimit",
    "Refused",
    "Registry",
    "Respond",
    "Retry",
    "RetryBudget",
    "RevisionError",
    "Routes",
    "Stack",
    "Target",
    "Throttle",
    "ThrottleBudget",
    "TimedOut",
    "Timeout",
    "UnknownNameError",
    "WindowBudget",
    "aio",
    "client_interceptors",
    "config",
    "current_call",
    "default_registry",
    "laws",
    "presets",
    "prioritize",
    "server_interceptor",
    "shield",
    "sinks",
    "wrap_channel",
]
