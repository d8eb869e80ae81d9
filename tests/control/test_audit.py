import json
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ninelives_control.audit.canonical import canonical
from ninelives_control.audit.chain import START, Anchor, Flaw, Row, Status
from ninelives_control.audit.log import Attempt, AuditFile, AuditLog
from ninelives_control.errors import AuditError
from ninelives_grpc.errors import ConfigError

TRIGGERS = ("audit_keeps_rows", "audit_keeps_values", "audit_keeps_order")


def attempt(number, **about):
    defaults = {"transport": "test", "command": "set_parameter", "arguments": "{}"}
    return Attempt(id=f"id-{number}", **(defaults | about))


def filled(path, rows=5, key=None):
    log = AuditLog(path, key=key)
    for number in range(rows):
        log.append(attempt(number), Status.REFUSED, reason="not_found")
    log.close()
    return AuditFile(path, key=key)


def tamper(path, *statements):
    """Do to the file what somebody does who can write it, and does not mind the triggers."""
    connection = sqlite3.connect(path)
    for trigger in TRIGGERS:
        connection.execute(f"DROP TRIGGER {trigger}")
    for statement in statements:
        connection.execute(*statement) if isinstance(statement, tuple) else connection.execute(
            statement
        )
    connection.commit()
    connection.close()


def forged(path, seq, key=None):
    """Return a row that fits after the one before `seq`, as somebody without a key makes it."""
    connection = sqlite3.connect(path)
    previous = connection.execute("SELECT hash FROM audit WHERE seq = ?", (seq - 1,)).fetchone()[0]
    connection.close()
    texts = dict.fromkeys(Row._fields, "x")
    return Row(**(texts | {"seq": seq, "previous": previous})).sealed(key)


COLUMNS = ", ".join(Row._fields)
INSERT = f"INSERT INTO audit ({COLUMNS}) VALUES ({', '.join('?' * len(Row._fields))})"
SHIFT = (
    "UPDATE audit SET seq = -seq WHERE seq >= 3",
    "UPDATE audit SET seq = 1 - seq WHERE seq < 0",
)


def test_an_untouched_chain_verifies(audit_path):
    found = filled(audit_path).verify()

    assert found.finding is None
    assert found.head.seq == 5
    assert found.unfinished == ()


def test_an_empty_audit_verifies(audit_path):
    found = filled(audit_path, rows=0).verify()

    assert (found.head, found.finding) == (None, None)


@pytest.mark.parametrize("column", sorted(set(Row._fields) - {"seq", "previous"}))
def test_an_edited_row_is_named(audit_path, column):
    audit = filled(audit_path)

    tamper(audit_path, f"UPDATE audit SET {column} = 'other' WHERE seq = 3")

    assert (audit.verify().finding.seq, audit.verify().finding.flaw) == (3, Flaw.EDITED)
    assert audit.verify().head.seq == 2


def test_a_row_made_to_follow_another_is_named(audit_path):
    audit = filled(audit_path)

    tamper(audit_path, f"UPDATE audit SET previous = '{START}' WHERE seq = 3")

    assert (audit.verify().finding.seq, audit.verify().finding.flaw) == (3, Flaw.INSERTED)


def test_an_edited_row_with_a_new_hash_breaks_the_one_after_it(audit_path):
    audit = filled(audit_path)
    row = forged(audit_path, 3)

    tamper(audit_path, "DELETE FROM audit WHERE seq = 3", (INSERT, row))

    assert (audit.verify().finding.seq, audit.verify().finding.flaw) == (4, Flaw.INSERTED)


@pytest.mark.parametrize(("rows", "said"), [((3,), "row 3 was"), ((2, 3, 4), "rows 2 to 4 were")])
def test_deleted_rows_are_named(audit_path, rows, said):
    audit = filled(audit_path)

    tamper(audit_path, f"DELETE FROM audit WHERE seq IN ({', '.join(map(str, rows))})")

    finding = audit.verify().finding
    assert (finding.seq, finding.flaw) == (rows[0], Flaw.DELETED)
    assert said in finding.message


