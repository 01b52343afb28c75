"""
### Restore a target, or a whole set

Plans the restore of one target to a point in time, or of all parts of a set, shows the plan to a person, and does it when the
person approves. With *dry run*, the default, it stops after the plan. Before it writes, it plans again: a destination that is
the source, is running, or is not empty is refused unless its name was typed. A set's parts are restored side by side, a
stream's checkpoint after the log that it reads.

| | |
|---|---|
| **If it fails** | runbook `include/runbooks/restore-failed.md` |
| **Safe to clear** | no: start a new run, and read its plan |
| **Objective** | the RTO of the inventory; drills measure it |
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.providers.standard.operators.python import ShortCircuitOperator
from airflow.sdk import DAG

from mainstay import params
from mainstay.defaults import DEFAULT_ARGS, INVENTORY, LONGEST, SYSTEM_TAGS, TARGETS, Pool, Tag
from mainstay.links import documented
from mainstay.notifiers.alert import AlertNotifier
from mainstay.operators.judge import JudgeOperator
from mainstay.operators.restore import PartsOperator, PlanOperator, RestoreOperator, SumUpOperator

with DAG(
    dag_id="restore",
    dag_display_name="Restore",
    description="One target to any point, or a whole set, after a person has approved the plan",
    doc_md=documented(__doc__),
    schedule=None,
    catchup=False,
    max_active_runs=1,
    default_args={**DEFAULT_ARGS, "on_failure_callback": AlertNotifier(runbook="restore-failed")},
    params={
        "target": params.target(TARGETS),
        "point": params.point(),
        "backup": params.backup(),
        "destination": params.destination(),
        "path": params.path(),
        "server": params.server(params.places(INVENTORY)),
        "only": params.only(),
        "rename": params.rename(),
        "append": params.append(),
        "access": params.access(),
        "confirm": params.confirm(),
        "reason": params.reason(),
        "dry_run": params.dry_run(),
    },
    tags=[Tag.RESTORE, Tag.TIER_1, Tag.DANGER, *SYSTEM_TAGS],
):
    plan = PlanOperator(task_id="plan", pool=Pool.PROBE)
    proceed = ShortCircuitOperator(task_id="proceed", python_callable=lambda params: not params["dry_run"])
    approve = ApprovalOperator(
        task_id="approve",
        subject="Restore {{ params.target }} {{ params.backup or '' }} to {{ params.point }} into {{ params.destination }}?",
        body="{{ ti.xcom_pull('plan')['page'] }}",
        response_timeout=timedelta(hours=24),
    )
    first = PartsOperator(task_id="parts", plan=plan.output, which="first", approval=approve.output, pool=Pool.PROBE)
    then = PartsOperator(task_id="readers", plan=plan.output, which="then", approval=approve.output)
    named = {"approval": approve.output, "map_index_template": "{{ task.part.target }}"}
    work: dict[str, Any] = {"pool": Pool.RESTORE, "execution_timeout": LONGEST, **named}
    restoring = RestoreOperator.partial(task_id="restore", **work).expand(part=first.output)
    following = RestoreOperator.partial(task_id="restore_readers", before=restoring.output, **work).expand(
        part=then.output
    )
    whole = SumUpOperator(task_id="sum_up", parts=[restoring.output, following.output])

    plan >> proceed >> approve
    whole >> JudgeOperator(task_id="judge", summary=whole.output, runbook="restore-failed")
