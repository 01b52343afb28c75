"""
### Drill a restore

Restores the newest backup set into sandboxes on the worker: log, tables and databases beside each other, then the stream's
checkpoint, made to fit the restored log. Runs the job there, follows a marked record from Kafka into Cassandra, compares rows with
records and with the digests of the backup, measures how long it took (RTO) and how much of the newest data was missing (RPO), tears
everything down, records the verdict, and signs it when the inventory names a key. A check that could not be made leaves the drill
UNVERIFIED, which fails the run like a failed check does: only what was proved is green.

| | |
|---|---|
| **If it fails** | runbook `include/runbooks/drill-failed.md`, or `include/runbooks/drill-unverified.md` |
| **Safe to clear** | yes: it touches no live system, and every try is recorded under its own name |
| **Objective** | a passed drill every week, or of every set (`schedule.drill: after-backup`), within the inventory's RPO and RTO |
"""

from __future__ import annotations

from airflow.sdk import DAG

from mainstay import params
from mainstay.assets import sets_of
from mainstay.defaults import ALONE, DEFAULT_ARGS, INVENTORY, LONGEST, SYSTEM_TAGS, TARGETS, Pool, Tag, on_schedule
from mainstay.links import documented
from mainstay.notifiers.alert import AlertNotifier
from mainstay.operators.drill import ChooseOperator, DrillOperator
from mainstay.operators.judge import JudgeOperator

with DAG(
    dag_id="drill",
    dag_display_name="Drill",
    description="Proves that the newest set comes back, and measures RPO and RTO",
    doc_md=documented(__doc__),
    schedule=on_schedule(INVENTORY.schedule.drill, after=sets_of(INVENTORY.pipeline)),
    catchup=False,
    max_active_runs=1,
    default_args={**DEFAULT_ARGS, "on_failure_callback": AlertNotifier(runbook="drill-failed")},
    params={"set": params.set_id(), "target": params.maybe_target(TARGETS), "point": params.point()},
    tags=[Tag.DRILL, Tag.TIER_2, *SYSTEM_TAGS],
):
    choose = ChooseOperator(task_id="choose", pool=Pool.PROBE)
    drill = DrillOperator(
        task_id="drill", chosen=choose.output, pool=Pool.RESTORE, pool_slots=ALONE, execution_timeout=LONGEST
    )

    drill >> JudgeOperator(
        task_id="judge", summary=drill.output, runbook="drill-failed", unverified_runbook="drill-unverified"
    )
