"""What is pruned goes on to be verified, alone and together with what stays."""

import json
import sqlite3
import stat
from datetime import UTC, datetime, timedelta

import pytest

from ninelives_control.audit import heads, retention, verification
from ninelives_control.audit.chain import Flaw, Status
from ninelives_control.audit.exports import Export
from ninelives_control.audit.log import Attempt, AuditLog
from ninelives_control.cli.group import Exit, run
from ninelives_control.errors import AuditError

DAY = timedelta(days=1)
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
KEY = b"secret"


class Calendar:
    """Tells the time that it is set to."""

    def __init__(self):
        self.now = FIRST

    def __call__(self):
        return self.now


@pytest.fixture
def calendar():
    return Calendar()


@pytest.fixture
def log(audit_path, calendar):
    log = AuditLog(audit_path, key=KEY, now=calendar)
    yield log
    log.close()


@pytest.fixture
def old(tmp_path):
    return tmp_path / "old.jsonl"


def write(log, name, status):
    log.append(Attempt(id=name, transport="t", command="c", arguments="{}"), status)


def commands(log, calendar, days, per_day=2):
    for day in range(days):
        calendar.now = FIRST + day * DAY
        for number in range(per_day):
            for status in (Status.INTENDED, Status.SUCCEEDED):
                write(log, f"{day}-{number}", status)


def prune(log, days, to):
    return retention.prune(log, before=FIRST + days * DAY, to=to, signed=None, identity="ada")


def together(*parts, **options):
    return verification.verify(parts, key=KEY, **options)


def test_old_commands_move_and_both_parts_verify(log, calendar, old):
    commands(log, calendar, 5)
    anchor = log.head()

    gone = prune(log, 3, old)

    assert (gone.rows, gone.last.seq) == (12, 12)
    whole = together(Export(old), log, anchors=[anchor])
    rest, moved = log.verify(anchors=[anchor]), together(Export(old), anchors=[gone.last])
    assert (whole.finding, rest.finding, moved.finding) == (None, None, None)
    assert (whole.start, whole.head.seq) == (None, 21)
    assert (rest.start, rest.head.seq) == (gone.last, 21)
    assert moved.head == gone.last
    assert stat.S_IMODE(old.stat().st_mode) == 0o600
    assert [entry.id for entry in log.entries()] == [
        "3-0",
        "3-1",
        "4-0",
        "4-1",
        log.entries()[-1].id,
    ]


def test_the_audit_says_that_it_was_pruned(log, calendar, old):
    commands(log, calendar, 2)

    prune(log, 1, old)

    entry = log.entries()[-1]
    assert (entry.command, entry.identity, entry.status) == ("prune_audit", "ada", "pruned")
    assert json.loads(entry.arguments)["rows"] == 4


def test_it_can_be_pruned_again_and_down_to_nothing(log, calendar, old, tmp_path):
    commands(log, calendar, 3)
    second, third = tmp_path / "second", tmp_path / "third"

    prune(log, 1, old)
    prune(log, 2, second)
    calendar.now = FIRST + 9 * DAY
    prune(log, 8, third)
    write(log, "new", Status.REFUSED)

    parts = [Export(old), Export(second), Export(third), log]
    assert together(*parts).finding is None
    assert together(*parts).head.seq == 12 + 3 + 1
    assert log.verify().finding is None
    assert together(parts[0], *parts[2:]).finding.flaw is Flaw.DELETED
    assert together(*parts[:2]).head.seq == 8


def test_a_command_is_never_torn_apart(log, calendar, old):
    write(log, "short", Status.REFUSED)
    write(log, "long", Status.INTENDED)
    write(log, "within", Status.REFUSED)
    calendar.now = FIRST + 5 * DAY
    write(log, "long", Status.SUCCEEDED)

    gone = prune(log, 3, old)

    assert gone.last.seq == 1
    assert [entry.id for entry in log.entries()][:2] == ["long", "within"]


def test_a_command_without_outcome_stays_until_it_has_one(log, calendar, old):
    write(log, "running", Status.INTENDED)
    calendar.now = FIRST + 5 * DAY

    assert prune(log, 3, old) is None
    assert not old.exists()
    assert log.verify().unfinished == ("running",)


