"""Runs a job again beside a restored log and restored tables: the last part of a drill, and the one that proves the pipeline."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from include.engine.contracts import Connection, RestoreJob
from include.engine.errors import Incomplete, Interrupted, Unreachable, Unsupported
from include.engine.model import Check, Restored, Stage, Target, Verdict
from include.engine.replaying import Resumed
from include.engine.sandbox.accounts import ourselves, private_directory
from include.engine.sandbox.home import Home
from include.engine.store.bucket import Bucket
from include.engine.streaming import Life
from include.engine.systems.spark import positions, recount
from include.engine.systems.spark.access import python_settings
from include.engine.systems.spark.distribution import PROJECT
from include.engine.systems.spark.reconcile import consuming, ends, reconcile
from include.engine.systems.spark.records import Marked, key_columns, marked
from include.engine.systems.spark.settings import Flow, Settings
from include.engine.systems.spark.stream import SparkStream
from include.engine.systems.spark.tables import Tables

_LOOK_AGAIN = 0.5  # seconds
_PATIENCE = 900.0  # seconds that the job may take to begin and to replay
_CHECKED = 20_000  # records of each flow that are looked for after the replay

Write = Callable[[RestoreJob, Bucket], Restored]


class _Beside:
    """The connections of the sandbox, by the names that the job's settings get."""

    def __init__(self, log: Connection, tables: Connection) -> None:
        self._known = {"log": log, "tables": tables}

    def get(self, name: str) -> Connection:
        return self._known[name]


@contextmanager
def resumed(
    target: Target, settings: Settings | None, job: RestoreJob, *, log: Connection, tables: Connection, write: Write
) -> Iterator[Resumed]:
    """Resume *target* (see ``replaying.Resumes``).

    :param settings: of the inventory: a checkpoint alone does not say how records become rows
    :param write: restores the checkpoint to a place
    :raises Unsupported: on a machine without the inventory
    :raises Incomplete: when the job ends instead of replaying
    """
    if settings is None:
        raise Unsupported(
            f"only the inventory says what {target} does with its records", hint="drill it with the inventory at hand"
        )
    with Home.of(PROJECT).for_drill(target.name) as sandbox:
        scratch = Path(private_directory(sandbox.root / "stream", owner=ourselves(), mode=0o700))
        checkpoint = f"file://{scratch / 'checkpoint'}"
        (scratch / "checkpoint").mkdir(mode=0o700)
        restored = write(job, Bucket.open(checkpoint))
        stream = SparkStream(
            target, _there(settings, checkpoint, sandbox.root / "run" / "stream"), _Beside(log, tables)
        )
        counting = time.monotonic()
        age = (job.clock() - job.chain[-1].cut.at).total_seconds()
        lives = recount.lifetimes(stream.settings.flows, age, tables=tables)
        counted = _counted(stream, log=log, tables=tables)
        began = time.monotonic()
        try:
            stream.launch(reason="a drill", clock=job.clock)
            checks, replayed = _watch(stream, job, counted, log=log, tables=tables)
            stages = (*restored.stages, Stage(name="resume and replay", seconds=replayed - began))
            looked = began - counting + time.monotonic() - replayed
            stages = (*stages, Stage(name="checks", seconds=looked, counts=False))
            whole = msgspec.structs.replace(restored, stages=stages, checks=(*restored.checks, *lives, *checks))
            yield Resumed(restored=whole, checks=whole.checks)
        finally:
            stream.end(kill=True)


def _there(settings: Settings, checkpoint: str, records: Path) -> Settings:
    """Give the job's settings for a sandbox: the same flows, everything around them is another.

    :param records: where the job's process is recorded; beside the sandbox's own, so that whoever sweeps up after a drill that
        was killed ends the job too
    """
    profile = settings.profile.model_copy(update={"driver_memory": "1g", "executor_cores": 2})
    return settings.model_copy(
        update={
            "connection": "",
            "checkpoint": checkpoint,
            "kafka": "log",
            "cassandra": "tables",
            "engine": "local",
            "cluster": "",
            "directory": str(records),
            "profile": profile,
            # A group of its own: the job's may have come back with the log, and would tell how far another life of it was.
            "group": f"mainstay-drill-{secrets.token_hex(4)}",
            "consistency": "LOCAL_QUORUM",
        }
    )


def _counted(stream: SparkStream, *, log: Connection, tables: Connection) -> Mapping[str, recount.Counted]:
    """Count every flow's table before anything is replayed."""
    states = stream.inspect()
    found = {}
    for name, flow in stream.settings.flows.items():
        begins = states[name].offsets.get(flow.topic, {}) if name in states else {}
        with consuming(log) as consumer:
            upto = ends(consumer, flow.topic)
        found[name] = recount.before(flow, begins, upto, log=log, tables=tables)
    return found


