"""What will be too small, and when: value, limit, trend, time to breach, the cause that binds, what to do and what it costs.  Pure.

The rows are data (``scaling:`` in the rules); what binds is decided here, because the usual cure is often the wrong one: more
schedulers do not help a full pool, more partitions do not drain a backlog, and replicas take no idle sessions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from include.engine.health.history import SeriesName, labelled
from include.engine.health.judging import Limits, resolved
from include.engine.health.looks import Look
from include.engine.health.rules import RuleBook, Scaling
from include.engine.health.trends import Breach, Point, Trend, time_to, trend
from include.engine.model import Reading, Verdict

Points = Mapping[SeriesName, Sequence[Point]]
_HALF = 0.5


class ScalingRow(Struct, frozen=True, kw_only=True):
    """One row of the table.

    :param value: the worst of all series now; None when it was not read, which is never green
    :param trend: in units per second; None when the history is too short to tell
    :param breach: when the limit is met; None when it does not surely move there
    :param cause: what binds now; empty when nothing does
    """

    name: str
    title: str
    subject: str = ""
    labels: dict[str, str] = {}
    value: float | None = None
    limit: float | None = None
    unit: str = "1"
    trend: Trend | None = None
    breach: Breach | None = None
    verdict: Verdict
    cause: str = ""
    action: str
    costs: str


def scaling(book: RuleBook, looks: Sequence[Look], points: Points, *, limits: Limits) -> list[ScalingRow]:
    """Make the table, of the systems that were looked at."""
    systems = {look.system for look in looks}
    wanted = [row for row in book.scaling.values() if row.metric.partition(".")[0] in systems]
    return [_row(row, looks, points, limits) for row in wanted]


def _row(row: Scaling, looks: Sequence[Look], points: Points, limits: Limits) -> ScalingRow:
    read = [(look.subject, one) for look in looks for one in look.readings if one.metric == row.metric]
    if not read:
        given = any(row.metric in look.metrics or look.readings for look in looks if look.trouble is None)
        cause = "nothing there to measure, or it could not be read" if given else "it could not be read"
        return ScalingRow(
            name=row.name,
            title=row.title,
            verdict=Verdict.UNVERIFIED,
            cause=cause,
            action=row.action,
            costs=row.costs,
        )
    subject, worst = max(read, key=lambda one: one[1].value)
    limit = resolved(row.limit, subject, limits)
    found = trend(points.get(SeriesName(subject, row.metric, labelled(worst.labels), worst.unit), ()))
    over = limit is not None and worst.value > limit
    of_subject = {one.metric: one for look in looks if look.subject == subject for one in look.readings}
    pools = [one for look in looks if look.subject == subject for one in look.readings]
    decide = CAUSES.get(row.cause)
    binding = decide(of_subject, pools) if decide and limit is not None and worst.value >= limit * _HALF else ""
    return ScalingRow(
        name=row.name,
        title=row.title,
        subject=subject,
        labels=worst.labels,
        value=worst.value,
        limit=limit,
        unit=worst.unit,
        trend=found,
        breach=time_to(found, limit, above=True) if found is not None and limit is not None else None,
        verdict=Verdict.UNVERIFIED if limit is None else Verdict.FAIL if over else Verdict.PASS,
        cause=f"no limit is declared: set {row.limit} in the inventory" if limit is None else binding,
        action=row.action,
        costs=row.costs,
    )


Cause = Callable[[Mapping[str, Reading], Sequence[Reading]], str]


def queue_cause(found: Mapping[str, Reading], readings: Sequence[Reading]) -> str:
    """Say what keeps Airflow's tasks waiting: the first of these that holds, since each hides those after it."""
    if not _value(found, "airflow.tasks.waiting"):
        return ""
    beats = [
        one for one in readings if one.metric == "airflow.component.up" and one.labels.get("component") == "scheduler"
    ]
    if any(one.value < 1 for one in beats):
        return "the scheduler's loop: it sends no heartbeat"
    waiting = {one.labels["pool"]: one.value for one in readings if one.metric == "airflow.pool.waiting"}
    full = [
        one.labels["pool"]
        for one in readings
        if one.metric == "airflow.pool.used" and one.value >= 100 and waiting.get(one.labels["pool"])
    ]
    if full:
        return f"the pool {', '.join(sorted(full))}: all its slots are taken"
    running, most = _value(found, "airflow.tasks.running"), _value(found, "airflow.parallelism")
    schedulers = _value(found, "airflow.schedulers") or 1
    if running is not None and most is not None and running >= most * schedulers:
        return f"parallelism: {running:.0f} tasks run, and {most * schedulers:.0f} may"
    if _value(found, "airflow.runs.capped"):
        return "the active-run cap of a DAG (max_active_runs)"
    queued, scheduled = _value(found, "airflow.tasks.queued") or 0, _value(found, "airflow.tasks.scheduled") or 0
    if queued >= scheduled:
        return "the executor's slots: tasks are queued, and no worker takes them"
    return "the scheduler's loop, or max_active_tasks of a DAG: tasks are scheduled and not queued, and no pool is full"


def connections_cause(found: Mapping[str, Reading], _readings: Sequence[Reading]) -> str:
    """Say what holds PostgreSQL's connections."""
    states = {
        name: _value(found, f"postgres.connections.{name}") or 0.0 for name in ("active", "idle", "idle_in_transaction")
    }
    total = sum(states.values())
    if not total:
        return ""
    if states["idle_in_transaction"] >= total * _HALF:
        return f"{states['idle_in_transaction']:.0f} of {total:.0f} idle in a transaction: the application leaves them open"
    if states["idle"] >= total * _HALF:
        return f"{states['idle']:.0f} of {total:.0f} are idle: a pooler takes them, a replica does not"
    return f"{states['active']:.0f} of {total:.0f} work: queries are slow, or there are too many"


def _value(found: Mapping[str, Reading], metric: str) -> float | None:
    return found[metric].value if metric in found else None


CAUSES: Mapping[str, Cause] = {"airflow-queue": queue_cause, "postgres-connections": connections_cause}
