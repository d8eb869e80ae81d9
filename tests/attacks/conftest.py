import gc
import logging
import threading
from datetime import timedelta
from types import SimpleNamespace

import pytest

from ninelives_control import ControlPlane
from ninelives_control.identity import tokens as token_file
from ninelives_control.identity.identity import Role
from ninelives_grpc import Bulkhead, CircuitBreaker, Registry, Retry, Stack, Timeout
from tests.attacks.world import World
from tests.control import added
from tests.control.issuer import Issuer

RULES = """
[[rules]]
id = "everybody-reads"
roles = ["viewer", "operator", "agent", "admin"]
effects = ["read"]

[[rules]]
id = "audit-is-for-operators"
roles = ["viewer", "agent"]
commands = ["get_audit"]
verdict = "deny"

[[rules]]
id = "operators-change"
roles = ["operator"]
effects = ["change"]

[[rules]]
id = "bank-is-for-people"
roles = ["agent"]
effects = ["change", "destructive"]
paths = ["bank/**"]
verdict = "deny"

[[rules]]
id = "agents-tune"
roles = ["agent"]
commands = ["set_parameter", "apply_parameters", "undo_change", "end_lease"]
paths = ["shop/**"]
step = 1.5
factor = 2.0

[[rules]]
id = "agents-tune-the-lab-once"
roles = ["agent"]
commands = ["set_parameter"]
paths = ["lab/**"]
maximum = 10
minimum = 1
changes_per_hour = 1
hours = "09:00-17:00"

[[rules]]
id = "admins-do-everything"
roles = ["admin"]
"""


@pytest.fixture(scope="package")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("attacks")


@pytest.fixture(scope="package")
def tokens(folder):
    """A token for each role, and others."""
    path = folder / "tokens.json"
    made = {str(role): token_file.create(path, str(role), role) for role in Role}
    made["second"] = token_file.create(path, "second", Role.ADMIN)
    made["hourly"] = token_file.create(path, "hourly", Role.ADMIN, timedelta(hours=1))
    made["other"] = token_file.create(path, "other", Role.AGENT)
    made["expired"] = token_file.create(path, "expired", Role.ADMIN, timedelta(seconds=-1))
    return made


@pytest.fixture(scope="package")
def world(folder, tokens):
    """What is attacked; nothing is left of it in the end."""
    before = set(threading.enumerate())
    registry = Registry()
    for name in ("shop", "bank", "lab"):
        Stack(name, Timeout(2.0) + Retry(3) + CircuitBreaker() + Bulkhead(4), registry=registry)
    (folder / "rules.toml").write_text(RULES)
    issuer = Issuer(folder / "jwks.json")
    plane = ControlPlane(
        registry,
        grpc_port=0,
        http_port=0,
        tokens=folder / "tokens.json",
        jwt=issuer.settings,
        rules=folder / "rules.toml",
        audit=folder / "audit.sqlite",
        parameters=folder / "parameters.sqlite",
    )
    plane.commands.add(added.erase)
    with plane:
        yield World(plane, tokens, issuer)
    gc.collect()
    left = {thread for thread in set(threading.enumerate()) - before if thread.is_alive()}
    assert not [thread for thread in left if "scheduler" not in thread.name], left


@pytest.fixture(autouse=True)
def log(caplog):
    """What the control plane has logged: no trace of anything."""
    caplog.set_level(logging.INFO, logger="ninelives_control")
    yield SimpleNamespace(text=lambda: caplog.text)
    assert "Traceback" not in caplog.text