def _watch(
    stream: SparkStream,
    job: RestoreJob,
    counted: Mapping[str, recount.Counted],
    *,
    log: Connection,
    tables: Connection,
) -> tuple[list[Check], float]:
    """Send one marked record through every flow, wait until the job has read all there is, and look at the tables.

    :return: the checks, and when the marked records were rows
    """
    flows = stream.settings.flows
    sent = {name: marked(flow.shape, job.clock(), secrets.randbits(128)) for name, flow in flows.items()}
    _send(log, {flow.topic: sent[name] for name, flow in flows.items()})
    began = time.monotonic()
    with consuming(log) as consumer:
        upto = {name: ends(consumer, flow.topic) for name, flow in flows.items()}
    _await(stream, job, upto, log)
    replayed = time.monotonic()
    checks = [*_marked_are_rows(flows, sent, replayed - began, tables)]
    for name, flow in flows.items():
        checks.append(_newest_are_rows(name, flow, upto[name], counted[name], log=log, tables=tables))
        started = time.monotonic()
        recounted = recount.after(name, flow, counted[name], sent[name].row, tables=tables)
        checks.append(msgspec.structs.replace(recounted, seconds=time.monotonic() - started))
    return checks, replayed


def _marked_are_rows(
    flows: Mapping[str, Flow], sent: Mapping[str, Marked], took: float, tables: Connection
) -> Iterator[Check]:
    with Tables(tables) as session:
        for name, flow in flows.items():
            (there,) = session.rows(flow.table, key_columns(flow.shape), [sent[name].row])
            became = f"read in {flow.table} {took:.1f} s later" if there else f"and is not in {flow.table}"
            yield Check(
                name=f"a marked record of {name}",
                verdict=Verdict.PASS if there is not None else Verdict.FAIL,
                detail=f"sent to {flow.topic}, {became}",
                seconds=took,
            )


def _newest_are_rows(
    name: str,
    flow: Flow,
    upto: Mapping[int, int],
    counted: recount.Counted,
    *,
    log: Connection,
    tables: Connection,
) -> Check:
    started = time.monotonic()
    found = reconcile(name, flow, upto, log=log, tables=tables, window=_CHECKED, restored=True, count=counted.rows)
    lost = f"; {found.lost} are missing or differ, such as {'; '.join(found.missing[:3])}" if found.lost else ""
    old = f", {found.expired} more are older than its rows live" if found.expired else ""
    told = f"of the newest {found.records} records of {flow.topic}, {found.rows} are rows of {flow.table} that say the same"
    return Check(
        name=f"rows of {name} after the replay",
        verdict=Verdict.FAIL if found.lost else Verdict.PASS if found.records else Verdict.UNVERIFIED,
        detail=f"{told}, {found.dead_letters} dead letters{old}{lost}",
        seconds=time.monotonic() - started,
    )


def _await(stream: SparkStream, job: RestoreJob, upto: Mapping[str, Mapping[int, int]], log: Connection) -> None:
    """Wait until the job has committed *upto*.

    :raises Unreachable: when it ends instead, or does not get there
    """
    flows, group = stream.settings.flows, stream.settings.group_of(stream.job)
    topics = [flow.topic for flow in flows.values()]
    deadline = time.monotonic() + _PATIENCE
    while True:
        job.stop.check()
        found = positions.read(log, group, topics)
        behind = [
            f"{flow.topic}-{place.partition}"
            for name, flow in flows.items()
            for place in found[flow.topic]
            if (place.committed or 0) < upto[name].get(place.partition, 0)
        ]
        if not behind:
            return
        seen = stream.look(job.clock)
        if seen.launched is not None and seen.life is Life.ABSENT:
            said = stream.logs().strip().splitlines()[-1:] or [""]
            raise Incomplete(
                f"the job ended while it replayed: {seen.end or 'it was killed'} {seen.end_reason} {said[0][:300]}".strip(),
                hint="its log says why; runbook include/runbooks/drill-failed.md",
            )
        if time.monotonic() > deadline:
            raise Unreachable(
                f"the job has not replayed {', '.join(behind[:5])} within {_PATIENCE:.0f} s",
                hint="drill it again, alone",
            )
        if job.stop.stopped:
            raise Interrupted("stopped while the job replayed", hint="drill it again")
        time.sleep(_LOOK_AGAIN)


def _send(log: Connection, records: Mapping[str, Marked]) -> None:
    from kafka import KafkaProducer
    from kafka.errors import KafkaError

    try:
        producer = KafkaProducer(**python_settings(log), acks="all", retries=5)
        try:
            for topic, record in records.items():
                producer.send(topic, key=record.key, value=record.value).get(timeout=60)
        finally:
            producer.close(timeout=10)
    except (KafkaError, OSError) as error:
        raise Unreachable(
            f"the marked record could not be sent: {type(error).__name__}: {error}", hint="drill it again"
        ) from error
