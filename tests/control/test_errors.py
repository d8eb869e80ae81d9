import pickle

import pytest
from pydantic import BaseModel, Field, ValidationError, field_validator

from ninelives_control.errors import AddressError, Code, CommandError, invalid, translated
from ninelives_control.model import Arguments
from ninelives_grpc.errors import ConfigError, RevisionError, UnknownNameError


class Change(Arguments):
    path: str = Field(description="Where.")
    value: int = Field(le=10, description="What.")
    expected_revision: int | None = Field(default=None, description="Which.")

    @field_validator("path")
    @classmethod
    def named(cls, path: str) -> str:
        if not path:
            raise ValueError("must not be empty")
        return path


class Bare(BaseModel):
    match: str = ""


CHANGE = Change(path="shop/rety/max", value=1, expected_revision=3)


def test_errors_of_the_data_plane_have_a_code_and_the_argument_at_fault():
    cases = [
        (ConfigError("too much", path="shop/retry/max"), Code.INVALID_ARGUMENT, "value"),
        (UnknownNameError("policy", "rety", ["retry"]), Code.NOT_FOUND, "path"),
        (UnknownNameError("key", "other", []), Code.NOT_FOUND, ""),
        (RevisionError("shop/retry", 3, 5), Code.CONFLICT, "expected_revision"),
    ]
    for error, code, field in cases:
        told = translated(error, CHANGE)

        assert (told.code, told.field) == (code, field)
        assert told.message == str(error)


def test_a_command_without_such_arguments_names_none():
    for error in (ConfigError("no"), RevisionError("shop", 1, 2)):
        assert translated(error, Bare()).field == ""
        assert translated(error, None).field == ""


def test_a_conflict_tells_the_actual_revision():
    assert translated(RevisionError("shop/retry", 3, 5), CHANGE).revision == 5


def test_what_is_no_error_of_ours_is_not_translated():
    assert translated(ValueError("secret"), CHANGE) is None


@pytest.mark.parametrize(
    ("raw", "message", "field"),
    [
        ({}, "path is missing", "path"),
        ({"path": "x", "value": 11}, "value must be less than or equal to 10", "value"),
        ({"path": "x", "value": "y"}, "value must be a valid integer, unable to", "value"),
        ({"path": "", "value": 1}, "path must not be empty", "path"),
        ({"path": "x", "value": 1, "vale": 2}, "no argument named 'vale'; did you mean", "vale"),
    ],
)
def test_the_first_finding_of_pydantic_becomes_a_sentence(raw, message, field):
    with pytest.raises(ValidationError) as caught:
        Change.model_validate(raw)

    told = invalid(caught.value, Change.model_fields)

    assert (told.code, told.field) == (Code.INVALID_ARGUMENT, field)
    assert told.message.startswith(message)


def test_what_callers_wrote_is_shortened():
    error = CommandError(Code.NOT_FOUND, "x" * 10_000, field="y" * 10_000)

    assert len(error.message) == len(error.field) == 500


def test_errors_survive_pickle():
    error = CommandError(Code.CONFLICT, "changed", field="value", revision=4, rule="r")

    copy = pickle.loads(pickle.dumps(error))

    assert vars(copy) == vars(error)
    assert pickle.loads(pickle.dumps(AddressError("in use", port=5))).port == 5