def test_a_deleted_row_is_named_when_the_others_close_ranks(audit_path):
    audit = filled(audit_path)

    tamper(
        audit_path,
        "DELETE FROM audit WHERE seq = 3",
        "UPDATE audit SET seq = seq - 1 WHERE seq > 3",
    )

    assert audit.verify().finding.seq == 3


def test_a_renumbered_row_is_named(audit_path):
    audit = filled(audit_path)

    tamper(audit_path, "UPDATE audit SET seq = 9 WHERE seq = 5")

    finding = audit.verify().finding
    assert (finding.seq, finding.flaw, finding.message) == (
        5,
        Flaw.RENUMBERED,
        "row 5 has the number 9",
    )


def test_an_inserted_row_is_named(audit_path):
    audit = filled(audit_path)
    row = forged(audit_path, 3)

    tamper(audit_path, *SHIFT, (INSERT, row))

    assert (audit.verify().finding.seq, audit.verify().finding.flaw) == (4, Flaw.INSERTED)


def test_with_a_key_a_forged_row_is_itself_named(audit_path):
    audit = filled(audit_path, key=b"secret")
    row = forged(audit_path, 6)

    tamper(audit_path, (INSERT, row))

    assert audit.verify().finding.seq == 6
    assert AuditFile(audit_path, key=b"secret").verify().head.seq == 5


def test_a_chain_with_a_key_does_not_verify_with_another(audit_path):
    filled(audit_path, key=b"secret")

    for key in (None, b"other"):
        finding = AuditFile(audit_path, key=key).verify().finding
        assert (finding.seq, finding.flaw) == (1, Flaw.EDITED)
        assert "another key" in finding.message


def test_rows_cut_off_show_against_an_anchor(audit_path):
    audit = filled(audit_path)
    anchor = audit.verify().head

    tamper(audit_path, "DELETE FROM audit WHERE seq > 3")

    assert audit.verify().finding is None
    finding = audit.verify(anchors=[anchor]).finding
    assert (finding.seq, finding.flaw) == (4, Flaw.CUT_OFF)
    assert "there was a row 5" in finding.message


def test_a_chain_made_anew_shows_against_an_anchor(audit_path):
    anchor = filled(audit_path).verify().head
    audit_path.unlink()

    audit = filled(audit_path, rows=7)

    assert audit.verify().finding is None
    assert audit.verify(anchors=[anchor]).finding.flaw is Flaw.REPLACED
    assert audit.verify(anchors=[audit.verify().head]).finding is None


def test_an_anchor_is_read_as_it_is_shown():
    anchor = Anchor(12, "a" * 64)

    assert Anchor.parse(str(anchor)) == anchor
    for text in ("", "12", "x:" + "a" * 64, "12:abc"):
        with pytest.raises(ValueError, match="SEQ:HASH"):
            Anchor.parse(text)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET command = 'x'",
        "DELETE FROM audit",
        "INSERT OR REPLACE INTO audit SELECT * FROM audit WHERE seq = 2",
        f"INSERT INTO audit ({COLUMNS}) SELECT 9, {COLUMNS[5:]} FROM audit WHERE seq = 2",
        "DELETE FROM audit WHERE seq = 1",
        "INSERT INTO pruned SELECT seq, hash FROM audit WHERE seq = 2",
    ],
)
def test_the_file_itself_refuses_to_be_changed(audit_path, statement):
    filled(audit_path)
    connection = sqlite3.connect(audit_path)

    with pytest.raises(sqlite3.IntegrityError, match="the audit only grows"):
        connection.execute(statement)
    connection.close()


def test_intent_and_outcome_are_one_entry(audit):
    about = {"identity": "ada", "role": "operator", "arguments": '{"value":5}', "rule": "r"}
    audit.append(attempt(1, **about), Status.INTENDED)
    audit.append(attempt(2), Status.REFUSED, reason="not_found")
    audit.append(attempt(1, **about), Status.SUCCEEDED, old="3", new='"x"')

    changed, refused = audit.entries()

    assert (changed.seq, changed.status, changed.old, changed.new) == (1, "succeeded", 3, "x")
    assert (changed.identity, changed.role, changed.rule) == ("ada", "operator", "r")
    assert (refused.seq, refused.status, refused.reason) == (2, "refused", "not_found")
    assert (refused.old, refused.new) == (None, None)


