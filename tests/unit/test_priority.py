import pytest

from ninelives_grpc import Priority
from ninelives_grpc.priority import DEFAULT_RANK, rank_of


def metadata(priority=None, level=None):
    pairs = [
        ("x-ninelives-priority", priority),
        ("x-ninelives-level", level),
        ("other", "critical"),
    ]
    return [(key, value) for key, value in pairs if value is not None]


@pytest.mark.parametrize(
    ("sent", "rank"),
    [
        (metadata("critical", "7"), (Priority.CRITICAL, 7)),
        (metadata("HIGH", "0"), (Priority.HIGH, 0)),
        (metadata("low"), (Priority.LOW, 50)),
        (metadata(None, "99"), (Priority.NORMAL, 99)),
        (metadata("background", "100"), (Priority.BACKGROUND, 99)),
        (metadata("background", "9" * 1000), (Priority.BACKGROUND, 99)),
    ],
)
def test_class_and_level_are_read_from_metadata(sent, rank):
    assert rank_of(sent) == rank


@pytest.mark.parametrize(
    "sent",
    [
        None,
        (),
        metadata("urgent"),
        metadata(""),
        metadata(b"critical"),
        metadata(None, "-1"),
        metadata(None, "1.5"),
        metadata(None, "high"),
        metadata(None, b"5"),
        metadata(None, ""),
    ],
    ids=repr,
)
def test_a_bad_header_means_the_default_and_never_an_error(sent):
    assert rank_of(sent) == DEFAULT_RANK == (Priority.NORMAL, 50)


def test_there_are_five_classes_and_the_first_is_served_longest():
    assert [priority.name for priority in sorted(Priority)] == [
        "CRITICAL",
        "HIGH",
        "NORMAL",
        "LOW",
        "BACKGROUND",
    ]
