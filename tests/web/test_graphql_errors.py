import sqlite3
from contextlib import closing

from tests.control import added
from tests.web.http_asker import post

PATH = "shop/retry/max_attempts"
SET = f'mutation {{ setParameter(path: "{PATH}", value: 5) {{ new }} }}'


def test_what_nobody_foresaw_is_logged_and_not_told(plane, tokens, caplog, monkeypatch):
    def fail(*_args, **_kwargs):
        raise RuntimeError(added.SECRET)

    monkeypatch.setattr(plane.dispatcher, "execute", fail)

    answer = post(plane, "{ listStacks { total } }", tokens["viewer"])

    (error,) = answer.json["errors"]
    assert error["extensions"] == {"code": "internal"}
    assert added.SECRET not in answer.text
    assert added.SECRET in caplog.text


def test_nothing_is_changed_when_the_audit_cannot_be_written(plane, shop, tokens, audit_path):
    with closing(sqlite3.connect(audit_path, isolation_level=None)) as other:
        other.execute("DROP TABLE audit")

        (error,) = post(plane, SET, tokens["admin"]).json["errors"]
        (refused,) = post(plane, "mutation { nothing }", tokens["admin"]).json["errors"]

    assert error["extensions"] == {"code": "audit_unavailable"}
    assert "did not run" in error["message"]
    assert refused["extensions"] == {"code": "audit_unavailable"}
    assert shop.parameters["retry/max_attempts"].get() == 3
