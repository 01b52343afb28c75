"""What a restore would do to each topic: name, partitions, replicas, configuration during the load and after it.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from msgspec import Struct, structs

from include.engine.errors import Misconfigured, NotFound, Refused
from include.engine.systems.kafka.client import ConfigEntry
from include.engine.systems.kafka.detail import Saved
from include.engine.systems.kafka.grants import Grants
from include.engine.systems.kafka.grants import chosen as granted_with
from include.engine.systems.kafka.grants import warnings as without_grants

_FOREVER = str((1 << 63) - 1)
# While records are loaded nothing may delete them, compact them away, or give them another time.
LOADING: Mapping[str, str] = {
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "cleanup.policy": "delete",
    "message.timestamp.type": "CreateTime",
    "message.timestamp.before.max.ms": _FOREVER,
    "message.timestamp.after.max.ms": _FOREVER,
    "max.message.bytes": str(1 << 30),
    "segment.bytes": str(1 << 30),
    "segment.ms": _FOREVER,  # times that jump would roll a file per batch
}
# Names brokers or needs what another cluster may not have.
_NOT_CARRIED = (
    "leader.replication.throttled.replicas",
    "follower.replication.throttled.replicas",
    "remote.storage.enable",
    "remote.log.copy.disable",
    "remote.log.delete.on.disable",
    "local.retention.ms",
    "local.retention.bytes",
)
_LAST_MS = 253_402_300_799_000  # the year 9999: later ones, as those in microseconds, are in no calendar
_SOON_MS = 3_600_000  # what would be deleted within this time after a restore is of no use to anybody


class TopicDecision(Struct, frozen=True, kw_only=True):
    """What happens to one topic."""

    source: str
    name: str
    partitions: int
    factor: int
    configs: dict[str, str]  # after the load
    exists: bool = False


class Decisions(Struct, frozen=True, kw_only=True):
    """What a restore would do."""

    topics: tuple[TopicDecision, ...]
    until: int | None = None  # milliseconds
    append: bool = False
    grants: Grants | None = None
    warnings: tuple[str, ...] = ()


class Existing(Struct, frozen=True, kw_only=True):
    """A topic that the destination has already."""

    partitions: int
    records: int  # an upper bound: the sum of ends less beginnings


def decide(
    saved: Saved,
    *,
    only: Sequence[str],
    rename: Mapping[str, str],
    append: bool,
    until: int | None,
    brokers: int,
    existing: Mapping[str, Existing],
    resuming: frozenset[str],
    access: bool = False,
) -> Decisions:
    """Decide, or say why it cannot be done.

    :param brokers: of the destination
    :param existing: topics of the destination, by name
    :param resuming: topics of the destination that an earlier attempt at this restore has begun
    :param access: put back access rules and quotas
    :raises NotFound: when a topic is asked for that the backup does not have
    :raises Refused: when a topic of the destination holds records or has other partitions
    """
    topics = saved.detail.topics
    unknown = sorted({*only, *rename} - set(topics))
    if unknown:
        raise NotFound(
            f"the backup {saved.manifest.id} has no topic {', '.join(unknown)}",
            hint=f"it has: {', '.join(sorted(topics))}",
        )
    chosen = sorted(set(only) or set(topics))
    names = {topic: rename.get(topic, topic) for topic in chosen}
    twice = sorted({name for name in names.values() if list(names.values()).count(name) > 1})
    if twice:
        raise Misconfigured(f"two topics would be restored as {', '.join(twice)}", hint="rename them differently")
    warnings = _reached(saved, chosen, until)
    decided = []
    for topic in chosen:
        name, detail = names[topic], topics[topic]
        found = existing.get(name)
        if found is not None:
            _admit(name, found, detail.partitions, append=append or name in resuming)
        factor = min(detail.factor, brokers)
        configs, said = _final(topic, detail.configs, factor)
        if factor < detail.factor:
            said.append(f"{name} gets {factor} replicas instead of {detail.factor}: there are {brokers} brokers")
        warnings += said
        decided.append(
            TopicDecision(
                source=topic,
                name=name,
                partitions=detail.partitions,
                factor=factor,
                configs=configs,
                exists=found is not None,
            )
        )
    declared = saved.detail.declared
    possible = granted_with(declared, names, whole=set(names) == set(topics))
    # To have put nothing back would prove nothing.
    grants = possible if access and (possible.acls or possible.quotas) else None
    warnings += without_grants(declared, grants)
    return Decisions(topics=tuple(decided), until=until, append=append, grants=grants, warnings=tuple(warnings))


def holding(decisions: Decisions, saved: Saved, now: datetime, *, defaults: Mapping[str, str]) -> Decisions:
    """Leave retention off where it would soon delete all of a partition that is restored, or much of it, and say so.

    :param defaults: of the destination, for topics that say nothing of their own
    """
    topics, warnings = [], list(decisions.warnings)
    for topic in decisions.topics:
        held = (
            {}
            if decisions.append
            else _would_expire(topic, saved, now, final={**defaults, **topic.configs}, until=decisions.until)
        )
        for key, limit in held.items():
            warnings.append(
                f"{topic.name}: {key} stays -1 instead of {limit}: it would delete at once what was restored; "
                "set it back when the records are no longer needed"
            )
        topics.append(structs.replace(topic, configs={**topic.configs, **dict.fromkeys(held, "-1")}))
    return structs.replace(decisions, topics=tuple(topics), warnings=tuple(warnings))


def expiring(decisions: Decisions, saved: Saved, now: datetime, *, there: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Name the limits of topics that are appended to which would delete at once what is appended: they are not ours to lift.

    :param there: what holds for each topic that is there, by its name
    """
    return [
        f"{topic.name}: {key} is {limit} there, and would delete at once what is appended: raise it first"
        for topic in decisions.topics
        if decisions.append and topic.name in there
        for key, limit in _would_expire(topic, saved, now, final=there[topic.name], until=decisions.until).items()
    ]