def test_an_intent_without_outcome_is_reported(audit):
    audit.append(attempt(1), Status.INTENDED)
    audit.append(attempt(2), Status.INTENDED)
    audit.append(attempt(2), Status.FAILED, reason="conflict")

    assert audit.verify().unfinished == ("id-1",)
    assert [entry.status for entry in audit.entries()] == ["unfinished", "failed"]


def test_entries_come_in_pages(audit):
    for number in range(10):
        audit.append(attempt(number), Status.REFUSED)

    page = audit.entries(after=3, limit=4)

    assert [entry.seq for entry in page] == [4, 5, 6, 7]


def test_times_are_utc_and_in_order(audit):
    for number in range(3):
        audit.append(attempt(number), Status.REFUSED)

    times = [entry.time for entry in audit.entries()]

    assert times == sorted(times)
    assert all(time.endswith("Z") and "T" in time for time in times)


def test_a_chain_goes_on_when_it_is_opened_again(audit_path):
    filled(audit_path)

    audit = filled(audit_path)

    assert audit.verify().head.seq == 10
    assert audit.verify().finding is None


def test_the_file_is_for_its_owner(audit_path):
    filled(audit_path)

    assert stat.S_IMODE(audit_path.stat().st_mode) == 0o600


def test_several_threads_keep_one_chain(audit):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: audit.append(attempt(number), Status.REFUSED), range(200)))

    assert audit.verify().head.seq == 200
    assert audit.verify().finding is None


WRITER = """
import sys
from pathlib import Path
from ninelives_control.audit.log import Attempt, AuditLog
from ninelives_control.audit.chain import Status
sys.stdin.readline()
log = AuditLog(Path(sys.argv[1]))
for number in range(40):
    about = {"transport": "test", "command": "x", "arguments": "{}"}
    log.append(Attempt(id=f"{sys.argv[2]}-{number}", **about), Status.REFUSED)
"""


def test_several_processes_keep_one_chain(audit_path):
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, audit_path, str(number)], stdin=subprocess.PIPE
        )
        for number in range(3)
    ]
    for writer in writers:
        writer.stdin.write(b"\n")
        writer.stdin.close()
    assert [writer.wait() for writer in writers] == [0, 0, 0]

    audit = AuditFile(audit_path)
    assert audit.verify().finding is None
    assert len({entry.id for entry in audit.entries()}) == 120


