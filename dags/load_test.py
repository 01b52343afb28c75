"""
### Put load on a system, and say what it can take

Runs a load profile against a target that the inventory allows: in topics, keyspaces, databases of its own, which are removed at the
end, and at once when a guard says that production suffers. Latency counts from the time at which each operation was due. The result
and its page are `loads/<id>.json` and `.html` in the bucket; `./mainstay load show` and `compare` read them. Without a target
in the form, every allowed target gets its system's steady profile, one after the other.

| | |
|---|---|
| **If it fails** | runbook `include/runbooks/load-failed.md` |
| **Safe to clear** | yes: a test that has a result is not run again, and what a dead one left is removed first |
| **Objective** | a week's change of latency or throughput is seen, and told from noise |
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from mainstay import load_params
from mainstay.defaults import DEFAULT_ARGS, INVENTORY, LOAD_PROFILES, LOAD_TARGETS, Pool, Tag, on_schedule
from mainstay.links import documented
from mainstay.notifiers.alert import AlertNotifier
from mainstay.operators.judge import JudgeOperator
from mainstay.operators.load import ChooseLoadsOperator, LoadTestOperator

with DAG(
    dag_id="load_test",
    dag_display_name="Load test",
    description="Puts load on a system at a fixed rate, and judges what it can take",
    doc_md=documented(__doc__),
    schedule=on_schedule(INVENTORY.schedule.load_test),
    catchup=False,
    max_active_runs=1,
    default_args={**DEFAULT_ARGS, "on_failure_callback": AlertNotifier(runbook="load-failed")},
    params={
        "profile": load_params.maybe_profile(LOAD_PROFILES),
        "target": load_params.maybe_load_target(LOAD_TARGETS),
        "kind": load_params.kind(),
        "duration": load_params.maybe_number("Duration", "Seconds of load, instead of the profile's."),
        "rate": load_params.maybe_number("Rate", "Operations a second, instead of the profile's stages."),
        "search": load_params.search(),
        "baseline": load_params.baseline(),
        "reason": load_params.maybe_reason(),
    },
    tags=[Tag.LOAD, Tag.TIER_3],
):
    choose = ChooseLoadsOperator(task_id="choose")
    load = LoadTestOperator.partial(
        task_id="load", pool=Pool.LOAD, max_active_tis_per_dagrun=1, execution_timeout=timedelta(hours=2)
    ).expand(load=choose.output)
    JudgeOperator.partial(task_id="judge", runbook="load-failed").expand(summary=load.output)