def test_what_is_there_is_not_written_over(log, calendar, old):
    commands(log, calendar, 2)
    old.write_text("precious")

    with pytest.raises(FileExistsError):
        prune(log, 1, old)

    assert old.read_text() == "precious"
    assert log.verify().start is None


def test_a_folder_that_is_not_there_takes_nothing(log, calendar, tmp_path):
    commands(log, calendar, 2)

    with pytest.raises(AuditError, match=r"nothing was pruned, as .* cannot be written"):
        prune(log, 1, tmp_path / "nowhere" / "old")

    assert log.verify().start is None


def tamper(path, *statements):
    connection = sqlite3.connect(path)
    for name in ("audit_keeps_rows", "audit_keeps_values", "pruned_is_told", "pruned_keeps_values"):
        connection.execute(f"DROP TRIGGER {name}")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def test_a_broken_chain_is_not_pruned(log, calendar, old, audit_path):
    commands(log, calendar, 3)
    tamper(audit_path, "UPDATE audit SET command = 'x' WHERE seq = 9")

    with pytest.raises(AuditError, match="nothing was pruned, as the audit is broken: row 9"):
        prune(log, 1, old)

    assert not old.exists()


def test_an_audit_is_not_pruned_without_its_key(log, calendar, old, audit_path):
    commands(log, calendar, 2)
    other = AuditLog(audit_path)

    with pytest.raises(AuditError, match="another key"):
        prune(other, 1, old)
    other.close()


def test_somebody_who_prunes_by_hand_is_found(log, calendar, audit_path):
    commands(log, calendar, 3)

    tamper(
        audit_path,
        "INSERT INTO pruned SELECT seq, hash FROM audit WHERE seq = 4",
        "DELETE FROM audit WHERE seq <= 4",
    )

    finding = log.verify().finding
    assert finding.flaw is Flaw.CUT_OFF
    assert "no row says that they were pruned" in finding.message


def test_a_part_that_was_edited_or_cut_is_found(log, calendar, old):
    commands(log, calendar, 3)
    prune(log, 2, old)
    lines = old.read_text().splitlines(keepends=True)

    for number, wrong in {
        3: [*lines[:2], lines[2].replace('"c"', '"d"'), *lines[3:]],
        4: [*lines[:3], *lines[4:]],
        8: lines[:7],
    }.items():
        old.write_text("".join(wrong))
        assert together(Export(old), log).finding.seq == number


@pytest.mark.parametrize(
    "line", ["{", "[]", "7", "null", '{"seq": 1}', "é", '{"seq": 1, "other": 2}', "[" * 100_000]
)
def test_what_is_no_export_is_named(old, line):
    old.write_text(f"{line}\n", encoding="latin-1")

    with pytest.raises(AuditError, match=r"old\.jsonl cannot be read"):
        together(Export(old))


def test_rows_of_a_wrong_type_are_named(log, calendar, old):
    commands(log, calendar, 2)
    prune(log, 1, old)
    row = json.loads(old.read_text().splitlines()[0])

    for wrong in ({"seq": "1"}, {"seq": True}, {"peer": None}, {"command": 7}):
        old.write_text(json.dumps(row | wrong))
        with pytest.raises(AuditError, match="line 1 is no row"):
            together(Export(old))


