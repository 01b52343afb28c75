"""Damaged parts of a set with a stream: its notes, and a manifest in another one's place; found by verify, and before a restore."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from include.engine.contracts import Connection, Stop
from include.engine.errors import Corrupt, Unreachable
from include.engine.model import DestinationKind, Restored, SetManifest, System, Target, Verdict, backup_id
from include.engine.store.bucket import Bucket
from include.engine.store.catalog import Catalog
from include.engine.systems.spark.backup import NOTES, SparkSource, open_source
from include.engine.systems.spark.restore import SparkRestore, open_engine
from include.engine.systems.spark.settings import Settings
from include.engine.verbs import backup, restore, verify
from include.engine.verbs.pipeline import Pipeline
from tests.alone import alone
from tests.estate import Quiet, clock
from tests.systems.spark.test_checkpoint import files

pytestmark = pytest.mark.sabotage
TARGET = Target(System.SPARK, "pond")
Damage = Callable[[Bucket, str], None]


class Pond:
    """A stream's checkpoint without its servers, and sets of it."""

    def __init__(self, folder: Path) -> None:
        self.checkpoint, self.there = folder / "checkpoint", folder / "restored"
        self.checkpoint.mkdir()
        self.settings = Settings.model_validate(
            {
                "checkpoint": f"file://{self.checkpoint}",
                "kafka": "kafka",
                "cassandra": "cassandra",
                "flows": {"users": {"shape": "users", "topic": "t", "table": "k.t"}},
            }
        )
        self.catalog = Catalog(Bucket.open(f"file://{folder / 'bucket'}"))
        self.taken = 0

    def get(self, name: str) -> Connection:
        raise Unreachable(f"there is no {name} here", hint="this test needs none")

    def source(self, target: Target) -> SparkSource:
        return open_source(target, self.settings, self)

    def engine(self, target: Target) -> SparkRestore:
        return open_engine(target, self.catalog, connections=self)

    def archive(self, target: Target) -> None:
        return None

    @property
    def pipeline(self) -> Pipeline:
        return alone(TARGET, self, self.catalog)

    def take(self, last: int) -> SetManifest:
        """Let the stream finish batch *last*, and take a set."""
        for path, raw in files(last).items():
            place = self.checkpoint / "users" / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(raw)
        set_id = backup_id(clock() + timedelta(seconds=self.taken))
        self.taken += 1
        backup.freeze(self.pipeline, set_id, [TARGET], clock=clock)
        backup.copy(self.pipeline, set_id, TARGET, progress=Quiet(), stop=Stop(), clock=clock)
        return backup.seal(self.pipeline, set_id, clock=clock)

    def restore(self, sealed: SetManifest) -> Restored:
        plan = restore.plan(
            self.pipeline,
            TARGET,
            backup=sealed.id,
            destination=DestinationKind.DIRECTORY,
            path=str(self.there),
            confirm=str(TARGET),
        )
        return restore.restore(
            self.pipeline, plan, reason="a test damages it", by="tests", progress=Quiet(), stop=Stop(), clock=clock
        )


@pytest.fixture
def pond(tmp_path: Path) -> Pond:
    return Pond(tmp_path)


def truncated(bucket: Bucket, key: str) -> None:
    _overwrite(bucket, key, bucket.read(key)[:-10])


def flipped(bucket: Bucket, key: str) -> None:
    raw = bytearray(bucket.read(key))
    raw[len(raw) // 2] ^= 1
    _overwrite(bucket, key, bytes(raw))


def missing(bucket: Bucket, key: str) -> None:
    bucket.delete([key])


def _overwrite(bucket: Bucket, key: str, raw: bytes) -> None:
    bucket.delete([key])
    assert bucket.create(key, raw)


@pytest.mark.parametrize("damage", [truncated, flipped, missing])
def test_damaged_notes_are_named_and_never_take_the_place_of_a_checkpoint(pond: Pond, damage: Damage) -> None:
    older, newer = pond.take(2), pond.take(5)
    assert pond.restore(older).verdict is Verdict.PASS
    manifest = pond.catalog.backup(TARGET, newer.id)
    (notes,) = [entry for entry in manifest.entries if entry.name == NOTES]
    damage(pond.catalog.bucket, notes.key)

    found = verify.verify_part(pond.pipeline, TARGET, newer.id, progress=Quiet(), stop=Stop(), clock=clock)
    assert found.verdict is Verdict.FAIL
    assert any(notes.key in problem for problem in found.problems)
    with pytest.raises(Corrupt, match=re.escape(notes.key)):
        pond.restore(newer)
    # What was there before is there still: reading comes before writing.
    assert (pond.there / "users" / "commits" / "2").exists()
    assert not (pond.there / "users" / "commits" / "5").exists()
    assert pond.restore(older).verdict is Verdict.PASS


def test_an_older_manifest_in_the_place_of_a_newer_one_is_found_by_the_set(pond: Pond) -> None:
    older, newer = pond.take(2), pond.take(5)
    bucket = pond.catalog.bucket
    assert {check.verdict for check in verify.check_set(pond.pipeline, newer.id)} == {Verdict.PASS}
    theirs = bucket.read(pond.catalog.manifest_key(TARGET, older.id))
    swapped = theirs.replace(older.id.encode(), newer.id.encode())  # as somebody would who wants it not to be seen
    _overwrite(bucket, pond.catalog.manifest_key(TARGET, newer.id), swapped)

    found = [check for check in verify.check_set(pond.pipeline, newer.id) if check.verdict is Verdict.FAIL]
    assert any(str(TARGET) in f"{check.name} {check.detail}" for check in found)
    with pytest.raises(Corrupt, match="spark/pond"):
        pond.restore(newer)
    assert not pond.there.exists()
