"""What was cut short is found by whoever opens the audit next, and only that; older files go on."""

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ninelives_control import ControlPlane
from ninelives_control.audit.chain import Status
from ninelives_control.audit.entries import Outcome
from ninelives_control.audit.log import Attempt, AuditFile, AuditLog
from ninelives_control.errors import AuditError, CommandError

FIRST = Path(__file__).with_name("audit_version_1.sql")


def attempt(name="id-1", **more):
    about = {"identity": "ada", "proof": "token", "peer": "unix", "arguments": "{}"} | more
    return Attempt(id=name, transport="t", command="set_parameter", **about)


def marks(path):
    return {each.name for each in path.parent.glob(f"{path.name}.life-*")}


KILLED = """
import os, signal, sys
from pathlib import Path
from ninelives_control.audit.log import Attempt, AuditLog
from ninelives_control.audit.chain import Status
log = AuditLog(Path(sys.argv[1]))
about = {"transport": "t", "command": "set_parameter", "arguments": "{}", "identity": "ada"}
log.append(Attempt(id="cut-short", **about), Status.INTENDED)
if sys.argv[2] == "die":
    os.kill(os.getpid(), signal.SIGKILL)
print("ready", flush=True)
sys.stdin.readline()
log.append(Attempt(id="cut-short", **about), Status.SUCCEEDED)
log.close()
"""


def test_a_process_that_was_killed_is_reported_once_at_the_next_start(
    registry, shop, audit_path, caplog
):
    subprocess.run([sys.executable, "-c", KILLED, audit_path, "die"], check=False)
    assert len(marks(audit_path)) == 1

    for times in (1, 1):
        with ControlPlane(registry, grpc_port=None, http_port=None, audit=audit_path):
            assert len(marks(audit_path)) == 1
        found = [entry for entry in caplog.messages if "was interrupted" in entry]
        assert len(found) == times

    assert "set_parameter (cut-short) of ada at 20" in found[0]
    (entry,) = AuditFile(audit_path).entries()
    assert entry.status is Outcome.INTERRUPTED
    assert AuditFile(audit_path).verify().unfinished == ()
    assert AuditFile(audit_path).verify().finding is None
    assert marks(audit_path) == set()


