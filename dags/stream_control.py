"""
### Stop, drain or run a streaming job

Notes beside the job's checkpoint what a person wishes, and waits until the job rests. The job ends by itself: at once, or after all
that is in its topics now. A batch that was being written is written again when it runs next, to the same rows. It stays at rest,
whoever keeps jobs running, until it is wished to run again.

| | |
|---|---|
| **If it fails** | runbook `include/runbooks/stream-failed.md` |
| **Safe to clear** | yes: what this run has wished already is not wished twice |
| **Objective** | a job rests within a minute of `stop` |
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from mainstay import params, stream_params
from mainstay.defaults import DEFAULT_ARGS, STREAMS, Pool, Tag, on_schedule
from mainstay.links import documented
from mainstay.notifiers.alert import AlertNotifier
from mainstay.operators.stream import WishStreamOperator

if STREAMS:
    with DAG(
        dag_id="stream_control",
        dag_display_name="Stop, drain or run a stream",
        description="For maintenance: stops a streaming job in good order, or lets it run again",
        doc_md=documented(__doc__),
        schedule=on_schedule(None),
        catchup=False,
        max_active_runs=1,
        default_args={**DEFAULT_ARGS, "on_failure_callback": AlertNotifier(runbook="stream-failed")},
        params={
            "job": stream_params.stream(STREAMS),
            "action": stream_params.stream_action(),
            "reason": params.reason(),
        },
        tags=[Tag.STREAM, Tag.SPARK, Tag.TIER_2],
    ):
        WishStreamOperator(
            task_id="wish", job="{{ params.job }}", pool=Pool.STREAM, execution_timeout=timedelta(hours=2)
        )
