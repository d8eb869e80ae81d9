import os
import sys
import traceback

import pytest

from ninelives_grpc import Registry
from ninelives_grpc.testing import VirtualClock

if sys.version_info < (3, 12):
    # Tracebacks parse lines to underline them; when gRPC's threads log what handlers raise while
    # pytest parses too, CPython 3.11 ends with "AST constructor recursion depth mismatch"
    # (gh-106905).
    traceback._extract_caret_anchors_from_line_segment = lambda _: None


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