def back_to(configs: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Give what to set and what to reset so that a topic leaves the load with *configs*."""
    return {k: v for k, v in configs.items() if k in LOADING}, [k for k in LOADING if k not in configs]


def loading(configs: Mapping[str, str]) -> dict[str, str]:
    """Give the configuration of a topic while it is loaded."""
    return {**configs, **LOADING}


def _admit(name: str, found: Existing, partitions: int, *, append: bool) -> None:
    if found.partitions != partitions:
        raise Refused(
            f"the topic {name} has {found.partitions} partitions there, {partitions} in the backup",
            hint="restore under another name, or delete the topic: keys would move to other partitions",
        )
    if found.records and not append:
        raise Refused(
            f"the topic {name} is there and holds up to {found.records} records",
            hint="restore under another name, delete the topic, or ask for appending",
        )


def _final(topic: str, configs: Mapping[str, ConfigEntry], factor: int) -> tuple[dict[str, str], list[str]]:
    final = {
        key: entry.value
        for key, entry in configs.items()
        if entry.source == "DYNAMIC_TOPIC_CONFIG" and entry.value is not None and key not in _NOT_CARRIED
    }
    said = []
    if int(final.get("min.insync.replicas", "1")) > factor:
        said.append(f"{topic}: min.insync.replicas is lowered from {final['min.insync.replicas']} to {factor}")
        final["min.insync.replicas"] = str(factor)
    return final, said


def _would_expire(
    topic: TopicDecision, saved: Saved, now: datetime, *, final: Mapping[str, str], until: int | None
) -> dict[str, str]:
    """Give the limits that would delete what was restored as soon as they are switched on, or soon after."""
    if "delete" not in final.get("cleanup.policy", "delete"):
        return {}
    newest: dict[int, int] = {}
    size: dict[int, int] = {}
    for segment in saved.detail.segments:
        facts = segment.facts
        if facts.topic == topic.source and (until is None or facts.oldest <= until):
            time = facts.newest if until is None else min(facts.newest, until)
            newest[facts.partition] = max(newest.get(facts.partition, -1), time)
            size[facts.partition] = size.get(facts.partition, 0) + facts.raw_bytes
    held = {}
    milliseconds, limit = int(final.get("retention.ms", "-1")), int(final.get("retention.bytes", "-1"))
    edge = now.astimezone(UTC).timestamp() * 1000 - milliseconds + min(_SOON_MS, milliseconds // 2)
    if milliseconds >= 0 and any(0 <= time < edge for time in newest.values()):
        held["retention.ms"] = str(milliseconds)
    if limit >= 0 and any(found > limit for found in size.values()):
        held["retention.bytes"] = str(limit)
    return held


def _reached(saved: Saved, topics: Sequence[str], until: int | None) -> list[str]:
    """Name the topics of which no record is as old as *until*, so that they come back empty.

    :raises Refused: when none is of any topic
    """
    if until is None:
        return []
    oldest: dict[str, int] = {}
    for segment in saved.detail.segments:
        facts = segment.facts
        if facts.topic in topics:
            oldest[facts.topic] = min(oldest.get(facts.topic, facts.oldest), facts.oldest)
    empty = sorted(topic for topic, time in oldest.items() if time > until)
    if oldest and len(empty) == len(oldest):
        first = datetime.fromtimestamp(min(_LAST_MS, *oldest.values()) / 1000, UTC)
        raise Refused(
            f"no record of the backup {saved.manifest.id} is as old as that point: nothing would come back",
            hint=f"the oldest is of {first.isoformat()}; take an older backup, or a later point",
        )
    return [f"{topic} comes back empty: none of its records is as old as the point" for topic in empty]
