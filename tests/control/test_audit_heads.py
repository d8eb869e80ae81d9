"""Signed heads find what a chain alone does not: rows cut off, and a chain made anew."""

import json
import sqlite3
import stat
import threading
from contextlib import closing

import pytest

from ninelives_control import ControlPlane
from ninelives_control.audit import heads
from ninelives_control.audit.chain import Anchor, Flaw, Status
from ninelives_control.audit.heads import HeadFile, Keeper, Kind, Signer
from ninelives_control.audit.log import Attempt, AuditFile, AuditLog
from ninelives_control.audit.verification import SignedRows, verify
from ninelives_control.errors import AuditError
from ninelives_grpc.errors import ConfigError

PATH = "shop/retry/max_attempts"
ROW = Anchor(7, "a" * 64)


@pytest.fixture
def key(tmp_path):
    heads.make_key(tmp_path / "audit.key")
    return tmp_path / "audit.key"


@pytest.fixture
def public(key):
    return [heads.public_key(key.with_name("audit.key.pub"))]


@pytest.fixture
def beside(audit_path):
    return audit_path.with_name("audit.sqlite.heads")


def attempt(number):
    return Attempt(id=f"id-{number}", transport="t", command="c", arguments="{}")


def filled(path, key, rows):
    log = AuditLog(path, heads=HeadFile(path, Signer(key)))
    for number in range(rows):
        log.append(attempt(number), Status.REFUSED)
    return log


def verified(path, public):
    found = heads.read(heads.beside(path), public)
    signed = SignedRows(
        heads=[head.anchor for head in found],
        pruned=[head.anchor for head in found if head.kind == Kind.PRUNED],
    )
    return verify([AuditFile(path)], key=None, signed=signed)


def test_keys_are_made_once(tmp_path, key):
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = key.read_bytes()

    with pytest.raises(FileExistsError):
        heads.make_key(key)
    key.unlink()
    with pytest.raises(FileExistsError):
        heads.make_key(key)

    assert not key.exists()
    assert b"PRIVATE" in before


def test_what_is_no_key_is_named(tmp_path, key):
    other = tmp_path / "other"
    other.write_text("nothing of the kind")

    for wrong in (other, key.with_name("audit.key.pub"), tmp_path / "nowhere"):
        with pytest.raises(ConfigError, match=wrong.name):
            Signer(wrong)
    for wrong in (other, key, tmp_path / "nowhere"):
        with pytest.raises(ConfigError, match=wrong.name):
            heads.public_key(wrong)


def test_the_end_is_signed_at_the_start_the_end_and_now_and_then(
    registry, shop, audit_path, key, public, beside, caplog
):
    with closing(AuditLog(audit_path)) as log:
        log.append(attempt(1), Status.REFUSED)
    plane = ControlPlane(
        registry, grpc_port=None, http_port=None, audit=audit_path, audit_signing_key=key
    )
    with plane:
        assert [head.seq for head in heads.read(beside, public)] == [1]
        for value in range(1, 51):
            plane.execute("set_parameter", path=PATH, value=value)
        assert [head.seq for head in heads.read(beside, public)] == [1, 100]

    found = heads.read(beside, public)
    assert [head.seq for head in found] == [1, 100, 101]
    assert found[-1].anchor == AuditFile(audit_path).verify().head
    assert stat.S_IMODE(beside.stat().st_mode) == 0o600
    for line in beside.read_text().splitlines():
        assert line in caplog.text
    assert verified(audit_path, public).finding is None


def test_an_end_that_has_not_moved_is_signed_once(audit_path, key, public, beside):
    with closing(filled(audit_path, key, 3)) as log:
        log.sign()
        log.sign()

    assert len(heads.read(beside, public)) == 1


def test_a_keeper_signs_every_so_often_until_it_is_closed(audit_path, key):
    signed, before = threading.Event(), threading.active_count()

    keeper = Keeper(signed.set, interval=0.001)
    assert signed.wait(10)
    keeper.close()

    signed.clear()
    assert threading.active_count() == before
    assert not signed.is_set()


def test_a_key_needs_a_file_to_sign(registry, key):
    with pytest.raises(ConfigError, match="give it by audit="):
        ControlPlane(registry, grpc_port=None, http_port=None, audit_signing_key=key).start()


