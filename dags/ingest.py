"""
### Send users and events to Kafka

Fills the topics of a streaming job: users from a Random User API when it answers, else from a generator with a seed, and events
of these users.

| | |
|---|---|
| **If it fails** | runbook `include/runbooks/stream-failed.md`: Kafka did not take the records |
| **Safe to clear** | yes: the same seed sends the same users again, which writes the same rows |
| **Objective** | none: it is a source for demos, tests and new pipelines |
"""

from __future__ import annotations

from airflow.sdk import DAG

from mainstay import stream_params
from mainstay.defaults import DEFAULT_ARGS, STREAMS, Tag, on_schedule
from mainstay.links import documented
from mainstay.notifiers.alert import AlertNotifier
from mainstay.operators.stream import IngestOperator

if STREAMS:
    with DAG(
        dag_id="ingest",
        dag_display_name="Ingest",
        description="Sends users and events to the topics of a streaming job",
        doc_md=documented(__doc__),
        schedule=on_schedule(None),
        catchup=False,
        max_active_runs=1,
        default_args={**DEFAULT_ARGS, "on_failure_callback": AlertNotifier(runbook="stream-failed")},
        params={
            "job": stream_params.stream(STREAMS),
            "users": stream_params.number(100, "Users"),
            "events": stream_params.number(500, "Events"),
            "seed": stream_params.seed(),
            "api": stream_params.api("https://randomuser.me/api/"),
        },
        tags=[Tag.STREAM, Tag.KAFKA, Tag.TIER_3],
    ):
        IngestOperator(task_id="send", job="{{ params.job }}")