def test_what_another_process_still_runs_is_left_alone(audit_path):
    command = [sys.executable, "-c", KILLED, audit_path, "live"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        log = AuditLog(audit_path)
        try:
            assert log.end_interrupted() == []
            assert log.entry("cut-short").status is Outcome.UNFINISHED
        finally:
            other.communicate(b"\n")

    assert log.entry("cut-short").status is Outcome.SUCCEEDED
    assert log.end_interrupted() == []
    log.close()


def test_a_log_of_the_same_process_lives_until_it_is_closed(audit_path):
    first, second = AuditLog(audit_path), AuditLog(audit_path)
    first.append(attempt(), Status.INTENDED)

    assert first.end_interrupted() == second.end_interrupted() == []
    first.close()
    (entry,) = second.end_interrupted()

    assert (entry.id, entry.status, entry.peer) == ("id-1", Outcome.INTERRUPTED, "unix")
    assert second.end_interrupted() == []
    second.close()


def test_what_has_ended_is_not_reported(audit_path):
    log = AuditLog(audit_path)
    for name, status in (("a", Status.SUCCEEDED), ("b", Status.FAILED)):
        log.append(attempt(name), Status.INTENDED)
        log.append(attempt(name), status)
    log.append(attempt("c"), Status.REFUSED)
    log.close()

    log = AuditLog(audit_path)
    assert log.end_interrupted() == []
    log.close()


def ended_by_another(path):
    log = AuditLog(path)
    found = len(log.end_interrupted())
    log.close()
    return found


def test_several_that_start_at_a_time_report_it_once(audit_path):
    log = AuditLog(audit_path)
    for number in range(20):
        log.append(attempt(f"id-{number}"), Status.INTENDED)
    log.close()

    with ThreadPoolExecutor(3) as pool:
        counts = list(pool.map(ended_by_another, [audit_path] * 3))

    assert sum(counts) == 20
    assert AuditFile(audit_path).verify().head.seq == 40
    assert AuditFile(audit_path).verify().finding is None


def test_a_start_goes_on_when_that_can_not_be_written(registry, shop, audit_path, caplog):
    log = AuditLog(audit_path)
    log.append(attempt(), Status.INTENDED)
    log.close()
    connection = sqlite3.connect(audit_path)
    connection.execute(
        "CREATE TRIGGER stuck BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'stuck'); END"
    )
    connection.close()

    with ControlPlane(registry, grpc_port=None, http_port=None, audit=audit_path) as plane:
        assert plane.execute("list_stacks").total == 1

    assert "cannot be written: stuck" in caplog.text


@pytest.fixture
def first(audit_path):
    """A file of version 1, of a process that has died."""
    connection = sqlite3.connect(audit_path)
    connection.executescript(FIRST.read_text())
    connection.close()
    return audit_path


def test_a_file_of_version_1_is_read_as_it_is(first):
    before = first.read_bytes()
    audit = AuditFile(first)

    changed, cut_short = audit.entries()

    assert (changed.identity, changed.old, changed.new, changed.peer) == ("ada", 3, 5, "")
    assert cut_short.status is Outcome.UNFINISHED
    assert audit.entry("first") == changed
    assert audit.verify().finding is None
    assert audit.verify().head.seq == 3
    assert first.read_bytes() == before


def test_a_file_of_version_1_goes_on(first):
    anchor = AuditFile(first).verify().head
    log = AuditLog(first)

    (cut_short,) = log.end_interrupted()
    log.append(attempt("new"), Status.REFUSED)
    log.close()

    audit = AuditFile(first)
    assert cut_short.id == "cut-short"
    assert audit.entry("new").peer == "unix"
    assert audit.verify(anchors=[anchor]).finding is None
    assert audit.verify().head.seq == 5
    with sqlite3.connect(first) as connection, pytest.raises(sqlite3.IntegrityError):
        connection.execute("DELETE FROM audit")
    connection.close()


def test_what_is_added_to_a_row_of_version_1_is_found(first):
    AuditLog(first).close()
    connection = sqlite3.connect(first)
    connection.execute("DROP TRIGGER audit_keeps_values")
    connection.execute("UPDATE audit SET peer = '192.0.2.1:1' WHERE seq = 2")
    connection.commit()
    connection.close()

    assert AuditFile(first).verify().finding.seq == 2


def test_a_clock_that_goes_back_does_not_break_the_chain(audit_path):
    moments = iter(datetime(2026, 1, 9, tzinfo=UTC) - timedelta(days=day) for day in range(3))
    log = AuditLog(audit_path, now=lambda: next(moments))
    for number in range(3):
        log.append(attempt(f"id-{number}"), Status.REFUSED)
    log.close()

    audit = AuditFile(audit_path)
    assert [entry.id for entry in audit.entries()] == ["id-0", "id-1", "id-2"]
    assert [entry.time[8:10] for entry in audit.entries()] == ["09", "08", "07"]
    assert audit.verify().finding is None


def fill(log):
    for _ in range(100):
        log.append(attempt("small"), Status.REFUSED)


def full(log):
    """Leave no room for another page, and return what makes room again."""
    log._connection.execute("PRAGMA wal_checkpoint")
    log._connection.execute("PRAGMA max_page_count = 1")
    with pytest.raises(AuditError, match="full"):
        fill(log)
    return lambda: log._connection.execute("PRAGMA max_page_count = 100000")


def gone(log):
    """Move the file away, and return what brings it back."""
    away = log.path.with_suffix(".away")
    log.path.rename(away)
    return lambda: away.rename(log.path)


def locked(log):
    """Hold the file as another process does that writes for long."""
    other = sqlite3.connect(log.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    log._connection.execute("PRAGMA busy_timeout = 10")
    return other.close


def read_only(log):
    """Let the connection write nothing, as with a file system that was mounted anew."""
    log._connection.execute("PRAGMA query_only = 1")
    return lambda: log._connection.execute("PRAGMA query_only = 0")


@pytest.mark.parametrize("spoil", [full, gone, locked, read_only])
def test_nothing_is_changed_while_the_audit_cannot_be_written(
    registry, shop, audit_path, spoil, caplog
):
    path = "shop/retry/max_attempts"
    with ControlPlane(registry, grpc_port=None, http_port=None, audit=audit_path) as plane:
        plane.execute("set_parameter", path=path, value=4)
        mend = spoil(plane.dispatcher._audit)
        with pytest.raises(CommandError) as caught:
            plane.execute("set_parameter", path=path, value=5)
        mend()
        assert caught.value.code == "audit_unavailable"
        assert shop.parameters["retry/max_attempts"].get() == 4

        plane.execute("set_parameter", path=path, value=6)
        entries = plane.execute("get_audit", path=path).entries

    assert [entry.changes[0].new for entry in entries] == [4, 6]
    assert AuditFile(audit_path).verify().finding is None
    assert "cannot be written" in caplog.text


def test_a_closed_log_ends_nothing(audit_path):
    log = AuditLog(audit_path)
    log.close()
    log.close()

    with pytest.raises(AuditError):
        log.end_interrupted()