@pytest.fixture
def ask(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def ask(*args):
        code = run(["audit", *map(str, args)])
        out, err = capsys.readouterr()
        return code, out, err

    return ask


@pytest.fixture
def keyed(ask, tmp_path, audit_path, calendar):
    """An audit that is sealed and signed, and the options to say so."""
    ask("key", "audit.key")
    (tmp_path / "seal").write_bytes(KEY)
    signed = heads.HeadFile(audit_path, heads.Signer(tmp_path / "audit.key"))
    log = AuditLog(audit_path, key=KEY, now=calendar, heads=signed)
    commands(log, calendar, 3)
    log.sign()
    log.close()
    return ("--key-file", "seal", "--public-key", "audit.key.pub")


def test_from_the_command_line(ask, keyed, audit_path, old):
    code, out, err = ask("prune", audit_path, "--keep", "90d", "--to", old, "--key-file", "seal")
    assert (code, "give the key by --signing-key" in err) == (Exit.INVALID, True)

    code, out, err = ask(
        "prune", audit_path, "--keep", "1d", "--to", old, "--key-file", "seal",
        "--signing-key", "audit.key",
    )  # fmt: skip
    assert (code, err, out.startswith(f"ok: 12 rows moved to {old}; anchor 12:")) == (0, "", True)

    assert ask("verify", audit_path, *keyed)[1].startswith("ok: 1 rows after row 12; ")
    assert ask("verify", old, audit_path, *keyed)[1].startswith("ok: 13 rows; ")
    beside = heads.beside(audit_path)
    code, out, err = ask("verify", old, *keyed, "--heads", beside)
    assert (code, err, out.startswith("ok: 12 rows; 3 signed heads; anchor 12:")) == (0, "", True)
    lines = old.read_text().splitlines(keepends=True)
    old.write_text("".join(lines[:-1]))
    assert ask("verify", old, audit_path, *keyed)[0] == Exit.FAILED


def test_a_cut_off_audit_fails_on_the_command_line(ask, keyed, audit_path):
    assert ask("verify", audit_path, *keyed)[0] == 0
    tamper(audit_path, "DELETE FROM audit WHERE seq > 10")

    code, _, err = ask("verify", audit_path, *keyed)

    assert (code, "but there was a row 12" in err) == (Exit.FAILED, True)
    heads.beside(audit_path).write_text("")
    code, _, err = ask("verify", audit_path, *keyed)
    assert (code, "nothing was signed" in err) == (Exit.FAILED, True)
    code, _, err = ask("verify", audit_path, "--heads", "seal")
    assert (code, "--public-key only" in err) == (Exit.INVALID, True)


def test_all_rows_are_exported(ask, keyed, audit_path, old):
    code, out, _ = ask("export", audit_path)
    old.write_text(out)

    assert (code, len(out.splitlines())) == (0, 12)
    assert ask("verify", old, "--key-file", "seal")[0] == 0
    code, _, err = ask("export", old)
    assert (code, "cannot be read" in err) == (Exit.FAILED, True)


def test_entries_are_filtered_on_the_command_line(ask, keyed, audit_path):
    def listed(*options):
        return [
            entry["id"] for entry in json.loads(ask("list", audit_path, "-o", "json", *options)[1])
        ]

    assert listed("--since", "2026-01-03T00:00:00Z") == ["2-0", "2-1"]
    assert listed("--until", "2026-01-02T00:00:00Z", "--limit", "1") == ["0-0"]
    assert listed("--status", "failed") == listed("--identity", "x") == listed("--path", "x") == []
    assert len(listed("--status", "succeeded", "--command", "c", "--transport", "t")) == 6
    for wrong in (("--since", "today"), ("--since", "2026-01-01"), ("--status", "good")):
        assert ask("list", audit_path, *wrong)[0] == Exit.INVALID


def test_what_cannot_be_meant_is_an_error_on_the_command_line(ask, keyed, audit_path, old):
    with_keys = ("--key-file", "seal", "--signing-key", "audit.key")
    to = ("--to", old)
    assert ask("key", "audit.key")[0] == Exit.INVALID
    assert ask("prune", audit_path, "--keep", "90", *to, *with_keys)[0] == Exit.INVALID
    assert ask("prune", "seal", "--keep", "90d", *to, *with_keys)[0] == Exit.INVALID
    assert ask("prune", audit_path, "--keep", "1d", *to, "--signing-key", "seal")[0] == Exit.INVALID
    assert ask("prune", audit_path, "--keep", "1d", *to, *with_keys[2:])[0] == Exit.FAILED
    old.touch()
    assert ask("prune", audit_path, "--keep", "1d", *to, *with_keys)[0] == Exit.INVALID
    assert ask("prune", audit_path, "--keep", "99999d", *to, *with_keys)[1] == (
        "nothing is as old as that\n"
    )
    assert ask("verify", audit_path, "--public-key", "seal")[0] == Exit.INVALID
