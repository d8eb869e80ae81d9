import sys

import pytest

from ninelives_grpc import ConfigError, UnknownNameError
from ninelives_grpc.sinks import JsonLinesSink, MemorySink, NullSink, load

CODE = """
from ninelives_grpc.sinks import Sink

class Kept(Sink):
    def __init__(self, *, color="grey"):
        self.color = color
    def emit(self, event):
        pass

def no_sink():
    return "nothing"

number = 7
"""
POINTS = """
[ninelives_grpc.sinks]
kept = acme_sinks:Kept
broken = acme_missing:Kept
number = acme_sinks:number
no_sink = acme_sinks:no_sink
null = acme_sinks:Kept
"""


@pytest.fixture(autouse=True)
def _acme(tmp_path, monkeypatch):
    """Install a distribution with sinks, as pip would."""
    (tmp_path / "acme_sinks.py").write_text(CODE)
    metadata = tmp_path / "acme_sinks-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-sinks\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("acme_sinks", None)


def test_sinks_of_other_distributions_are_found_by_name():
    sink = load("kept", color="green")

    assert (type(sink).__name__, sink.color) == ("Kept", "green")


def test_ours_are_found_as_well_and_come_first(tmp_path):
    assert isinstance(load("null"), NullSink)
    assert isinstance(load("memory", size=3), MemorySink)
    sink = load("json_lines", to=tmp_path / "events.jsonl")
    assert isinstance(sink, JsonLinesSink)
    sink.close()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("broken", "can not be loaded from acme-sinks: ModuleNotFoundError: .*acme_missing"),
        ("number", "of acme-sinks must be a class or a function that returns a Sink, not 7"),
        ("no_sink", "of acme-sinks must be a Sink, not 'nothing'"),
    ],
)
def test_what_is_wrong_with_one_is_said_with_whose_it_is(name, said):
    with pytest.raises(ConfigError, match=said):
        load(name)


def test_options_that_it_does_not_have_are_said_to_be_so():
    with pytest.raises(ConfigError, match=r"of acme-sinks can not be made: .*colour"):
        load("kept", colour="green")


def test_a_name_that_nobody_has_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match="kept"):
        load("keptt")