def tamper(path, *statements):
    connection = sqlite3.connect(path)
    for trigger in ("audit_keeps_rows", "audit_keeps_values", "audit_keeps_order"):
        connection.execute(f"DROP TRIGGER {trigger}")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def test_rows_cut_off_are_found(audit_path, key, public):
    with closing(filled(audit_path, key, 5)) as log:
        log.sign()
    tamper(audit_path, "DELETE FROM audit WHERE seq > 3")

    assert AuditFile(audit_path).verify().finding is None
    finding = verified(audit_path, public).finding
    assert (finding.seq, finding.flaw) == (4, Flaw.CUT_OFF)


def test_a_chain_made_anew_is_found(audit_path, key, public):
    with closing(filled(audit_path, key, 5)) as log:
        log.sign()
    audit_path.unlink()
    with closing(AuditLog(audit_path)) as log:
        for number in range(9):
            log.append(attempt(number), Status.REFUSED)

    assert AuditFile(audit_path).verify().finding is None
    assert verified(audit_path, public).finding.flaw is Flaw.REPLACED


def test_an_audit_pruned_by_somebody_without_the_key_is_found(audit_path, key, public):
    with closing(filled(audit_path, key, 5)) as log:
        log.sign()
    with closing(AuditLog(audit_path)) as log:
        fourth = _rows(audit_path)[3]
        log.forget(Anchor(4, fourth.hash), attempt("prune"))

    assert AuditFile(audit_path).verify().finding is None
    finding = verified(audit_path, public).finding
    assert finding.flaw is Flaw.CUT_OFF
    assert "nobody has signed" in finding.message


def _rows(path):
    with AuditFile(path).opened() as part:
        return list(part.rows)


@pytest.mark.parametrize(
    ("field", "value"),
    [("seq", 8), ("hash", "b" * 64), ("kind", "pruned"), ("kind", "x"), ("time", "2026"),
     ("signature", "AAAA"), ("signature", "?"), ("signature", 7), ("seq", None)],
)  # fmt: skip
def test_an_edited_head_is_named(audit_path, key, public, beside, field, value):
    file = HeadFile(audit_path, Signer(key))
    file.add(Anchor(1, "c" * 64))
    head = json.loads(str(file.add(ROW)))
    lines = beside.read_text().splitlines()
    beside.write_text("\n".join([lines[0], json.dumps(head | {field: value})]) + "\n")

    with pytest.raises(AuditError, match=r"heads line 2 was edited"):
        heads.read(beside, public)


def test_a_head_of_another_key_is_named(audit_path, key, public, beside, tmp_path):
    heads.make_key(tmp_path / "other")
    HeadFile(audit_path, Signer(key)).add(ROW)
    HeadFile(audit_path, Signer(tmp_path / "other")).add(ROW)

    with pytest.raises(AuditError, match=r"line 2 is signed with another key"):
        heads.read(beside, public)
    both = [*public, heads.public_key(tmp_path / "other.pub")]
    assert [head.anchor for head in heads.read(beside, both)] == [ROW, ROW]


def test_half_a_line_is_passed_over_and_the_next_one_stands_alone(audit_path, key, public, beside):
    file = HeadFile(audit_path, Signer(key))
    file.add(ROW)
    whole = beside.read_bytes()
    beside.write_bytes(whole + whole[:40])

    file.add(Anchor(8, "b" * 64))

    assert [head.seq for head in heads.read(beside, public)] == [7, 8]


def test_heads_that_cannot_be_written_are_logged_and_commands_go_on(
    registry, shop, audit_path, key, beside, caplog
):
    beside.mkdir()
    with ControlPlane(
        registry, grpc_port=None, http_port=None, audit=audit_path, audit_signing_key=key
    ) as plane:
        plane.execute("set_parameter", path=PATH, value=5)

    assert "cannot be signed" in caplog.text
    assert shop.parameters["retry/max_attempts"].get() == 5


def test_heads_that_are_not_there_cannot_be_read(beside, public):
    with pytest.raises(AuditError, match="cannot be read: No such file"):
        heads.read(beside, public)
