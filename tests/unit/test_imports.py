"""What `import ninelives_grpc` brings along, and what it exports."""

import subprocess
import sys

import pytest

import ninelives_grpc

FOREIGN = (
    "matplotlib",
    "mcp",
    "ninelives_grpc.simulation",
    "opentelemetry.sdk",
    "pydantic",
    "redis",
    "starlette",
    "strawberry",
)
WITH_A_STACK = """
import sys
import ninelives_grpc
from ninelives_grpc import *
from ninelives_grpc import testing
Stack("s", Timeout(1.0) + Retry() + CircuitBreaker() + Bulkhead(4)).call(len, "abc")
print(" ".join(sys.modules))
"""
IMPORT_ONLY = "import sys, ninelives_grpc; print(' '.join(sys.modules))"


@pytest.mark.parametrize("program", [IMPORT_ONLY, WITH_A_STACK], ids=["import", "use"])
def test_nothing_is_imported_that_the_data_plane_does_not_need(program):
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    loaded = done.stdout.split()
    assert "ninelives_grpc" in loaded
    assert not [
        name
        for name in loaded
        if name.startswith("ninelives_control")
        or any(name == foreign or name.startswith(f"{foreign}.") for foreign in FOREIGN)
    ]


def test_no_thread_is_started_by_the_import():
    program = "import threading, ninelives_grpc; print(threading.active_count())"

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "1"


def test_every_public_name_is_there_once_and_in_order():
    names = ninelives_grpc.__all__

    assert sorted(set(names)) == sorted(names)
    assert not [name for name in names if not hasattr(ninelives_grpc, name)]


def test_every_public_name_says_what_it_is():
    for name in ninelives_grpc.__all__:
        assert getattr(ninelives_grpc, name).__doc__, name


def test_the_binding_names_are_public():
    binding = {
        "Bulkhead", "CircuitBreaker", "Fallback", "Priority", "RateLimit", "Registry", "Respond",
        "Retry", "RetryBudget", "Stack", "Timeout", "presets", "client_interceptors",
        "server_interceptor", "wrap_channel", "aio", "config", "Refused",
    }  # fmt: skip

    assert binding <= set(ninelives_grpc.__all__)
