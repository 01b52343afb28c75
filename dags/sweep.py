"""
### Sweep the pipeline

Reads every number of every system, each probe with a time limit of its own, judges them by the rules, and tells who must know:
once per change, never per sweep. The task `verdict` is red while something is wrong or could not be looked at, and tells nobody:
that is the business of `tell`, beside it.

| | |
|---|---|
| **If it fails** | `verdict`: the page of findings, and the runbook of each; `tell`: runbook `include/runbooks/not-read.md` |
| **Safe to clear** | yes: it only reads |
| **Objective** | whatever is wrong is told within ten minutes |
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, TriggerRule

from mainstay.defaults import DEFAULT_ARGS, INVENTORY, SYSTEM_TAGS, WATCHED, Pool, Tag, on_schedule
from mainstay.links import documented
from mainstay.notifiers.alert import AlertNotifier
from mainstay.notifiers.findings import FindingsNotifier
from mainstay.operators.judge import JudgeOperator
from mainstay.operators.sweep import JudgeSweepOperator, LookOperator, TellOperator

ONCE = {"retries": 0}  # the next sweep is five minutes away

with DAG(
    dag_id="sweep",
    dag_display_name="Sweep",
    description="Reads everything, judges it, and tells what changed",
    doc_md=documented(__doc__),
    schedule=on_schedule(INVENTORY.schedule.sweep),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(minutes=15),
    default_args={**DEFAULT_ARGS, **ONCE, "on_failure_callback": AlertNotifier(runbook="not-read")},
    tags=[Tag.SWEEP, Tag.TIER_2, *SYSTEM_TAGS],
):
    look = LookOperator.partial(task_id="look", pool=Pool.PROBE, map_index_template="{{ task.system }}").expand(
        system=WATCHED
    )
    judge = JudgeSweepOperator(task_id="judge", looks=look.output, systems=WATCHED, trigger_rule=TriggerRule.ALL_DONE)
    tell = TellOperator(
        task_id="tell",
        summary=judge.output,
        notifiers=[FindingsNotifier(receiver=name) for name in sorted(INVENTORY.notify)],
        retries=2,
    )
    verdict = JudgeOperator(
        task_id="verdict",
        summary=judge.output,
        runbook="not-read",
        on_failure_callback=None,
        trigger_rule=TriggerRule.ALL_DONE,
    )

    judge >> [tell, verdict]
