"""
### The morning's checklist

Looks at all services, at the flow of data and its consumers, at the DAGs that must run, at the disks, and at what will be too
small, and writes one report with tables and plots to the bucket. A line that could not be proved is UNVERIFIED, and the run is red.

| | |
|---|---|
| **If it fails** | runbook `include/runbooks/checklist-open.md`; the report says which line, and why |
| **Safe to clear** | yes: it only reads. A run keeps the first report that it made |
| **Objective** | a report every morning, in which every line is proved |
"""

from __future__ import annotations

from airflow.sdk import DAG

from mainstay.defaults import DEFAULT_ARGS, INVENTORY, SYSTEM_TAGS, Pool, Tag, on_schedule
from mainstay.links import documented
from mainstay.notifiers.alert import AlertNotifier
from mainstay.operators.checklist import InspectOperator
from mainstay.operators.judge import JudgeOperator

with DAG(
    dag_id="checklist_morning",
    dag_display_name="Checklist: morning",
    description="Services, data flow, DAGs, disks, and when to scale",
    doc_md=documented(__doc__),
    schedule=on_schedule(INVENTORY.schedule.checklist_morning),
    catchup=False,
    max_active_runs=1,
    default_args={**DEFAULT_ARGS, "on_failure_callback": AlertNotifier(runbook="checklist-open")},
    tags=[Tag.CHECKLIST, Tag.TIER_2, *SYSTEM_TAGS],
):
    inspect = InspectOperator(task_id="inspect", kind="morning", pool=Pool.PROBE)

    inspect >> JudgeOperator(task_id="judge", summary=inspect.output, runbook="checklist-open")
