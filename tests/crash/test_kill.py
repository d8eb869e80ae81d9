"""Kill the process while commands come over all transports, and look at what is left.

`NINELIVES_KILLS=20 NINELIVES_COMMANDS=20000` makes the whole of it; by default it is a short one.
"""

import contextlib
import itertools
import json
import os
import random
import sqlite3
import subprocess
import sys

import pytest

from ninelives_control.audit.chain import Status
from ninelives_control.audit.log import AuditFile
from ninelives_control.identity import tokens as token_file
from ninelives_control.identity.identity import Role
from tests.crash import killed
from tests.crash.crowd import Crowd, OverGrpc, Ports

KILLS = int(os.environ.get("NINELIVES_KILLS", "2"))
COMMANDS = int(os.environ.get("NINELIVES_COMMANDS", "400"))


@contextlib.contextmanager
def life(folder):
    """Run the process, and kill it at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.crash.killed", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Ports(*map(int, process.stdout.readline().split())), process
    finally:
        process.kill()
        process.communicate()


def kept(folder) -> dict[str, int]:
    with contextlib.closing(sqlite3.connect(folder / "parameters.sqlite")) as connection:
        rows = connection.execute("SELECT path, value FROM parameters").fetchall()
    return {path: json.loads(value) for path, value in rows}


def look(folder, told, before) -> None:
    """Compare what clients were told with what the files say."""
    audit = AuditFile(folder / "audit.sqlite")
    assert audit.verify().finding is None
    entries = {entry.id: entry for entry in audit.entries(limit=-1)}
    intended = {
        (arguments["path"], arguments["value"])
        for arguments in (json.loads(entry.arguments) for entry in entries.values())
        if "value" in arguments
    }
    stored = kept(folder)
    for path, answers in told.acknowledged.items():
        for key, value in answers:
            entry = entries[key]
            assert (entry.status, entry.new) == (Status.SUCCEEDED, value), (path, value, entry)
        acknowledged = [value for _, value in answers]
        last = acknowledged[-1] if acknowledged else before.get(path, 0)
        # One that was under way may have been made, though nobody was told.
        assert stored.get(path, 0) in {last, *told.sent[path][len(acknowledged) :]}, path
    assert set(stored.items()) <= intended


@pytest.mark.timeout(60 + COMMANDS / 10)
def test_what_was_acknowledged_outlives_a_process_that_is_killed(tmp_path):
    token = token_file.create(tmp_path / "tokens.json", "crowd", Role.OPERATOR)
    chance = random.Random(20_000)
    values, known, count = itertools.count(2), {}, 0
    for _ in range(KILLS):
        before = dict(known)
        with life(tmp_path) as (ports, process):
            crowd = Crowd(killed.CLIENTS, ports, token, values)
            crowd.work_until(chance.randint(1, 2 * COMMANDS // KILLS))
            process.kill()
            told = crowd.end()
        assert told.surprises == []
        look(tmp_path, told, before)
        known, count = kept(tmp_path), count + told.count
    with life(tmp_path) as (ports, _process):
        way = OverGrpc(ports, token)
        told = {path: way.get(path) for path in known}
        way.close()
    assert told == known
    assert count >= COMMANDS / 4
