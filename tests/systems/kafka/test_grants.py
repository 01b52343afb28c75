"""Which access rules go with restored topics, and what is left for a person."""

from __future__ import annotations

from include.engine.systems.kafka.declared import Acl, Declared, Quota
from include.engine.systems.kafka.grants import Grants, chosen, warnings

ON_A = Acl("TOPIC", "a", "LITERAL", "User:u", "*", "READ", "ALLOW")
ON_B = Acl("TOPIC", "b", "LITERAL", "User:u", "*", "READ", "ALLOW")
ON_ALL = Acl("TOPIC", "", "PREFIXED", "User:u", "*", "DESCRIBE", "ALLOW")
ON_GROUP = Acl("GROUP", "a", "LITERAL", "User:u", "*", "READ", "ALLOW")
QUOTA = Quota({"user": "u"}, {"producer_byte_rate": 1.0})
DECLARED = Declared(acls=(ON_A, ON_B, ON_ALL, ON_GROUP), quotas=(QUOTA,), scram_users=("u", "v"))


def test_a_whole_restore_puts_everything_back_and_rules_follow_a_topic_to_its_new_name() -> None:
    found = chosen(DECLARED, {"a": "new", "b": "b"}, whole=True)
    assert [rule.resource for rule in found.acls] == ["new", "b", "", "a"]
    assert found.quotas == (QUOTA,)


def test_a_selection_takes_only_the_rules_of_its_topics() -> None:
    assert chosen(DECLARED, {"b": "b"}, whole=False) == Grants(acls=(ON_B,))


def test_what_is_left_to_a_person_is_told_with_the_users_names() -> None:
    left = warnings(DECLARED, Grants(acls=(ON_B,)))
    assert left[0].startswith("not put back: 3 access rules and 1 quotas")
    assert left[1].startswith("2 SCRAM users")
    assert left[1].endswith(": u, v")
    assert warnings(Declared(), None) == []