KILLED = """
import os, signal, sys
from pathlib import Path
from ninelives_control.audit.log import Attempt, AuditLog
from ninelives_control.audit.chain import Status
log = AuditLog(Path(sys.argv[1]))
log.append(Attempt(id="cut-short", transport="t", command="x", arguments="{}"), Status.INTENDED)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_that_is_killed_leaves_its_intent(audit_path):
    subprocess.run([sys.executable, "-c", KILLED, audit_path], check=False)

    audit = AuditFile(audit_path)
    assert audit.verify().finding is None
    assert audit.verify().unfinished == ("cut-short",)


def test_a_locked_file_cannot_be_written_and_goes_on_afterwards(audit_path):
    log = AuditLog(audit_path, patience=0.01)
    other = sqlite3.connect(audit_path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(AuditError, match="cannot be written: database is locked"):
        log.append(attempt(1), Status.REFUSED)

    other.execute("ROLLBACK")
    other.close()
    log.append(attempt(2), Status.REFUSED)
    assert [entry.id for entry in log.entries()] == ["id-2"]
    log.close()


def test_a_full_disk_leaves_no_half_row(audit_path):
    log = AuditLog(audit_path)
    log._connection.execute("PRAGMA max_page_count = 1")

    with pytest.raises(AuditError, match="full"):
        log.append(attempt(1, arguments="x" * 50_000), Status.REFUSED)

    assert log.verify().finding is None
    assert not log._connection.in_transaction
    log.close()


def test_a_file_that_was_removed_or_replaced_is_not_written_to(audit_path):
    log = AuditLog(audit_path)
    copy = audit_path.with_suffix(".copy")
    shutil.copy(audit_path, copy)
    audit_path.unlink()

    with pytest.raises(AuditError, match="cannot be written"):
        log.append(attempt(1), Status.REFUSED)
    copy.rename(audit_path)
    with pytest.raises(AuditError, match="removed or replaced"):
        log.append(attempt(1), Status.REFUSED)
    log.close()


def test_a_log_that_is_closed_cannot_be_written(audit_path):
    log = AuditLog(audit_path)
    log.close()

    with pytest.raises(AuditError):
        log.append(attempt(1), Status.REFUSED)


def test_text_that_cannot_be_stored_is_an_error_of_the_audit(audit):
    with pytest.raises(AuditError):
        audit.append(attempt(1, identity="\ud800"), Status.REFUSED)


def test_what_is_no_audit_is_not_touched(tmp_path):
    for name, content in (("text", b"hello " * 1000), ("other", None), ("newer", None)):
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        else:
            connection = sqlite3.connect(path)
            connection.execute("CREATE TABLE people (name)")
            connection.execute(f"PRAGMA user_version = {9 if name == 'newer' else 0}")
            connection.commit()
            connection.close()
        before = path.read_bytes()

        with pytest.raises(ConfigError, match=f"{name}: the audit cannot be opened"):
            AuditLog(path)

        assert path.read_bytes() == before


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot be opened: .*No such file"):
        AuditLog(tmp_path / "nowhere" / "audit.sqlite")


def test_a_file_that_is_not_there_cannot_be_read(tmp_path):
    for read in (lambda file: file.verify(), lambda file: file.entries()):
        with pytest.raises(AuditError, match="no such file"):
            read(AuditFile(tmp_path / "nowhere.sqlite"))


READER = """
import os, sys
from pathlib import Path
from ninelives_control.audit.log import AuditFile
if os.getuid() == 0:  # root could write everywhere
    os.setgid(65534)
    os.setuid(65534)
print(AuditFile(Path(sys.argv[1])).verify().head.seq)
"""


def test_a_copy_in_a_folder_that_cannot_be_written_to_is_read(audit_path, unmeasured):
    filled(audit_path)
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copy(audit_path, folder)
        Path(copy).chmod(0o444)
        Path(folder).chmod(0o555)

        ended = subprocess.run(
            [sys.executable, "-c", READER, copy],
            capture_output=True,
            text=True,
            check=False,
            env=unmeasured,
        )
        Path(folder).chmod(0o755)

    assert (ended.stdout, ended.stderr) == ("5\n", "")


def test_a_file_that_stays_locked_cannot_be_opened(audit_path):
    other = sqlite3.connect(audit_path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")

    with pytest.raises(ConfigError, match="database is locked"):
        AuditLog(audit_path, patience=0.05)

    other.execute("ROLLBACK")
    other.close()
    AuditLog(audit_path).close()


def test_the_head_is_what_to_keep_as_an_anchor(audit_path):
    log = AuditLog(audit_path)
    assert log.head() is None

    log.append(attempt(1), Status.REFUSED)

    assert log.head() == log.verify().head
    log.close()


def test_arguments_are_the_same_each_time():
    assert canonical({"b": 1, "a": [True, None, "é"]}) == '{"a":[true,null,"\\u00e9"],"b":1}'
    assert canonical({"x": float("nan"), "y": {1, 2}, "z": object}).startswith('{"x":"NaN"')


def test_arguments_that_are_no_json_or_too_long_do_not_break_the_audit():
    loop: list = []
    loop.append(loop)
    long = json.loads(canonical({"x": "y" * 100_000}))

    assert json.loads(canonical(loop)) == "a list that is no JSON"
    assert long["length"] > 100_000
    assert len(long["cut"]) < 2000
    assert canonical("\ud800").isascii()
