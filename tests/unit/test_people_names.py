"""Who stands behind a name: a person's sessions and tokens are one."""

from dashboard.people.names import named, person


def test_a_token_stands_for_its_owner_and_without_one_for_itself() -> None:
    assert person("ann") == person(named("tt_AbCdEf1", "ann")) == person(named("tt_GhIjKl2", "ann")) == "ann"
    assert person(named("tt_AbCdEf1", "Ann of Green Gables")) == "Ann of Green Gables"
    assert person(named("tt_AbCdEf1", None)) == "token tt_AbCdEf1"
    assert person("Ann of Green Gables") == "Ann of Green Gables"
