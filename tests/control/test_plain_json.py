"""JSON that nobody can read in two ways."""

import pytest

from ninelives_control import plain_json


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1, "b": 2, "a": 1}', "an object has the name 'a' twice"),
        ('[{"a": {"b": 1, "b": 2}}]', "an object has the name 'b' twice"),
        ("NaN", "it has no NaN"),
        ("[-Infinity]", "it has no -Infinity"),
        ("[" * 100_000, "it goes too deep"),
        ("{", "Expecting property name"),
    ],
)
def test_what_is_none_is_refused(text, said):
    with pytest.raises(ValueError, match=said):
        plain_json.loads(text)


def test_all_else_is_read():
    assert plain_json.loads(b'{"a": [1, 1.5, null, true, "x"], "b": {"a": {}}}') == {
        "a": [1, 1.5, None, True, "x"],
        "b": {"a": {}},
    }
