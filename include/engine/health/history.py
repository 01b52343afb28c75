"""What was read and found, over time: enough for trends, reports and pages, and thinned with age.

Readings of two days stay as they are; older ones are thinned to the extremes of every half hour, then of every six hours; after
a year they go.  One transaction at a time changes findings, so that two sweeps at once tell nobody twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import Engine, delete, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import Connection as Session

from include.engine.contracts import Connection
from include.engine.health import tables
from include.engine.health.findings import Advanced, Change, Finding, State
from include.engine.health.looks import Look
from include.engine.health.tables import changes, findings, points, series, sweeps, tellings, transaction
from include.engine.health.thinning import thin
from include.engine.health.trends import Point
from include.engine.model import Reading, Verdict

_CLAIM = timedelta(
    minutes=5
)  # after which a change that somebody wanted to tell, and did not, is told by somebody else
_NEWS = timedelta(hours=6)  # what is older is told to nobody any more


class Sweep(Struct, frozen=True, kw_only=True):
    """One sweep that was made."""

    at: datetime
    seconds: float
    readings: int
    troubles: int
    verdict: Verdict


@dataclass(frozen=True)
class SeriesName:
    """What tells one series of readings from every other."""

    subject: str
    metric: str
    labels: str  # JSON, sorted
    unit: str = "1"


class History:
    """The database.

    :param where: what it is called in errors
    :param forgets: whether it ends with this process
    """

    def __init__(self, engine: Engine, where: str, *, forgets: bool = False) -> None:
        self._engine, self.where, self.forgets = engine, where, forgets

    @classmethod
    def in_file(cls, path: Path | None) -> History:
        """Open the SQLite file *path*, made when it is not there; one in memory when there is no path."""
        where = f"the history in {path}" if path else "the history in memory"
        engine = tables.sqlite(path)
        tables.prepare(engine, path, where)
        return cls(engine, where, forgets=path is None)

    @classmethod
    def in_postgres(cls, connection: Connection) -> History:
        """Open the history in the database of *connection*; its tables are made when they are not there."""
        where = f"the history in PostgreSQL at {connection.host}:{connection.port or 5432}"
        engine = tables.postgres(connection)
        tables.prepare(engine, None, where)
        return cls(engine, where)

    # sweeps ----------------------------------------------------------------------------------------------------------

    def conclude(
        self,
        looks: Sequence[Look],
        advance: Callable[[Mapping[str, Finding]], Advanced],
        verdict: Callable[[Advanced], Verdict],
        *,
        now: datetime,
        seconds: float,
        counted: bool = True,
    ) -> Advanced:
        """Store what a sweep has read, and take the findings one sweep further, all or nothing.

        :param advance: decides, from the findings that are known
        :param counted: whether it is a sweep of everything, made for its own sake: what proves that somebody watches
        """
        readings = [(look.subject, reading) for look in looks for reading in look.readings]
        with transaction(self._engine, self.where) as session:
            _store(session, readings)
            advanced = advance(_known(session))
            _keep(session, advanced)
            row = {
                "at": now.timestamp(),
                "seconds": seconds,
                "readings": len(readings),
                "troubles": sum(look.trouble is not None for look in looks),
                "verdict": str(verdict(advanced)),
            }
            if counted:
                session.execute(insert(sweeps).values(**row))
        return advanced

    def last_sweep(self) -> Sweep | None:
        """Give the newest sweep that counts, or nothing.

        By their order, not by their times: one that was made by a clock that was ahead would be the newest for as long.
        """
        with transaction(self._engine, self.where) as session:
            row = session.execute(select(sweeps).order_by(sweeps.c.id.desc()).limit(1)).first()
        if row is None:
            return None
        return Sweep(
            at=_moment(row.at),
            seconds=row.seconds,
            readings=row.readings,
            troubles=row.troubles,
            verdict=Verdict(row.verdict),
        )

    # findings --------------------------------------------------------------------------------------------------------

    def alive(self) -> list[Finding]:
        """Give all findings that are not closed, the worst first."""
        with transaction(self._engine, self.where) as session:
            found = _known(session).values()
        order = {State.OPEN: 0, State.RECOVERING: 1, State.PENDING: 2}
        living = [finding for finding in found if finding.state is not State.CLOSED]
        return sorted(living, key=lambda one: (order[one.state], -one.level, one.since, one.key))

    def hand_over(self) -> dict[str, Finding]:
        """Give what is alive here, to a better history that answers again: it was told from here, and its end must be."""
        return {finding.key: finding for finding in self.alive()}

    def forget(self) -> None:
        """Forget the findings: they were handed over."""
        with transaction(self._engine, self.where) as session:
            session.execute(delete(findings))

    def changes_since(self, since: datetime) -> list[Change]:
        """Give what people were told, or should have been, oldest first."""
        wanted = select(changes.c.document).where(changes.c.at >= since.timestamp()).order_by(changes.c.id)
        with transaction(self._engine, self.where) as session:
            return [msgspec.json.decode(row.document, type=Change) for row in session.execute(wanted)]

    def claim(self, receiver: str, now: datetime) -> dict[int, Change]:
        """Take on what *receiver* was not told yet, oldest first.

        Until :meth:`told` is called, or for five minutes, nobody else claims it: two sweeps at once tell nobody twice.
        """
        late, old = (now - _CLAIM).timestamp(), (now - _NEWS).timestamp()
        theirs = tellings.c.receiver == receiver
        done = select(tellings.c.change).where(theirs, or_(tellings.c.told.is_not(None), tellings.c.claimed >= late))
        wanted = select(changes.c.id, changes.c.document).where(changes.c.at >= old, changes.c.id.not_in(done))
        with transaction(self._engine, self.where) as session:
            rows = session.execute(wanted.order_by(changes.c.id)).all()
            claims = [{"change": row.id, "receiver": receiver, "claimed": now.timestamp()} for row in rows]
            if claims:
                session.execute(delete(tellings).where(theirs, tellings.c.change.in_([row.id for row in rows])))
                session.execute(insert(tellings), claims)
        return {row.id: msgspec.json.decode(row.document, type=Change) for row in rows}

    def told(self, receiver: str, ids: Sequence[int], now: datetime) -> None:
        """Note that *receiver* was told."""
        with transaction(self._engine, self.where) as session:
            chosen = (tellings.c.receiver == receiver) & tellings.c.change.in_(ids)
            session.execute(update(tellings).where(chosen).values(told=now.timestamp()))

    def give_back(self, receiver: str, ids: Sequence[int]) -> None:
        """Note that *receiver* could not be told: the next sweep tries again."""
        with transaction(self._engine, self.where) as session:
            session.execute(delete(tellings).where(tellings.c.receiver == receiver, tellings.c.change.in_(ids)))

    # readings --------------------------------------------------------------------------------------------------------

    def points(self, metrics: Iterable[str], since: datetime) -> dict[SeriesName, list[Point]]:
        """Give the points of all series of *metrics*, oldest first."""
        named = select(series).where(series.c.metric.in_(sorted(set(metrics))))
        read: dict[int, list[Point]] = {}  # by number: a name for each of 100,000 points takes longer than to read them
        with transaction(self._engine, self.where) as session:
            names = {
                row.id: SeriesName(row.subject, row.metric, row.labels, row.unit) for row in session.execute(named)
            }
            chosen = points.c.series.in_(select(named.subquery().c.id))
            wanted = select(points.c.series, points.c.at, points.c.value).where(
                chosen, points.c.at >= since.timestamp()
            )
            for number, at, value in session.execute(wanted.order_by(points.c.series, points.c.at)):
                read.setdefault(number, []).append((at, value))
        return {names[number]: found for number, found in read.items()}

    def newest(self, since: datetime, *, until: datetime) -> list[tuple[str, Reading]]:
        """Give the newest reading of every series between two times, with its subject.

        :param until: what is of later was read by a clock that was ahead, and would be the newest for as long
        """
        last = (
            select(points.c.series, func.max(points.c.at).label("at"))
            .where(points.c.at >= since.timestamp(), points.c.at <= until.timestamp())
            .group_by(points.c.series)
            .subquery()
        )
        wanted = (
            select(series, points.c.at, points.c.value)
            .join(points, points.c.series == series.c.id)
            .join(last, (last.c.series == points.c.series) & (last.c.at == points.c.at))
            .order_by(series.c.metric, series.c.subject, series.c.labels)
        )
        with transaction(self._engine, self.where) as session:
            rows = session.execute(wanted).all()
        return [(row.subject, _reading(row)) for row in rows]

    def thin(self, now: datetime) -> int:
        """Thin out what is old, and give how many points went."""
        with transaction(self._engine, self.where) as session:
            return thin(session, now)


def labelled(labels: Mapping[str, str]) -> str:
    """Write labels as they are kept."""
    return json.dumps(labels, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _store(session: Session, readings: Sequence[tuple[str, Reading]]) -> None:
    names = {(subject, one.metric, labelled(one.labels)): one.unit for subject, one in readings}
    ids = _series_ids(session)
    fresh = [name for name in names if name not in ids]
    if fresh:
        rows = [{"subject": s, "metric": m, "labels": ls, "unit": names[s, m, ls]} for s, m, ls in fresh]
        session.execute(_insert(session, series).on_conflict_do_nothing(), rows)
        ids = _series_ids(session)
    rows_ = [
        {"series": ids[subject, one.metric, labelled(one.labels)], "at": one.at.timestamp(), "value": one.value}
        for subject, one in readings
        if one.value == one.value and abs(one.value) != float("inf")
    ]
    if rows_:
        session.execute(_insert(session, points).on_conflict_do_nothing(), rows_)


def _series_ids(session: Session) -> dict[tuple[str, str, str], int]:
    wanted = select(series.c.id, series.c.subject, series.c.metric, series.c.labels)
    return {(row.subject, row.metric, row.labels): row.id for row in session.execute(wanted)}


def _known(session: Session) -> dict[str, Finding]:
    rows = session.execute(select(findings.c.document))
    found = [msgspec.json.decode(row.document, type=Finding) for row in rows]
    return {finding.key: finding for finding in found}


def _keep(session: Session, advanced: Advanced) -> None:
    session.execute(delete(findings))
    rows = [
        {
            "key": finding.key,
            "state": str(finding.state),
            "seen": finding.seen.timestamp(),
            "document": msgspec.json.encode(finding).decode(),
        }
        for finding in advanced.findings
    ]
    if rows:
        session.execute(insert(findings), rows)
    told = [{"at": one.at.timestamp(), "document": msgspec.json.encode(one).decode()} for one in advanced.changes]
    if told:
        session.execute(insert(changes), told)


def _insert(session: Session, table: Any) -> Any:
    return postgres_insert(table) if session.dialect.name == "postgresql" else sqlite_insert(table)


def _reading(row: Any) -> Reading:
    return Reading(metric=row.metric, value=row.value, unit=row.unit, at=_moment(row.at), labels=json.loads(row.labels))


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
