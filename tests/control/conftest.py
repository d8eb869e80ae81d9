import logging
import threading
from pathlib import Path

import grpc
import pytest

from ninelives_control import ControlPlane
from ninelives_control.audit.log import AuditLog
from ninelives_control.command import CommandTable
from ninelives_control.commands import BUILT_IN
from ninelives_control.identity import tokens as token_file
from ninelives_control.identity.identity import Role
from ninelives_control.v1.control_pb2_grpc import ControlServiceStub
from ninelives_grpc import Bulkhead, CircuitBreaker, Retry, Stack, Timeout
from tests.control.desk import Desk
from tests.waiting import until


@pytest.fixture(autouse=True)
def quiet(caplog):
    """What the control plane says of itself belongs to the tests that ask for it."""
    caplog.set_level(logging.INFO, logger="ninelives_control")


@pytest.fixture
def shop(registry):
    """A stack with the usual policies."""
    return Stack(
        "shop", Timeout(2.0) + Retry(3) + CircuitBreaker() + Bulkhead(4), registry=registry
    )


@pytest.fixture
def audit():
    log = AuditLog()
    yield log
    log.close()


@pytest.fixture
def commands():
    return CommandTable(BUILT_IN)


@pytest.fixture
def tokens_path(tmp_path) -> Path:
    return tmp_path / "tokens.json"


@pytest.fixture
def tokens(tokens_path) -> dict[str, str]:
    """A token for each role, whose bearer is called by the role."""
    return {str(role): token_file.create(tokens_path, str(role), role) for role in Role}


@pytest.fixture
def desk(registry, shop, commands, audit, tokens, tokens_path):
    """A dispatcher with a token for each role."""
    desk = Desk(registry, commands, audit, tokens, tokens_path)
    yield desk
    desk.close()


@pytest.fixture
def audit_path(tmp_path) -> Path:
    return tmp_path / "audit.sqlite"


@pytest.fixture
def plane(registry, shop, tokens, tokens_path, audit_path):
    """A control plane on real ports, with a token for each role; it leaves no thread."""
    before = set(threading.enumerate())
    plane = ControlPlane(
        registry, grpc_port=0, http_port=None, tokens=tokens_path, audit=audit_path
    )
    with plane:
        yield plane
    # That of the scheduler lingers for a moment.
    until(lambda: set(threading.enumerate()) <= before, threading.enumerate)


@pytest.fixture
def channel(plane):
    with grpc.insecure_channel(f"127.0.0.1:{plane.grpc_port}") as channel:
        yield channel


@pytest.fixture
def stub(channel):
    return ControlServiceStub(channel)


@pytest.fixture
def show(tokens):
    """Return the metadata that shows the token of a role."""
    return lambda role: (("authorization", f"Bearer {tokens[role]}"),)
