"""
### Keep the streaming jobs running

Finds each declared job by its name, launches it when it is not there, and waits without a worker on its progress: a driver that
hangs or crashes over and over says that it runs. What ends is launched again from its checkpoint, after a back-off and within a
budget; what no restart mends (a topic made anew, a damaged checkpoint, records lost to retention) fails the task at once. The runs
after that wait for a person, and call again after an hour.

| | |
|---|---|
| **If it fails** | runbook `include/runbooks/stream-failed.md` |
| **Safe to clear** | yes: a job that runs is found and left alone |
| **Objective** | a job that died is back within a minute, and nothing is lost or doubled |
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from mainstay.defaults import DEFAULT_ARGS, STREAMS, Pool, Tag, on_schedule
from mainstay.links import documented
from mainstay.notifiers.alert import AlertNotifier
from mainstay.operators.stream import KeepStreamOperator

if STREAMS:
    with DAG(
        dag_id="stream",
        dag_display_name="Stream",
        description="Keeps the streaming jobs running, by their progress",
        doc_md=documented(__doc__),
        # A run keeps the jobs for an hour; the next one begins at the next of these moments.
        schedule=on_schedule("* * * * *"),
        catchup=False,
        max_active_runs=1,
        default_args={**DEFAULT_ARGS, "on_failure_callback": AlertNotifier(runbook="stream-failed")},
        tags=[Tag.STREAM, Tag.SPARK, Tag.TIER_1],
    ):
        for job in STREAMS:
            KeepStreamOperator(
                task_id=f"keep_{job.partition('/')[2]}",
                job=job,
                pool=Pool.STREAM,
                execution_timeout=timedelta(hours=2),
            )
