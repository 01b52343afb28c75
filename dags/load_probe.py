"""
### Tasks that do nothing

Load tests of Airflow itself trigger this: how soon the first task begins, and how many end in a minute, is what Airflow takes for
itself. Its runs are deleted when the test is over.

| | |
|---|---|
| **If it fails** | runbook `include/runbooks/load-failed.md` |
| **Safe to clear** | yes |
| **Objective** | none: it is a yardstick |
"""

from __future__ import annotations

from airflow.sdk import DAG

from mainstay import load_params
from mainstay.defaults import DEFAULT_ARGS, Tag, on_schedule
from mainstay.links import documented
from mainstay.operators.load import NothingOperator, NumbersOperator

with DAG(
    dag_id="load_probe",
    dag_display_name="Load probe",
    description="Mapped tasks that do nothing, for load tests of Airflow itself",
    doc_md=documented(__doc__),
    schedule=on_schedule(None),
    catchup=False,
    max_active_runs=1,
    default_args=DEFAULT_ARGS,
    params={"tasks": load_params.tasks()},
    tags=[Tag.LOAD, Tag.TIER_3],
):
    numbers = NumbersOperator(task_id="numbers")
    NothingOperator.partial(task_id="nothing").expand(number=numbers.output)
