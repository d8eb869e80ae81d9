import pytest

from ninelives_control.authorization import rules
from ninelives_control.authorization.rules import DEFAULT_RULES, Rule, Verdict, load
from ninelives_control.command import Effect
from ninelives_control.identity.identity import Role
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
    loaded = load(written(tmp_path, "include_defaults = true\n" + GOOD))

    assert loaded[2:] == DEFAULT_RULES


def test_an_empty_file_allows_nothing(tmp_path):
    assert load(written(tmp_path, "")) == ()


def test_the_rules_that_the_documentation_shows_are_in_order(tmp_path):
    example = rules.__doc__.partition("include_defaults")[2].partition("\n\nThe control")[0]

    loaded = load(written(tmp_path, "include_defaults" + example))

    assert [rule.id for rule in loaded[:3]] == [
        "payments-is-for-people",
        "agents-tune-timeouts-with-care",
        "no-changes-on-friday-evening",
    ]
    assert (loaded[1].step, loaded[1].reason_required, loaded[1].changes_per_hour) == (2, True, 10)
    assert loaded[1].schedule.text.endswith("thu and fri (Europe/Berlin)")


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
        (RULE + "step = 0.5", "rules[0]: rule 'x': step must be more than 1, not 0.5"),
        (RULE + "changes_per_hour = 0", "changes_per_hour must be from 1 to 10000, not 0"),
        (RULE + 'hours = "9-17"', 'hours must be two times such as "09:00-17:00"'),
        (RULE + 'hours = "09:00-09:00"', "hours must be two times"),
        (RULE + 'hours = "24:00-25:00"', "hours must be two times"),
        (RULE + 'hours = "09:60-10:00"', "hours must be two times"),
        (RULE + 'days = ["monday"]', "rules[0]: days.0 must be 'mon', 'tue'"),
        (RULE + 'timezone = "Europe/Berlin"', "timezone belongs to hours or days"),
        (RULE + 'days = ["mon"]\ntimezone = "Moon/Base"', "timezone must be a name that this"),
        (RULE + 'days = ["mon"]\ntimezone = "../x"', "timezone must be a name that this"),
        (RULE + 'days = ["mon"]\ntimezone = "Europe"', "timezone must be a name that this"),
        (RULE + 'verdict = "deny"\nstep = 2', "belong to a rule that allows"),
        (RULE + 'verdict = "deny"\nreason_required = true', "belong to a rule that allows"),
        (RULE + 'verdict = "deny"\nchanges_per_hour = 2', "belong to a rule that allows"),
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
