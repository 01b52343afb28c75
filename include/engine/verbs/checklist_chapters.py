"""What the daily checklists ask, chapter by chapter: the guide's morning and evening, with proof for every line."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from include.engine.health import log_lines
from include.engine.health.findings import Finding, State
from include.engine.health.scaling import scaling
from include.engine.health.trends import soon
from include.engine.model import Chapter, Item, Plot, Reading, Table, Verdict, worst
from include.engine.store.proven import LastWords
from include.engine.store.sets import newest_set
from include.engine.verbs.checklist import Inspection, judged, within
from include.engine.verbs.predeployment import PREDEPLOYMENT, fits

_DAY = timedelta(days=1)
_MOST_GROUPS, _MOST_PLOTS, _MOST_POINTS = 15, 6, 150


def services(seen: Inspection) -> Chapter:
    """Everything that is looked at: does it answer, and what was found."""
    items = []
    for subject in sorted({look.subject for look in seen.report.looks}):
        looks = [look for look in seen.report.looks if look.subject == subject]
        found = [one for one in seen.report.findings if one.subject == subject and one.state is State.OPEN]
        readings = sum(len(look.readings) for look in looks)
        fine = f"answers; {readings} readings, none beyond its limit"
        items.append(judged(subject, found, fine=fine, read=readings > 0))
    return Chapter(title="", items=tuple(items))


def data_flow(seen: Inspection) -> Chapter:
    """Whether data moves: consumers and their lag, the stream, replication."""
    items = []
    asked = {
        "consumers": ("kafka", "kafka.group"),
        "partitions": ("kafka", "kafka.partitions"),
        "stream": ("spark", "spark."),
        "replication": ("postgres", "postgres.replication"),
    }
    for name, (system, prefix) in asked.items():
        readings = _readings(seen, prefix)
        if system in seen.watch.systems:
            fine = f"{len(readings)} readings within their limits"
            items.append(judged(name, seen.findings(prefix), fine=fine, read=seen.read(prefix)))
    plots = _plots(seen, ("kafka.group.lag_seconds", "postgres.replication.lag", "spark.flow.batch_duration"))
    return Chapter(
        title="", items=tuple(items or [_nothing("no system that moves data is in the inventory")]), plots=plots
    )


def dags(seen: Inspection) -> Chapter:
    """Whether the DAGs that must run are unpaused, run, and succeed."""
    if not seen.inventory.sweep.airflow:
        return Chapter(title="", items=(_nothing("the inventory watches no Airflow (sweep.airflow)"),))
    paused = _readings(seen, "airflow.dag.paused")
    evidence = [f"{one.labels.get('dag')}: {'paused' if one.value else 'unpaused'}" for _, one in paused]
    there = bool(_readings(seen, "airflow.dags"))
    asked = {
        "unpaused": (("airflow.dag.paused",), "all that must run", evidence),
        "runs": (
            ("airflow.dag.failed", "airflow.dag.overdue", "airflow.dag.late"),
            "none failed last, none is late",
            (),
        ),
        "components": (("airflow.component",), "all send heartbeats", ()),
        "queue": (("airflow.tasks",), "tasks do not pile up", ()),
    }
    return Chapter(
        title="",
        items=tuple(
            judged(name, seen.findings(*metrics), fine=fine, read=there and not seen.missed(*metrics), evidence=more)
            for name, (metrics, fine, more) in asked.items()
        ),
    )


def disks(seen: Inspection) -> Chapter:
    """Whether disks fill, and when."""
    metrics = ("host.disk", "host.inodes", "cassandra.disk", "kafka.disk")
    item = judged("disks", seen.findings(*metrics), fine="all have room", read=seen.read(*metrics))
    return Chapter(title="", items=(item,), plots=_plots(seen, ("host.disk.used", "cassandra.disk.used")))


def scale(seen: Inspection) -> Chapter:
    """The scaling table."""
    metrics = [row.metric for row in seen.watch.book.scaling.values()]
    points = seen.history.points(metrics, seen.now - 2 * _DAY)
    rows = scaling(seen.watch.book, seen.report.looks, points, limits=seen.watch.limits)
    items = []
    told = []
    for row in rows:
        when = f"; at its limit {soon(row.breach)}" if row.breach is not None else ""
        value = (
            "not read"
            if row.value is None
            else f"{row.value:.4g} of {'?' if row.limit is None else f'{row.limit:.4g}'} {row.unit}"
        )
        items.append(Item(name=row.title, verdict=row.verdict, detail=f"{value}{when}"))
        trend = "?" if row.trend is None else f"{row.trend.slope * 3600:+.3g} per hour"
        told.append((row.title, value, trend, row.cause or "nothing binds", row.action, row.costs))
    columns = ("what", "value", "trend", "what binds", "action", "costs")
    tables = (Table(title="When to scale", columns=columns, rows=tuple(told)),) if told else ()
    return Chapter(title="", items=tuple(items or [_nothing("nothing of the scaling table is watched")]), tables=tables)


def last_set(seen: Inspection) -> Chapter:
    """The newest set: how old, whether it was read back, what it lacks."""
    newest = newest_set(seen.pipeline.catalog)
    if newest is None:
        return Chapter(title="", items=(Item(name="set", verdict=Verdict.FAIL, detail="there is no set at all"),))
    fresh = within(newest.finished, timedelta(hours=26), seen.now)
    items = [
        Item(
            name="set",
            verdict=Verdict.PASS if fresh else Verdict.FAIL,
            detail=f"{newest.id}, {_hours(seen.now - newest.finished)} old",
            evidence=tuple(f"without {name}" for name in newest.left_out),
        )
    ]
    items.append(fits(newest))
    words = LastWords(seen.pipeline.catalog)
    for part in newest.parts:
        last = words.of(part.target, part.backup)
        detail = "it was never read back" if last is None else f"read back {_hours(seen.now - last.at)} ago"
        verdict = Verdict.UNVERIFIED if last is None else last.verdict
        problems = tuple(last.problems[:5]) if last else ()
        items.append(Item(name=f"{part.target} verified", verdict=verdict, detail=detail, evidence=problems))
    items.append(judged("coverage", seen.findings("coverage"), fine="all is covered", read=seen.read("coverage.")))
    return Chapter(title="", items=tuple(items))


def replication(seen: Inspection) -> Chapter:
    """The real state of replication of every system that has one."""
    asked = {
        "postgres": ("postgres.replication", "postgres.slots"),
        "cassandra": (
            "cassandra.nodes",
            "cassandra.replication",
            "cassandra.hints",
            "cassandra.repair",
            "cassandra.schema",
        ),
        "kafka": ("kafka.partitions", "kafka.brokers", "kafka.quorum", "kafka.mirror"),
    }
    items = []
    rows = []
    for system, prefixes in asked.items():
        if system in seen.watch.systems:
            readings = _readings(seen, prefixes)
            fine = f"{len(readings)} readings within their limits"
            items.append(judged(system, seen.findings(*prefixes), fine=fine, read=seen.read(*prefixes)))
            rows += [(subject, one.metric, _value(one), _labels(one)) for subject, one in readings]
    tables = (Table(title="As read", columns=("subject", "metric", "value", "of"), rows=tuple(rows)),) if rows else ()
    return Chapter(title="", items=tuple(items or [_nothing("no system with replication")]), tables=tables)


def errors(seen: Inspection) -> Chapter:
    """Error lines of the last day, grouped by what they say.  They are for a person to read: only unread logs are not green."""
    since = seen.now - _DAY
    sources = dict(seen.inventory.sweep.logs)
    for name, watch in seen.inventory.sweep.airflow.items():
        if watch.log_folder:
            sources[f"airflow-{name}"] = f"{watch.log_folder}/**/*.log"
    items, tables = [], []
    for name, pattern in sorted(sources.items()):
        item, groups = _errors_of(name, os.path.expandvars(pattern), since)
        items.append(item)
        rows = [(str(one.count), _at(one.first), _at(one.last), one.example) for one in groups[:_MOST_GROUPS]]
        if rows:
            tables.append(Table(title=name, columns=("count", "first", "last", "for example"), rows=tuple(rows)))
    nothing = _nothing("the inventory names no logs (sweep.logs)")
    return Chapter(title="", items=tuple(items or [nothing]), tables=tuple(tables))


def _errors_of(name: str, pattern: str, since: datetime) -> tuple[Item, Sequence[log_lines.Group]]:
    if not log_lines.matches(pattern):
        return Item(name=name, verdict=Verdict.UNVERIFIED, detail=f"no file is called {pattern}"), ()
    try:
        groups = log_lines.grouped(name, log_lines.tails(pattern, since), since)
        cut = log_lines.cut_off(pattern, since)
    except OSError as error:
        return Item(name=name, verdict=Verdict.UNVERIFIED, detail=f"it cannot be read: {error}"), ()
    lines = sum(group.count for group in groups)
    detail = f"{lines} error lines of {len(groups)} kinds in a day" if groups else "no error line in a day"
    if cut:
        size = f"{log_lines.MOST_BYTES >> 20} MiB"
        detail = f"{detail}, as far as it was read: the last {size} of {', '.join(cut)} do not reach back a day"
    return Item(name=name, verdict=Verdict.UNVERIFIED if cut else Verdict.PASS, detail=detail), groups


def _readings(seen: Inspection, prefixes: str | tuple[str, ...]) -> list[tuple[str, Reading]]:
    return [
        (look.subject, one) for look in seen.report.looks for one in look.readings if one.metric.startswith(prefixes)
    ]


def _plots(seen: Inspection, metrics: Sequence[str]) -> tuple[Plot, ...]:
    found = seen.history.points(metrics, seen.now - _DAY)
    limits = {rule.metric: rule.warning for rule in seen.watch.book.rules.values() if isinstance(rule.warning, float)}
    plots = []
    for series, points in sorted(found.items(), key=lambda one: (one[0].metric, one[0].subject, one[0].labels)):
        if len(points) > 1:
            step = max(1, len(points) // _MOST_POINTS)
            told = _named(msgspec.json.decode(series.labels, type=dict[str, str]))
            title = f"{series.subject} {series.metric}{f', {told}' if told else ''}"
            chosen = tuple(points[::step])
            plots.append(Plot(title=title, unit=series.unit, points=chosen, limit=limits.get(series.metric)))
    return tuple(plots[:_MOST_PLOTS])


def _nothing(why: str) -> Item:
    return Item(name="nothing to look at", verdict=Verdict.UNVERIFIED, detail=why)


def _hours(age: timedelta) -> str:
    return f"{age.total_seconds() / 3600:.1f} h"


def _at(at: datetime | None) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%SZ") if at else "?"


def _value(one: Reading) -> str:
    return f"{one.value:.6g}" if one.unit == "1" else f"{one.value:.6g} {one.unit}"


def _labels(one: Reading) -> str:
    return _named(one.labels)


def _named(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(labels.items()))


def open_findings(seen: Inspection) -> Chapter:
    """Everything that is open now, whatever it is about."""
    found: list[Finding] = [one for one in seen.report.findings if one.state is not State.CLOSED]
    rows = tuple(
        (str(one.state), str(one.severity), one.subject, one.rule, _at(one.since), one.detail, one.runbook)
        for one in found
    )
    verdict = worst([Verdict.PASS, *(one.verdict for one in found)])
    item = Item(name="findings", verdict=verdict, detail=f"{len(found)} known")
    columns = ("state", "act", "subject", "rule", "since", "what it means", "runbook")
    return Chapter(
        title="", items=(item,), tables=(Table(title="Findings", columns=columns, rows=rows),) if rows else ()
    )


Make = Callable[[Inspection], Chapter]
CHECKLISTS: Mapping[str, Mapping[str, Make]] = {
    "morning": {
        "Services": services,
        "Data flow and consumers": data_flow,
        "DAGs": dags,
        "Disks": disks,
        "When to scale": scale,
        "Findings": open_findings,
    },
    "evening": {
        "Last set": last_set,
        "Replication": replication,
        "Error lines": errors,
        "Findings": open_findings,
    },
    "predeployment": PREDEPLOYMENT,
}
