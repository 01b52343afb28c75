"""What binds when something is too small, which decides what helps.  Pure.

The usual cure is often the wrong one: more schedulers do not help a full pool, more partitions do not drain a backlog, and
replicas take no idle sessions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from include.engine.model import Reading

_HALF = 0.5
_COMPACTIONS = 100  # that wait on a node: more, and they hold the disk
_GIB = 1 << 30

# Says what binds: by the readings of the subject by metric, by all of them, and by the worst one of the row; empty when none tells.
Cause = Callable[[Mapping[str, Reading], Sequence[Reading], Reading], str]


def queue_cause(found: Mapping[str, Reading], readings: Sequence[Reading], _worst: Reading) -> str:
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
    queued, scheduled = _value(found, "airflow.tasks.queued") or 0, _value(found, "airflow.tasks.scheduled") or 0
    most = _value(found, "airflow.parallelism")
    taken = (_value(found, "airflow.tasks.running") or 0) + queued  # a queued task holds its place, too
    may = None if most is None else most * (_value(found, "airflow.schedulers") or 1)
    if may is not None and taken >= may:
        return f"parallelism: {taken:.0f} tasks run or are queued, and {may:.0f} may"
    if _value(found, "airflow.runs.capped"):
        return "the active-run cap of a DAG (max_active_runs)"
    unknown = "" if may is not None else "; or parallelism, which this Airflow shows to nobody (api.expose_config)"
    if queued >= scheduled:
        return f"the executor's slots: tasks are queued, and no worker takes them{unknown}"
    return (
        "the scheduler's loop, or max_active_tasks of a DAG: tasks are scheduled and not queued, and no pool is full"
        + unknown
    )


def connections_cause(found: Mapping[str, Reading], _readings: Sequence[Reading], _worst: Reading) -> str:
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


def lag_cause(_found: Mapping[str, Reading], readings: Sequence[Reading], worst: Reading) -> str:
    """Say what a group waits for: one partition, all of them, or nobody at all."""
    of = {name: worst.labels.get(name) for name in ("group", "topic")}
    lags = [one for one in readings if one.metric == worst.metric and of.items() <= one.labels.items()]
    late = [one for one in lags if one.value >= worst.value * _HALF]
    if len(lags) > 1 and len(late) == 1:
        partition = worst.labels.get("partition", "?")
        return f"partition {partition} alone of {len(lags)}: a skewed key, or a consumer that is stuck; more of them do not help"
    return f"{len(late)} of {len(lags)} partitions are late: the consumer is too slow, or does not run"


def batch_cause(found: Mapping[str, Reading], readings: Sequence[Reading], worst: Reading) -> str:
    """Say what a micro-batch takes its time for."""
    total, used = _value(found, "spark.cores.total"), _value(found, "spark.cores.used")
    if total and used is not None and used >= total:
        return f"the cluster's cores: all {total:.0f} are taken"
    flow = worst.labels.get("flow")
    rates = {one.metric: one.value for one in readings if one.labels.get("flow") == flow}
    comes, done = rates.get("spark.flow.input_rate"), rates.get("spark.flow.processed_rate")
    if comes is None or done is None:
        return ""
    if comes > done:
        return f"{comes:.0f} records come in a second, and {done:.0f} are worked on: too few cores, or a slow sink"
    return f"no backlog: {done:.0f} records in a second would do for the {comes:.0f} that come; look for a skewed key"


def disk_cause(_found: Mapping[str, Reading], readings: Sequence[Reading], worst: Reading) -> str:
    """Say what holds the disk of a Cassandra node."""
    of = {one.metric: one.value for one in readings if one.labels.get("node") == worst.labels.get("node")}
    snapshots, data, waits = (
        of.get(f"cassandra.{name}") for name in ("snapshots.bytes", "load", "compactions.pending")
    )
    if snapshots is None:
        return ""
    if data is None or snapshots >= data * _HALF:
        return f"snapshots hold {snapshots / _GIB:.1f} GiB: clear those that nobody needs"
    if waits is not None and waits > _COMPACTIONS:
        return f"{waits:.0f} compactions wait: what they would remove is still there"
    return f"the data: {data / _GIB:.1f} GiB of it, and {snapshots / _GIB:.1f} GiB in snapshots"


def _value(found: Mapping[str, Reading], metric: str) -> float | None:
    return found[metric].value if metric in found else None


CAUSES: Mapping[str, Cause] = {
    "airflow-queue": queue_cause,
    "postgres-connections": connections_cause,
    "kafka-lag": lag_cause,
    "spark-batch": batch_cause,
    "cassandra-disk": disk_cause,
}
