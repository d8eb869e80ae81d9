"""Rules that are looked at again while the control plane runs."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ninelives_control import ControlPlane
from ninelives_control.authorization.rules import load
from ninelives_control.errors import CommandError
from ninelives_control.files import Reloaded
from ninelives_control.identity.identity import Identity, Proof, Role
from ninelives_grpc.errors import ConfigError

PATH = "shop/retry/max_attempts"
RULE = '[[rules]]\nid = "{}"\nroles = ["agent"]\n'


def replace(path, text):
    """Put a new version into place at once."""
    new = path.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "rules.toml"
    file.write_text(RULE.format("first"), encoding="utf-8")
    return file


@pytest.fixture
def ids(path):
    file = Reloaded([path], lambda: load(path))
    return lambda: [rule.id for rule in file.loaded().value]


def test_a_changed_file_is_taken(path, ids):
    assert ids() == ["first"]

    replace(path, RULE.format("second"))

    assert ids() == ["second"]


def test_a_file_written_in_its_place_with_the_same_size_and_time_is_taken(path, ids):
    status = path.stat()

    path.write_text(RULE.format("other"), encoding="utf-8")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    assert ids() == ["other"]


def test_a_file_that_stays_is_not_read_again(path):
    reads = []
    os.utime(path, (1.0, 1.0))
    file = Reloaded([path], lambda: reads.append(path) or load(path))

    for _ in range(5):
        file.loaded()

    assert len(reads) == 1


@pytest.mark.parametrize("text", ["[[rules", "rule = []", None])
def test_a_broken_file_leaves_what_was_before_and_is_logged_once(path, caplog, text):
    file = Reloaded([path], lambda: load(path))
    if text is None:
        path.unlink()
    else:
        path.write_text(text, encoding="utf-8")

    seen = [file.loaded() for _ in range(3)]

    assert {loaded.value[0].id for loaded in seen} == {"first"}
    assert {str(path) in loaded.problem for loaded in seen} == {True}
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert str(path) in record.message
    assert "mend it, and it is taken" in record.message


def test_a_mended_file_is_taken(path, ids):
    path.write_text("[[rules", encoding="utf-8")
    assert ids() == ["first"]

    path.write_text(RULE.format("mended"), encoding="utf-8")

    assert ids() == ["mended"]


def test_a_file_that_changes_while_it_is_read_is_read_again(path):
    def put(name):
        replace(path, RULE.format(name))
        os.utime(path, (len(name), len(name)))

    def read(at):
        found = load(at)
        if found[0].id == "second":
            put("later")
        return found

    put("first")
    file = Reloaded([path], lambda: read(path))
    put("second")

    assert file.loaded().value[0].id == "later"


def test_a_file_that_is_broken_from_the_start_is_an_error(path):
    path.write_text("[[rules", encoding="utf-8")

    with pytest.raises(ConfigError, match="is not TOML"):
        Reloaded([path], lambda: load(path))


def test_threads_see_one_version_or_the_other(path):
    def version(name):
        return "".join(RULE.format(f"{name}-{number}") for number in range(20))

    replace(path, version("a"))
    file = Reloaded([path], lambda: load(path))

    writing = threading.Lock()

    def look(number):
        if number % 25 == 0:
            with writing:
                replace(path, version("ab"[number % 2]))
        return {rule.id.partition("-")[0] for rule in file.loaded().value}

    with ThreadPoolExecutor(4) as pool:
        seen = list(pool.map(look, range(100)))

    assert all(len(names) == 1 for names in seen)


AGENT = Identity(name="tuner", role=Role.AGENT, proof=Proof.TOKEN)


def test_a_control_plane_takes_new_rules_while_it_runs(registry, shop, path, caplog):
    plane = ControlPlane(registry, grpc_port=None, http_port=None, rules=path)

    def change(value):
        arguments = {"path": PATH, "value": value}
        plane.dispatcher.execute("set_parameter", arguments, caller=AGENT, transport="desk")
        return shop.parameters["retry/max_attempts"].get()

    with plane:
        assert change(50) == 50
        replace(path, RULE.format("second") + "maximum = 10")
        with pytest.raises(CommandError, match="rule second allows"):
            change(60)
        path.write_text("[[rules", encoding="utf-8")
        with pytest.raises(CommandError, match="these are the rules of before, as ") as caught:
            change(60)
        assert str(path) in caught.value.message
        assert "is not TOML" in caught.value.message
        assert change(6) == 6
        path.write_text(RULE.format("third"), encoding="utf-8")
        assert change(60) == 60
    assert [record.levelname for record in caplog.records].count("ERROR") == 1
