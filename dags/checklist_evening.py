"""
### The evening's checklist

Looks at the last set and whether it was read back, at the real state of replication of every system, and at the error lines of
the day grouped by what they say, and writes one report to the bucket. A line that could not be proved is UNVERIFIED, and the run is
red.

| | |
|---|---|
| **If it fails** | runbook `include/runbooks/checklist-open.md`; the report says which line, and why |
| **Safe to clear** | yes: it only reads. A run keeps the first report that it made |
| **Objective** | a report every evening, in which every line is proved |
"""

from __future__ import annotations

from airflow.sdk import DAG

from mainstay.defaults import DEFAULT_ARGS, INVENTORY, SYSTEM_TAGS, Pool, Tag, on_schedule
from mainstay.links import documented
from mainstay.notifiers.alert import AlertNotifier
from mainstay.operators.checklist import InspectOperator
from mainstay.operators.judge import JudgeOperator

with DAG(
    dag_id="checklist_evening",
    dag_display_name="Checklist: evening",
    description="The last set, replication, and the error lines of the day",
    doc_md=documented(__doc__),
    schedule=on_schedule(INVENTORY.schedule.checklist_evening),
    catchup=False,
    max_active_runs=1,
    default_args={**DEFAULT_ARGS, "on_failure_callback": AlertNotifier(runbook="checklist-open")},
    tags=[Tag.CHECKLIST, Tag.TIER_2, *SYSTEM_TAGS],
):
    inspect = InspectOperator(task_id="inspect", kind="evening", pool=Pool.PROBE)

    inspect >> JudgeOperator(task_id="judge", summary=inspect.output, runbook="checklist-open")
