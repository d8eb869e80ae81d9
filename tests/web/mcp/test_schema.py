import json

from jsonschema import Draft202012Validator
from pydantic import BaseModel, Field

from ninelives_control.transports.mcp.schema import inlined
from ninelives_control.transports.mcp.tools import tool_of


class Leaf(BaseModel):
    title: str = Field(description="A field that has the name of a keyword.")
    properties: int = Field(default=1, examples=[{"title": "kept"}])


class Branch(BaseModel):
    """A branch."""

    first: Leaf = Field(description="The first.")
    others: list[Leaf]


class Node(BaseModel):
    children: list["Node"]
    leaf: Leaf


class Other(BaseModel):
    back: "Mutual | None"


class Mutual(BaseModel):
    other: Other
    node: Node


def test_references_are_replaced_by_what_they_refer_to():
    schema = inlined(Branch.model_json_schema())

    assert "$ref" not in json.dumps(schema)
    assert "$defs" not in schema
    assert schema["properties"]["first"]["description"] == "The first."
    assert schema["properties"]["first"]["properties"]["title"]["type"] == "string"
    assert schema["properties"]["others"]["items"]["required"] == ["title"]


def test_titles_go_but_not_the_fields_and_values_of_that_name():
    schema = inlined(Leaf.model_json_schema())

    assert "title" not in schema
    assert set(schema["properties"]) == {"title", "properties"}
    assert "title" not in schema["properties"]["title"]
    assert schema["properties"]["properties"]["examples"] == [{"title": "kept"}]


def test_what_contains_itself_stays_a_reference():
    for model in (Node, Mutual):
        schema = inlined(model.model_json_schema())
        Draft202012Validator.check_schema(schema)

        leaf = {"title": "x"}
        good = {"children": [{"children": [], "leaf": leaf}], "leaf": leaf}
        bad = {"children": [{"children": [], "leaf": {}}], "leaf": leaf}
        if model is Mutual:
            good, bad = ({"other": {"back": None}, "node": node} for node in (good, bad))
        assert Draft202012Validator(schema).is_valid(good)
        assert not Draft202012Validator(schema).is_valid(bad)


def test_a_result_that_contains_itself_can_be_checked():
    info = {
        "name": "grow",
        "summary": "Grow.",
        "effect": "read",
        "arguments_schema": json.dumps(Leaf.model_json_schema()),
        "result_schema": json.dumps(Node.model_json_schema()),
    }

    output = Draft202012Validator(tool_of(info).output_schema)

    assert output.is_valid({"children": [], "leaf": {"title": "x"}})
    assert output.is_valid({"code": "internal", "message": "no", "field": ""})
    assert not output.is_valid({"children": [{}], "leaf": {"title": "x"}})
    assert not output.is_valid({"code": "whatever", "message": "no", "field": ""})
