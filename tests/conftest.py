import os

import pytest

from ninelives_grpc import Registry
from ninelives_grpc.testing import VirtualClock


@pytest.fixture
def registry():
    """A registry of the test's own: in the default one stacks of several tests would meet."""
    return Registry()


@pytest.fixture
def clock():
    return VirtualClock(1000.0)


@pytest.fixture
def unmeasured():
    """An environment for processes that coverage must keep out of: it imports, and writes files."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
