"""What was typed for a set reaches the part that it was meant for, or is refused."""

from __future__ import annotations

from typing import Any

import pytest

from include.engine.errors import Misconfigured
from include.engine.model import DestinationKind, Target, waves
from include.engine.verbs.wishes import Wish, Wishes

KAFKA, CASSANDRA, POSTGRES = map(Target.parse, ("kafka/main", "cassandra/main", "postgres/main"))
PARTS = [CASSANDRA, KAFKA, POSTGRES]


def asked(destination: str = "directory", **words: Any) -> dict[Target, Wish]:
    return Wishes(destination=DestinationKind(destination), **words).of_parts(PARTS)


def test_each_part_goes_to_its_server_or_to_a_folder_of_its_own() -> None:
    found = asked("server", path="/srv/r", servers=["kafka/main:k2", "postgres/main:spare"])
    assert (found[KAFKA].destination, found[KAFKA].server) == (DestinationKind.SERVER, "k2")
    assert (found[POSTGRES].destination, found[POSTGRES].server) == (DestinationKind.SERVER, "spare")
    assert (found[CASSANDRA].destination, found[CASSANDRA].path) == (DestinationKind.DIRECTORY, "/srv/r/cassandra-main")


def test_only_what_is_asked_for_is_restored() -> None:
    found = asked(path="/r", only=["kafka/main:t1", "kafka/main:t2", "postgres/main"], rename=["kafka/main:t1=t3"])
    assert set(found) == {KAFKA, POSTGRES}
    assert (found[KAFKA].only, found[KAFKA].rename) == (("t1", "t2"), {"t1": "t3"})
    assert found[POSTGRES].only == ()


def test_a_name_that_may_be_overwritten_counts_for_all_parts_or_for_one() -> None:
    found = asked(path="/r", confirm=["spare", "kafka/main", "cassandra/main:c"])
    assert found[KAFKA].confirm == ("spare", "kafka/main")
    assert found[CASSANDRA].confirm == ("spare", "c")
    assert found[POSTGRES].confirm == ("spare",)


@pytest.mark.parametrize(
    "words",
    [
        {"path": "/r", "only": ["t1"]},
        {"path": "/r", "rename": ["a=b"]},
        {"path": "/r", "only": ["kafka/other:t1"]},
        {"destination": "server", "servers": ["spare"]},
        {"destination": "server", "servers": ["kafka/main:k2"]},
        {"path": "/r", "servers": ["kafka/main:k2", "kafka/main:k3"]},
    ],
    ids=["a part of whom", "a name of whom", "no such target", "whose server", "nowhere to go", "two servers"],
)
def test_what_is_not_clear_is_refused(words: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured):
        asked(**words)


def test_a_checkpoint_is_restored_after_the_log_that_it_reads() -> None:
    spark = Target.parse("spark/users_stream")
    assert waves([spark, POSTGRES, KAFKA, CASSANDRA]) == ((CASSANDRA, KAFKA, POSTGRES), (spark,))
    assert waves([spark]) == ((spark,),)


def test_a_checkpoint_beside_sandboxes_needs_a_place_of_its_own() -> None:
    spark = Target.parse("spark/users_stream")
    wishes = Wishes(destination=DestinationKind.SANDBOX)
    assert wishes.of_parts([KAFKA])[KAFKA].destination is DestinationKind.SANDBOX
    with pytest.raises(Misconfigured, match="users_stream"):
        wishes.of_parts([KAFKA, spark])
