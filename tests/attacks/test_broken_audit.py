"""Attacks on the audit itself: what can not be written down does not run."""

import contextlib
import shutil
import sqlite3

import pytest

from ninelives_control import ControlPlane
from ninelives_control.audit.chain import Status
from ninelives_control.audit.log import Attempt
from ninelives_control.errors import AuditError
from ninelives_grpc import CircuitBreaker, Registry, Retry, Stack
from ninelives_grpc.errors import ConfigError
from tests.attacks.world import PATH, World

CHANGES = (
    ("set_parameter", {"path": PATH, "value": 5}),
    ("set_parameter", {"path": PATH, "value": 5, "lease": 1000.0}),
    ("apply_parameters", {"changes": [{"path": PATH, "value": 5}]}),
    ("force_circuit_breaker", {"path": "shop/circuit_breaker", "mode": "open"}),
)


@contextlib.contextmanager
def read_only(world):
    connection = world.audit._connection
    connection.execute("PRAGMA query_only = 1")
    yield
    connection.execute("PRAGMA query_only = 0")


@contextlib.contextmanager
def full_disk(world):
    """Not a page more than it has: SQLite says then what it says of a full disk."""
    connection = world.audit._connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    for size in (3000, 1):
        filler = Attempt(id="x", transport="test", command="fill", arguments="x" * size)
        with contextlib.suppress(AuditError):
            while True:
                world.audit.append(filler, Status.REFUSED)
    yield
    connection.execute("PRAGMA max_page_count = 1000000")


@contextlib.contextmanager
def held(world):
    """Another process writes, and does not come to an end."""
    world.audit._connection.execute("PRAGMA busy_timeout = 20")
    with contextlib.closing(sqlite3.connect(world.audit.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
    world.audit._connection.execute("PRAGMA busy_timeout = 5000")


@pytest.mark.parametrize("broken", [read_only, full_disk, held], ids=lambda way: way.__name__)
def test_nothing_runs_that_can_not_be_written_down(broken, world, log):
    before = world.state()
    with broken(world):
        for name, arguments in CHANGES:
            assert world.rest(name, arguments, "admin") == "503 audit_unavailable"
            assert world.execute(name, arguments, "admin") == "UNAVAILABLE audit_unavailable"
            # Whoever is refused learns nothing else either.
            assert world.rest(name, arguments, "viewer") == "503 audit_unavailable"
        assert world.http("GET", "/metrics", headers={"Host": "evil.example"}) == (
            "421 invalid_argument"
        )
        assert world.works()

    assert world.state() == before
    assert "the audit cannot be written" in log.text()
    assert world.change("admin") == "200"
    assert world.audit.verify().finding is None
    world.restore()


def test_a_change_that_can_not_be_kept_is_not_made_and_is_in_the_audit(world):
    before = world.state()
    world.new_entries()
    connection = world.plane.dispatcher.changes._store._connection

    connection.execute("PRAGMA query_only = 1")
    told = [world.rest(name, arguments, "admin") for name, arguments in CHANGES[2:]]
    connection.execute("PRAGMA query_only = 0")

    assert told == ["503 unavailable"] * 2
    assert world.state() == before
    assert {(entry.status, entry.reason) for entry in world.new_entries()} == {
        ("failed", "unavailable")
    }


def deleted(file):
    file.unlink()


def replaced(file):
    copy = file.with_suffix(".copy")
    shutil.copy(file, copy)
    copy.replace(file)


def dropped(file):
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("DROP TABLE audit")


@pytest.mark.parametrize("way", [deleted, replaced, dropped], ids=lambda way: way.__name__)
def test_nothing_runs_once_the_audit_is_another(way, folder, tokens, tmp_path, log):
    registry = Registry()
    shop = Stack("shop", Retry(3) + CircuitBreaker(), registry=registry)
    settings = {"tokens": folder / "tokens.json", "audit": tmp_path / "audit.sqlite"}
    with ControlPlane(registry, grpc_port=0, http_port=None, **settings) as plane:
        world = World(plane, tokens, None)

        way(tmp_path / "audit.sqlite")

        for name, arguments in CHANGES:
            assert world.execute(name, arguments, "admin") == "UNAVAILABLE audit_unavailable"
        assert world.bytes_to("/a.B/C", b"") == "UNIMPLEMENTED"
        assert shop.parameters["retry/max_attempts"].get() == 3
        assert list(plane.dispatcher.changes.leases) == []
    assert "the audit cannot be written" in log.text()


def test_an_audit_that_is_no_file_keeps_the_control_plane_from_starting(tmp_path, registry):
    with pytest.raises(ConfigError, match="audit cannot be opened"):
        ControlPlane(registry, grpc_port=0, http_port=None, audit=tmp_path).start()
