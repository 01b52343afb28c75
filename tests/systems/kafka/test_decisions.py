"""What a restore would do to each topic: replicas, minimum in sync, retention, and points before every record."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from include.engine.errors import Misconfigured, NotFound, Refused
from include.engine.model import Cut, Kind, Manifest, SourceIdentity, System, Target
from include.engine.systems.kafka.client import ConfigEntry
from include.engine.systems.kafka.cut import KafkaCut
from include.engine.systems.kafka.decisions import Decisions, Existing, back_to, decide, holding
from include.engine.systems.kafka.detail import KafkaDetail, Saved, SegmentRef, TopicDetail
from include.engine.systems.kafka.ranges import SegmentFacts

NOW = datetime(2026, 11, 23, tzinfo=UTC)
HOUR = 3_600_000
WEEK = {"retention.ms": str(7 * 24 * HOUR)}


def ago(hours: float) -> int:
    return int((NOW - timedelta(hours=hours)).timestamp() * 1000)


def segment(topic: str, *, oldest: int, newest: int, raw_bytes: int = 1000) -> SegmentRef:
    facts = SegmentFacts(
        topic=topic,
        partition=0,
        start=0,
        stop=10,
        first=0,
        last=9,
        records=10,
        raw_bytes=raw_bytes,
        oldest=oldest,
        newest=newest,
        content="",
    )
    return SegmentRef(entry=topic, facts=facts)


def saved(*segments: SegmentRef, factor: int = 3, **configs: str) -> Saved:
    """A backup of the topics a and b, both with *configs*."""
    own = {k.replace("_", "."): ConfigEntry(value=v, source="DYNAMIC_TOPIC_CONFIG") for k, v in configs.items()}
    own["segment.bytes"] = ConfigEntry(value="1", source="STATIC_BROKER_CONFIG")
    topics = {name: TopicDetail(id=name, partitions=2, factor=factor, configs=own) for name in ("a", "b")}
    detail = KafkaDetail(topics=topics, segments=segments)
    cut = KafkaCut(cluster="c", topics={}, groups={})
    manifest = Manifest(
        id="20261123T000000Z",
        target=Target(System.KAFKA, "main"),
        kind=Kind.FULL,
        started=NOW,
        finished=NOW,
        recoverable_from=NOW,
        recoverable_to=NOW,
        cut=Cut(at=NOW, position="offsets", detail=msgspec.to_builtins(cut)),
        entries=(),
        source=SourceIdentity(identity="c", version="4"),
    )
    return Saved(manifest=manifest, detail=detail, cut=cut, entries={})


def decided(
    backup: Saved,
    *,
    brokers: int = 3,
    until: int | None = None,
    only: tuple[str, ...] = (),
    append: bool = False,
    rename: dict[str, str] | None = None,
    existing: dict[str, Existing] | None = None,
    resuming: frozenset[str] = frozenset(),
) -> Decisions:
    return decide(
        backup,
        only=only,
        rename=rename or {},
        append=append,
        until=until,
        brokers=brokers,
        existing=existing or {},
        resuming=resuming,
    )


def test_replicas_and_their_minimum_are_lowered_to_the_brokers_that_there_are_and_it_is_told() -> None:
    backup = saved(min_insync_replicas="2", retention_ms="5")
    whole = decided(backup)
    assert [(topic.factor, topic.configs) for topic in whole.topics] == [
        (3, {"min.insync.replicas": "2", "retention.ms": "5"})
    ] * 2
    assert whole.warnings == ()
    (alone,) = decided(backup, brokers=1, only=("a",)).topics
    assert (alone.factor, alone.configs["min.insync.replicas"]) == (1, "1")
    assert decided(backup, brokers=1, only=("a",)).warnings == (
        "a: min.insync.replicas is lowered from 2 to 1",
        "a gets 1 replicas instead of 3: there are 1 brokers",
    )


def test_a_topic_that_is_there_is_refused_unless_it_is_empty_appended_to_or_begun_by_an_earlier_attempt() -> None:
    backup = saved()
    full = {"a": Existing(partitions=2, records=5)}
    with pytest.raises(Refused, match="up to 5 records"):
        decided(backup, existing=full)
    assert decided(backup, existing=full, append=True).topics[0].exists
    assert decided(backup, existing=full, resuming=frozenset({"a"})).topics[0].exists
    assert decided(backup, existing={"a": Existing(partitions=2, records=0)}).topics[0].exists
    with pytest.raises(Refused, match="3 partitions there, 2 in the backup"):
        decided(backup, existing={"a": Existing(partitions=3, records=0)}, append=True)


def test_names_that_are_not_there_or_fall_together_are_refused() -> None:
    with pytest.raises(NotFound, match="has no topic c"):
        decided(saved(), only=("c",))
    with pytest.raises(Misconfigured, match="two topics would be restored as b"):
        decided(saved(), rename={"a": "b"})


def test_a_point_before_every_record_is_refused_and_one_before_a_topics_records_is_told() -> None:
    backup = saved(segment("a", oldest=ago(5), newest=ago(4)), segment("b", oldest=ago(3), newest=ago(1)))
    with pytest.raises(Refused, match="nothing would come back") as refusal:
        decided(backup, until=ago(6))
    assert "2026-11-22T19:00:00" in refusal.value.hint
    assert decided(backup, until=ago(4)).warnings == ("b comes back empty: none of its records is as old as the point",)
    assert decided(backup, until=ago(2)).warnings == ()
    assert decided(saved(), until=ago(6)).warnings == ()  # topics that were empty come back as they were


@pytest.mark.parametrize(
    ("own", "hours", "held"),
    [
        ({"retention_ms": str(48 * HOUR)}, 47.5, {"retention.ms"}),
        ({"retention_ms": str(48 * HOUR)}, 46.5, set()),
        ({"retention_ms": "-1"}, 9999, set()),
        ({"retention_ms": "1000", "cleanup_policy": "compact"}, 9999, set()),
        ({"retention_ms": "1000", "cleanup_policy": "compact,delete"}, 9999, {"retention.ms"}),
        ({}, 7 * 24 - 2, set()),
        ({}, 7 * 24 + 2, {"retention.ms"}),  # the brokers' own
        ({"retention_ms": "-1", "retention_bytes": "999"}, 0, {"retention.bytes"}),
        ({"retention_ms": "-1", "retention_bytes": "1000"}, 0, set()),
    ],
)
def test_a_limit_that_would_soon_delete_what_came_back_stays_off(
    own: dict[str, str], hours: float, held: set[str]
) -> None:
    backup = saved(segment("a", oldest=ago(hours + 1), newest=ago(hours)), factor=3, **own)
    before = decided(backup, only=("a",))
    after = holding(before, backup, NOW, defaults=WEEK)
    assert {key for key in held if after.topics[0].configs.get(key) == "-1"} == held
    assert len(after.warnings) == len(held)
    if not held:
        assert after == before
    assert holding(msgspec.structs.replace(before, append=True), backup, NOW, defaults=WEEK).warnings == ()


def test_of_a_point_in_time_only_the_records_up_to_it_count() -> None:
    backup = saved(segment("a", oldest=ago(60), newest=ago(1)), retention_ms=str(48 * HOUR))
    found = holding(decided(backup, only=("a",), until=ago(50)), backup, NOW, defaults={})
    assert found.topics[0].configs["retention.ms"] == "-1"


def test_what_the_load_has_set_is_put_back_or_reset() -> None:
    wanted, reset = back_to({"retention.ms": "5", "compression.type": "lz4"})
    assert wanted == {"retention.ms": "5"}
    assert "cleanup.policy" in reset
    assert "retention.ms" not in reset
