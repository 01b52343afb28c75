"""Looks at restored topics: names, configurations, counts, every record's bytes, and where each group would continue."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from include.engine.contracts import Connection, Reader
from include.engine.errors import MainstayError, TransientError
from include.engine.model import Check, Verdict
from include.engine.systems.kafka import groups
from include.engine.systems.kafka.client import EARLIEST, LATEST, Admin
from include.engine.systems.kafka.decisions import Decisions
from include.engine.systems.kafka.declared import own_configs, topic_configs
from include.engine.systems.kafka.detail import Saved
from include.engine.systems.kafka.grants import Grants, apply, differences
from include.engine.systems.kafka.group_proof import strayed
from include.engine.systems.kafka.groups import Moved
from include.engine.systems.kafka.loading import LoadedPartition
from include.engine.systems.kafka.resuming import read_back

Problems = list[str]
READERS = 2  # processes that read restored records back


def after_load(admin: Admin, connection: Connection, partitions: Sequence[LoadedPartition]) -> Iterator[Check]:
    """Check what must be looked at before retention is switched on again: counts and contents."""
    total = sum(partition.records for partition in partitions)
    yield _check("counts", f"{total} records in {len(partitions)} partitions", lambda: _counts(admin, partitions))
    yield _check("contents", f"every byte of {total} records, in order", lambda: _contents(connection, partitions))


def reading_on(
    admin: Admin,
    connection: Connection,
    saved: Saved,
    partitions: Sequence[LoadedPartition],
    moved: Sequence[Moved],
    *,
    until: int | None,
    reader: Reader,
) -> Check:
    """Check that every group's next record is the one that it was.  Before retention is switched on again."""
    return _check(
        "next records",
        f"{len(moved)} positions, each before the record that it was before",
        lambda: strayed(admin, connection, saved, partitions, moved, until=until, reader=reader),
    )


def after_finish(admin: Admin, decisions: Decisions, moved: Sequence[Moved]) -> Iterator[Check]:
    """Check what the restore leaves: topics, configurations and groups."""
    count = len(decisions.topics)
    yield _check("topics", f"{count} topics with their partitions", lambda: _topics(admin, decisions))
    yield _check("configurations", f"those of {count} topics", lambda: _configs(admin, decisions))
    names = {one.group for one in moved}
    yield _check(
        "groups", f"{len(moved)} positions of {len(names)} groups, exactly", lambda: groups.differences(admin, moved)
    )


def granted(admin: Admin, grants: Grants) -> Iterator[Check]:
    """Put access rules and quotas back, and see that they are there."""

    def look() -> Problems:
        apply(admin, grants)
        return differences(admin, grants)

    yield _check("access", str(grants), look)


def _check(name: str, what: str, look: Callable[[], Problems]) -> Check:
    began = time.monotonic()
    try:
        problems = look()
    except MainstayError as error:
        verdict = Verdict.UNVERIFIED if isinstance(error, TransientError) else Verdict.FAIL
        return Check(name=name, verdict=verdict, detail=str(error), seconds=time.monotonic() - began)
    told = "; ".join(problems[:5]) + (f" and {len(problems) - 5} more" if len(problems) > 5 else "")
    return Check(
        name=name,
        verdict=Verdict.FAIL if problems else Verdict.PASS,
        detail=told or what,
        seconds=time.monotonic() - began,
    )


def _topics(admin: Admin, decisions: Decisions) -> Problems:
    found = admin.topics([topic.name for topic in decisions.topics])
    problems = [f"{topic.name} is missing" for topic in decisions.topics if topic.name not in found]
    return problems + [
        f"{topic.name} has {len(found[topic.name].partitions)} partitions instead of {topic.partitions}"
        for topic in decisions.topics
        if topic.name in found and len(found[topic.name].partitions) != topic.partitions
    ]


def _configs(admin: Admin, decisions: Decisions) -> Problems:
    found = topic_configs(admin, [topic.name for topic in decisions.topics])
    return [
        f"{topic.name}: {own_configs(found.get(topic.name, {}))} instead of {topic.configs}"
        for topic in decisions.topics
        if not (decisions.append and topic.exists) and own_configs(found.get(topic.name, {})) != topic.configs
    ]


def _counts(admin: Admin, partitions: Sequence[LoadedPartition]) -> Problems:
    ends = admin.offsets([p.tp for p in partitions], LATEST)
    begins = admin.offsets([p.tp for p in partitions], EARLIEST)
    return [
        f"{p.tp} has [{begins[p.tp]}, {ends[p.tp]}) instead of {p.records} records from {p.base}"
        for p in partitions
        if ends[p.tp] != p.base + p.records or begins[p.tp] > p.base
    ]


def _contents(connection: Connection, partitions: Sequence[LoadedPartition]) -> Problems:
    """Read every restored record back, cut where the saved segments were cut, and compare digests."""
    wanted = {p.tp: (p.base, p.base + p.records) for p in partitions if p.records}
    cuts = {p.tp: [piece.records for piece in p.pieces if piece.records] for p in partitions}
    found = read_back(connection, wanted, cuts, READERS)
    return [
        f"{p.tp}: the records differ from those that were saved"
        for p in partitions
        if found.get(p.tp, []) != [(piece.records, piece.content) for piece in p.pieces if piece.records]
    ]
