"""What a restore has begun is found by whoever goes on, and by nobody else."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

from include.engine.model import Target
from include.engine.store.bucket import Bucket
from include.engine.systems.cassandra.schema import Statement
from include.engine.systems.cassandra.selection import Selection
from include.engine.systems.cassandra.unfinished import Begun, Unfinished

NOW = datetime(2026, 11, 23, tzinfo=UTC)
INDEX = Statement(keyspace="ks", type="index", name="i", cql="CREATE INDEX i ON ks.t (v);")


def restore(bucket: Bucket, *tables: str, backup: str = "b", server: str = "s") -> Unfinished:
    chosen = Selection(tables=tuple(("ks", table) for table in tables), rename={})
    return Unfinished(bucket, Target.parse("cassandra/main"), backup, server, chosen)


def test_only_the_same_restore_finds_what_was_noted_and_for_a_day() -> None:
    bucket = Bucket.open(f"memory://{uuid.uuid4().hex}")
    begun = Begun(at=NOW, tables=("ks.t",), derived=(INDEX,))
    restore(bucket, "t").note(begun)
    assert restore(bucket, "t").find(NOW + timedelta(hours=23)) == begun
    assert restore(bucket, "t").find(NOW + timedelta(hours=25)) is None
    for other in (restore(bucket, "u"), restore(bucket, "t", backup="c"), restore(bucket, "t", server="r")):
        assert other.find(NOW) is None
    later = Begun(at=NOW + timedelta(days=3), tables=("ks.t",))
    restore(bucket, "t").note(later)
    assert restore(bucket, "t").find(later.at) == later
    restore(bucket, "t").forget()
    assert restore(bucket, "t").find(later.at) is None


def test_a_restore_has_a_name_of_its_own_which_it_has_again_when_it_is_repeated() -> None:
    bucket, other = (Bucket.open(f"memory://{uuid.uuid4().hex}") for _ in range(2))
    one = Selection(tables=(("ks", "t"),), rename={})
    target = Target.parse("cassandra/main")
    names = [
        Unfinished(*asked).name
        for asked in (
            (bucket, target, "b", "s", one),
            (bucket, Target.parse("cassandra/second"), "b", "s", one),
            (bucket, target, "c", "s", one),
            (bucket, target, "b", "r", one),
            (bucket, target, "b", "s", Selection(tables=(("ks", "u"),), rename={})),
            (bucket, target, "b", "s", Selection(tables=(("ks", "t"),), rename={"ks": "copy"})),
            (other, target, "b", "s", one),
        )
    ]
    assert len(set(names)) == len(names)
    assert Unfinished(bucket, target, "b", "s", Selection(tables=(("ks", "t"),), rename={})).name == names[0]
