import logging
import threading
from pathlib import Path

import pytest

from ninelives_control import ControlPlane
from ninelives_control.identity import tokens as token_file
from ninelives_control.identity.identity import Role
from ninelives_control.transports.http import server as http_server
from ninelives_grpc import Bulkhead, CircuitBreaker, Retry, Stack, Timeout
from tests.waiting import until
from tests.web.graphql_asker import Asker


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
def tokens_path(tmp_path) -> Path:
    return tmp_path / "tokens.json"


@pytest.fixture
def tokens(tokens_path) -> dict[str, str]:
    """A token for each role, whose bearer is called by the role."""
    return {str(role): token_file.create(tokens_path, str(role), role) for role in Role}


@pytest.fixture
def audit_path(tmp_path) -> Path:
    return tmp_path / "audit.sqlite"


@pytest.fixture
def plane(registry, shop, tokens, tokens_path, audit_path):
    """A control plane on real ports, with a token for each role; it leaves no thread."""
    before = set(threading.enumerate())
    plane = ControlPlane(registry, grpc_port=0, http_port=0, tokens=tokens_path, audit=audit_path)
    with plane:
        yield plane
    # That of the scheduler lingers for a moment.
    until(lambda: set(threading.enumerate()) <= before, threading.enumerate)


@pytest.fixture
def url(plane) -> str:
    """The address of the HTTP server, without a path."""
    return f"http://127.0.0.1:{plane.http_port}"


@pytest.fixture
def entries(plane):
    """Return what stands in the audit."""
    return plane.dispatcher._journal._audit.entries


@pytest.fixture
def ask(plane, tokens):
    """Ask over GraphQL, for somebody with the token of a role."""
    return Asker(plane, tokens)


@pytest.fixture
def ended(plane):
    """An event that is set when a watch has ended."""
    happened = threading.Event()
    stream = plane.dispatcher._stream
    unsubscribe = stream.unsubscribe

    def tell(subscription):
        unsubscribe(subscription)
        happened.set()

    stream.unsubscribe = tell
    return happened


@pytest.fixture
def patient(monkeypatch):
    """A server that waits so long for connections to end that it shows."""
    monkeypatch.setattr(http_server, "_GRACE", 30)
