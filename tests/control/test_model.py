import json

import pytest
from jsonschema import Draft202012Validator
from pydantic import Field, ValidationError

from ninelives_control.model import (
    Arguments,
    NamedValue,
    Page,
    ParameterPath,
    ParameterValue,
    PolicyPath,
    named,
)
from ninelives_grpc.policies.circuit_breaker import Mode


class Setting(Arguments):
    path: ParameterPath = Field(default="a/b/c", description="Where.")
    policy: PolicyPath | None = Field(default=None, description="Which.")
    value: ParameterValue = Field(description="What.")


@pytest.mark.parametrize("value", [True, False, 3, 3.0, -2.5, "3", "", None, 2**62])
def test_a_value_keeps_its_type(value):
    kept = Setting(value=value).value

    assert (type(kept), kept) == (type(value), value)
    assert json.loads(Setting(value=value).model_dump_json())["value"] == value


def test_a_choice_becomes_a_text():
    assert type(Setting(value=Mode.OPEN).value) is str


@pytest.mark.parametrize(
    "value", [[1], {"a": 1}, float("nan"), float("inf"), 10**400, "x" * 1001, b"x", object()]
)
def test_what_is_no_plain_value_is_refused(value):
    with pytest.raises(ValidationError, match="true, false, a finite number, a text"):
        Setting(value=value)


@pytest.mark.parametrize(
    "path", ["", "a", "a/b", "a/b/c/d", "a//c", "/b/c", "a/b/", "a/b/" + "c" * 1000]
)
def test_what_is_no_address_of_a_parameter_is_refused(path):
    with pytest.raises(ValidationError):
        Setting(path=path, value=1)


@pytest.mark.parametrize("path", ["", "a", "a/b/c", "a/"])
def test_what_is_no_address_of_a_policy_is_refused(path):
    with pytest.raises(ValidationError, match="stack/policy"):
        Setting(policy=path, value=1)


def test_the_json_schema_says_what_is_accepted():
    schema = Draft202012Validator(Setting.model_json_schema())

    for value in (True, 3, 2.5, "x", None):
        schema.validate({"path": "a/b/c", "policy": "a/b", "value": value})
    assert not schema.is_valid({"value": [1]})
    assert not schema.is_valid({"path": "a/b", "value": 1})
    assert not schema.is_valid({"policy": "a", "value": 1})
    assert not schema.is_valid({"value": 1, "other": 1})


def test_a_model_cannot_be_changed():
    with pytest.raises(ValidationError):
        Setting(value=1).value = 2


def test_a_page_is_part_of_a_list():
    assert Page(offset=2, limit=3).of(range(10)) == range(2, 5)
    assert list(Page(offset=20).of(range(10))) == []


def test_what_cannot_be_said_in_json_is_told_as_text():
    told = named({"wait": float("inf"), "cause": "x" * 2000, "state": "open"})

    assert told[0] == NamedValue(name="wait", value="inf")
    assert len(told[1].value) == 1000
    assert told[2].value == "open"
