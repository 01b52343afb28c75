"""Damaged segments: verify names them, a drill fails, and a restore stops before it says that all is well."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from include.engine.errors import Corrupt
from include.engine.model import Entry, Verdict
from include.engine.sandbox.home import Sandbox
from include.engine.systems.kafka import groups
from include.engine.systems.kafka.rank import rank
from include.engine.systems.kafka.server import KafkaCluster
from tests.systems.kafka.stand import Stand

pytestmark = [pytest.mark.integration, pytest.mark.sabotage]
Damage = Callable[[Stand, Entry, Entry], None]


@pytest.fixture(scope="module")
def kafka(sandbox: Sandbox) -> Iterator[KafkaCluster]:
    """A broker for this module."""
    cluster = KafkaCluster(sandbox, "sabotage").start()
    yield cluster
    cluster.stop()


@pytest.fixture
def stand(kafka: KafkaCluster) -> Iterator[Stand]:
    stand = Stand(kafka)
    yield stand
    stand.clear()


def _overwrite(stand: Stand, entry: Entry, raw: bytes) -> None:
    stand.bucket.delete([entry.key])
    assert stand.bucket.create(entry.key, raw)


def truncated(stand: Stand, entry: Entry, _other: Entry) -> None:
    _overwrite(stand, entry, stand.bucket.read(entry.key)[:-10])


def flipped(stand: Stand, entry: Entry, _other: Entry) -> None:
    raw = bytearray(stand.bucket.read(entry.key))
    raw[len(raw) // 2] ^= 1
    _overwrite(stand, entry, bytes(raw))


def missing(stand: Stand, entry: Entry, _other: Entry) -> None:
    stand.bucket.delete([entry.key])


def swapped(stand: Stand, entry: Entry, other: Entry) -> None:
    mine, theirs = stand.bucket.read(entry.key), stand.bucket.read(other.key)
    _overwrite(stand, entry, theirs)
    _overwrite(stand, other, mine)


@pytest.mark.parametrize("damage", [truncated, flipped, missing, swapped])
def test_a_damaged_segment_is_named_by_verify_and_by_restore(stand: Stand, damage: Damage) -> None:
    topic = stand.topic("t")
    stand.produce(topic, 300)
    manifest = stand.backup()
    segments = [entry for entry in manifest.entries if entry.name.endswith(".parquet")]
    damage(stand, segments[0], segments[1])
    verification = stand.verify(manifest)
    assert verification.verdict is Verdict.FAIL
    assert any(segments[0].key in problem for problem in verification.problems)
    with pytest.raises(Corrupt, match="objects"):
        stand.restore(rename={topic: topic + "_back"})


@pytest.mark.parametrize("damage", [truncated, flipped, missing, swapped])
def test_nothing_builds_on_what_was_found_damaged_and_it_is_mended_where_it_lies(stand: Stand, damage: Damage) -> None:
    topic = stand.topic("t")
    stand.produce(topic, 300)
    damaged = stand.backup()
    segments = [entry for entry in damaged.entries if entry.name.endswith(".parquet")]
    damage(stand, segments[0], segments[1])
    assert stand.verify(damaged).verdict is Verdict.FAIL
    after = stand.backup()
    assert after.detail["new_records"] == 300
    assert any("was found damaged" in note for note in after.notes)
    assert [stand.verify(one).verdict for one in (after, damaged)] == [Verdict.PASS, Verdict.PASS]
    stand.produce(topic, 30, start=300)
    assert stand.backup().detail["new_records"] == 30
    stand.restore(rename={topic: topic + "_back"})
    assert stand.seen(topic + "_back") == stand.seen(topic)


def test_a_full_backup_mends_a_segment_that_nobody_has_read_back_yet(stand: Stand) -> None:
    topic = stand.topic("t", partitions=1)
    stand.produce(topic, 300, partitions=1)
    manifest = stand.backup()
    flipped(stand, next(entry for entry in manifest.entries if entry.name.endswith(".parquet")), manifest.entries[0])
    full = stand.backup(full=True)
    assert stand.verify(full).verdict is Verdict.PASS
    stand.restore(rename={topic: topic + "_back"})
    assert stand.seen(topic + "_back") == stand.seen(topic)


def test_a_damaged_segment_fails_the_drill(stand: Stand) -> None:
    topic = stand.topic("t", partitions=1)
    stand.produce(topic, 300, partitions=1)
    manifest = stand.backup()
    flipped(stand, manifest.entries[1], manifest.entries[0])
    report = stand.drill(manifest)
    assert report.verdict is Verdict.FAIL
    assert any(manifest.entries[1].key in check.detail for check in report.checks)


def test_groups_that_are_put_at_another_record_fail_the_drill(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is committed is what was computed: only the record itself tells that it was computed wrongly."""
    topic = stand.topic("t", partitions=1)
    stand.produce(topic, 300, partitions=1)
    stand.commit("g", {(topic, 0): 100})
    stand.commit("done", {(topic, 0): 300})
    manifest = stand.backup()
    sound = stand.drill(manifest)
    assert sound.verdict is Verdict.PASS, sound.checks

    def wrong(position: int, *args: Any, **kwargs: Any) -> int:
        return rank(position, *args, **kwargs) - 1

    monkeypatch.setattr(groups, "rank", wrong)
    report = stand.drill(manifest)
    assert report.verdict is Verdict.FAIL
    failed = {check.name.partition(": ")[2]: check.detail for check in report.checks if check.verdict is Verdict.FAIL}
    assert set(failed) == {"next records"}
    assert all(stand.prefix + group in failed["next records"] for group in ("g", "done"))
