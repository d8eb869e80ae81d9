"""The kernel ends a server that takes more than its control group may, and not one that sheds.

It needs leave to make control groups, which containers rarely have; `examples/shed_by_memory.py`
shows the same by a limit of its own, and runs everywhere.
"""

import contextlib
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import grpc
import pytest

from examples import shed_by_memory

ROOT = Path("/sys/fs/cgroup")
LIMIT = 250_000_000


def make(parent, limit):
    """Make a control group, or return None where that can not be done."""
    group = parent / f"ninelives-{uuid.uuid4().hex}"
    if not (parent / "cgroup.procs").exists():
        return None
    try:
        group.mkdir()
    except OSError:
        return None
    if not (group / limit).exists():
        group.rmdir()
        return None
    (group / limit).write_text(str(LIMIT))
    with contextlib.suppress(OSError):
        (group / "memory.swap.max").write_text("0")
    return group


@pytest.fixture
def group():
    """A control group with a limit, of whichever version can be made here."""
    made = make(ROOT, "memory.max") or make(ROOT / "memory", "memory.limit_in_bytes")
    if made is None:
        pytest.skip("no control group can be made here")
    yield made
    made.rmdir()


def serve(group, how):
    """Start the server of the example inside of a control group."""
    program = (
        "import os, sys; open(sys.argv[1], 'w').write('0'); os.execv(sys.argv[2], sys.argv[2:])"
    )
    server = [sys.executable, shed_by_memory.__file__, "serve", how, "0"]
    return subprocess.Popen(
        [sys.executable, "-c", program, group / "cgroup.procs", *server],
        stdout=subprocess.PIPE,
        text=True,
    )


def burst(server):
    """Send a burst of four times the limit; returns how its calls ended, and those after it."""
    port = int(server.stdout.readline())
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/a.Pictures/Resize")
        during, after = shed_by_memory.send(call, 480, 400.0, each=b"2.0"), []
        for _ in range(20):
            after = shed_by_memory.send(call, 20, 100.0, each=b"0.2")
            if server.poll() is not None or set(after) == {grpc.StatusCode.OK}:
                break
    return during, after


@pytest.mark.parametrize("how", ["without", "with"])
def test_a_server_survives_a_burst_only_if_it_sheds_load(group, how):
    with serve(group, how) as server:
        try:
            during, after = burst(server)
            ended_by_itself = server.poll()
        finally:
            server.kill()

    if how == "without":
        assert ended_by_itself == -signal.SIGKILL
    else:
        assert ended_by_itself is None
        assert set(during) == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert after == [grpc.StatusCode.OK] * 20
