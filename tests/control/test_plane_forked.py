"""A process that forks while its control plane is started, as gunicorn does with preloaded code."""

import json
import subprocess
import sys

import pytest

from ninelives_control.audit.log import AuditFile

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="nothing forks on Windows")

FORKING = """
import json, os, pathlib, sys

from ninelives_control import CommandError, ControlPlane
from ninelives_grpc import Stack, Timeout

audit = pathlib.Path(sys.argv[1])
stack = Stack("shop", Timeout(2.0))
plane = ControlPlane(grpc_port=None, http_port=None, audit=audit)
plane.start()
plane.execute("set_parameter", path="shop/timeout/seconds", value=4, lease=60)
alive = sorted(path.name for path in audit.parent.glob("*.life-*"))

reading, writing = os.pipe()
if os.fork() == 0:
    try:
        plane.execute("set_parameter", path="shop/timeout/seconds", value=9)
    except CommandError as error:
        os.write(writing, str(error.code).encode())
    with ControlPlane(grpc_port=None, http_port=None) as own:
        own.execute("set_parameter", path="shop/timeout/seconds", value=9)
    sys.exit()  # as a program ends, with what is registered for that
os.close(writing)
told = os.read(reading, 100).decode()
_, status = os.wait()
still = sorted(path.name for path in audit.parent.glob("*.life-*"))
plane.stop()
seconds = stack.parameters["timeout/seconds"].get()
print(json.dumps([told, status, alive == still, len(alive), seconds]))
"""


def test_a_child_has_no_control_plane_and_leaves_that_of_its_parent_alone(audit_path):
    ended = subprocess.run(
        [sys.executable, "-c", FORKING, audit_path], check=True, capture_output=True, timeout=60
    )

    assert json.loads(ended.stdout) == ["unavailable", 0, True, 1, 2.0]
    entries = AuditFile(audit_path).entries()
    assert [entry.command for entry in entries] == ["set_parameter", "end_lease"]
