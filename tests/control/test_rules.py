import pytest

from ninelives_control.command import Effect
from ninelives_control.identity import Role
from ninelives_control.rules import DEFAULT_RULES, Rule, Verdict, load
from ninelives_grpc.errors import ConfigError

GOOD = """
[[rules]]
id = "payments"
roles = ["agent", "operator"]
verdict = "deny"
commands = ["set_*"]
effects = ["change"]
paths = ["payments/**"]

[[rules]]
id = "tune"
roles = ["agent"]
factor = 2
minimum = 0.5
maximum = 100
"""


def written(tmp_path, text):
    path = tmp_path / "rules.toml"
    path.write_text(text)
    return path


def test_rules_are_read_from_a_file(tmp_path):
    first, second = load(written(tmp_path, GOOD))

    assert first == Rule(
        id="payments",
        roles=(Role.AGENT, Role.OPERATOR),
        verdict=Verdict.DENY,
        commands=("set_*",),
        effects=(Effect.CHANGE,),
        paths=("payments/**",),
    )
    assert (second.factor, second.minimum, second.maximum) == (2.0, 0.5, 100.0)
    assert second.bounded
    assert not first.bounded


def test_rules_of_a_file_join_the_default_ones_when_it_says_so(tmp_path):
    rules = load(written(tmp_path, "include_defaults = true\n" + GOOD))

    assert rules[2:] == DEFAULT_RULES


def test_an_empty_file_allows_nothing(tmp_path):
    assert load(written(tmp_path, "")) == ()


RULE = '[[rules]]\nid = "x"\nroles = ["agent"]\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[rules", "rules.toml: is not TOML"),
        ("rule = []", "rules.toml: takes [[rules]] and include_defaults"),
        ("include_defaults = 1", "rules.toml: takes [[rules]] and include_defaults"),
        ("rules = 3", "rules.toml: takes [[rules]] and include_defaults"),
        ('[[rules]]\nroles = ["agent"]', "rules[0]: id is missing"),
        (RULE + RULE.replace("agent", "king"), "rules[1]: roles.0 must be 'viewer'"),
        (RULE + 'comands = ["x"]', "rules[0]: no field named 'comands'; did you mean commands"),
        (RULE + 'effects = ["write"]', "rules[0]: effects.0 must be 'read', 'change'"),
        (RULE + RULE, "a second rule 'x'"),
        (RULE + "factor = 1", "rules[0]: rule 'x': factor must be more than 1, not 1"),
        (RULE + "minimum = 2\nmaximum = 1", "minimum 2 must not be more than maximum 1"),
        (RULE + "minimum = nan", "must be finite"),
        (RULE + 'verdict = "deny"\nfactor = 2', "belong to a rule that allows"),
        (RULE + "paths = []", "paths must not be empty"),
        (RULE.replace('"x"', '""'), "id must not be empty"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path, text, message):
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, text))

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot be read"):
        load(tmp_path / "nowhere.toml")
