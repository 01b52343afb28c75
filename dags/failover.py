"""
### Fail over to a mirror

Looks at the mirror and its source, shows a person what would be lost, and fails over when the person approves: the copy is brought
up to date as far as the source still answers, every consumer group is put on the copy at its very next record, the copying
stops. With *dry run*, which is the default, it stops after the look. Producers and consumers are pointed at the copy by a
person; nothing here touches the source.

| | |
|---|---|
| **If it fails** | runbook `include/runbooks/failover-failed.md` |
| **Safe to clear** | yes, until consumers run on the copy: groups with members are not moved |
| **Objective** | every group reads on at the record that it would have read next |
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.providers.standard.operators.python import ShortCircuitOperator
from airflow.sdk import DAG

from mainstay import params
from mainstay.defaults import ALONE, DEFAULT_ARGS, MIRRORS, Pool, Tag
from mainstay.links import documented
from mainstay.notifiers.alert import AlertNotifier
from mainstay.operators.failover import FailoverOperator, PlanFailoverOperator
from mainstay.operators.judge import JudgeOperator

RUNBOOK = "failover-failed"

if MIRRORS:
    with DAG(
        dag_id="failover",
        dag_display_name="Fail over",
        description="To a mirror, after a person has seen what would be lost",
        doc_md=documented(__doc__),
        schedule=None,
        catchup=False,
        max_active_runs=1,
        default_args={**DEFAULT_ARGS, "on_failure_callback": AlertNotifier(runbook=RUNBOOK)},
        params={"mirror": params.mirror(MIRRORS), "reason": params.reason(), "dry_run": params.dry_run()},
        tags=[Tag.MIRROR, Tag.KAFKA, Tag.TIER_1, Tag.DANGER],
    ):
        chosen = "{{ params.mirror }}"
        plan = PlanFailoverOperator(task_id="plan", mirror=chosen, runbook=RUNBOOK, pool=Pool.PROBE)
        proceed = ShortCircuitOperator(task_id="proceed", python_callable=lambda params: not params["dry_run"])
        approve = ApprovalOperator(
            task_id="approve",
            subject="Fail over to {{ params.mirror }}?",
            body="{{ ti.xcom_pull('plan')['page'] }}",
            response_timeout=timedelta(hours=24),
        )
        failover = FailoverOperator(
            task_id="failover",
            mirror=chosen,
            approval=approve.output,
            runbook=RUNBOOK,
            pool=Pool.RESTORE,
            pool_slots=ALONE,
        )

        plan >> proceed >> approve >> failover
        failover >> JudgeOperator(task_id="judge", summary=failover.output, runbook=RUNBOOK)
