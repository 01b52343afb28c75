"""The DAGs ``ingest``, ``stream`` and ``stream_control`` on a live pipeline: records flow, and the job comes back, once."""

from __future__ import annotations

import pytest

from include.engine.cli.clock import now
from include.engine.streaming import Life, StreamSeen
from include.engine.systems.spark.people import user_id
from tests.e2e.conftest import BackedUp
from tests.e2e.live import REASON, Live, eventually

pytestmark = pytest.mark.e2e

JOB = "spark/main"
SEED, USERS, EVENTS = 4242, 20, 10


def test_what_ingest_sends_becomes_rows(live: Live, backed_up: BackedUp) -> None:
    run = live.trigger("ingest", {"users": USERS, "events": EVENTS, "seed": SEED, "api": ""})
    live.succeeded("ingest", run)
    assert live.admin.xcom("ingest", run, "send") == {"users": USERS, "events": EVENTS, "source": f"seed {SEED}"}
    ids = ", ".join(str(user_id(SEED, number)) for number in range(USERS))

    def written() -> bool:
        with live.demo.clusters.cassandra.connect() as cql:
            found = cql.rows(f"SELECT count(*) AS n FROM spark_streams.created_users WHERE id IN ({ids})")
        return int(found[0]["n"]) == USERS

    eventually("they are rows", written)


def test_a_job_that_rested_comes_back_once_though_the_triggerer_that_waited_for_it_was_killed(
    live: Live, backed_up: BackedUp
) -> None:
    def look() -> StreamSeen:
        return live.demo.stream.job.look(now)

    live.admin.wait_for_dag("stream")
    live.admin.unpause("stream")
    if not live.admin.runs("stream"):  # the next minute begins one as well, and only one at a time keeps the job
        live.admin.trigger("stream")
    eventually("the DAG waits for it without a worker", lambda: "deferred" in _keeping(live))
    before = look()
    assert before.life is Life.RUNNING  # it was found, and left alone

    run = live.trigger("stream_control", {"job": JOB, "action": "stop", "reason": REASON})
    live.succeeded("stream_control", run)
    rests = look()
    assert (rests.life, rests.end, rests.wish_reason) == (Life.ABSENT, "stopped", REASON)
    assert rests.generation == before.generation
    assert "deferred" in _keeping(live)  # the DAG keeps to what a person wished

    live.demo.airflow._process("triggerer").kill()
    live.succeeded("stream_control", live.trigger("stream_control", {"job": JOB, "action": "run", "reason": REASON}))
    live.demo.airflow.start()
    eventually("it is launched again", lambda: look().generation > before.generation)
    live.demo.stream.wait()
    after = look()
    assert (after.life, after.generation) == (Life.RUNNING, before.generation + 1)
    assert "failed" not in _keeping(live)


def _keeping(live: Live) -> set[str]:
    """The states of the tasks that keep the job, of all runs."""
    runs = [live.admin.run("stream", name) for name in live.admin.runs("stream")]
    return {task.state for run in runs for task in run.tasks}
