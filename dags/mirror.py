"""
### Mirror topics to another cluster

Makes the connectors what the inventory declares (MirrorMaker 2 on Kafka Connect, exactly once, names and bytes untouched), waits
until the copy has everything that the source has now, compares the last records of every partition byte by byte, and puts
every consumer group on the copy at the very record that it would read next. Each declared mirror has tasks of its own, so that
one that fails keeps no other from being proved; a person may choose one. A mirror that was stopped, as a fail-over does, goes
on only when its name is typed; until then its tasks are skipped when the clock runs it, and say when and why it was stopped.

| | |
|---|---|
| **If it fails** | runbook `include/runbooks/mirror-failed.md` |
| **Safe to clear** | yes: what is as declared stays untouched, and waiting begins anew |
| **Objective** | groups on the copy are never older than the last run |
"""

from __future__ import annotations

import re
from datetime import timedelta

from airflow.sdk import DAG, TaskGroup

from mainstay import params
from mainstay.defaults import DEFAULT_ARGS, INVENTORY, MIRRORS, Pool, Tag, on_schedule
from mainstay.links import documented
from mainstay.notifiers.alert import AlertNotifier
from mainstay.operators.judge import JudgeOperator
from mainstay.operators.mirror import (
    ApplyMirrorOperator,
    PlanMirrorOperator,
    ProveMirrorOperator,
    WaitForMirrorOperator,
)

if MIRRORS:
    with DAG(
        dag_id="mirror",
        dag_display_name="Mirror",
        description="Keeps a running copy of topics on another cluster, and proves that it is one",
        doc_md=documented(__doc__),
        schedule=on_schedule(INVENTORY.schedule.mirror),
        catchup=False,
        max_active_runs=1,
        default_args={**DEFAULT_ARGS, "on_failure_callback": AlertNotifier(runbook="mirror-failed")},
        params={"mirror": params.maybe_mirror(MIRRORS), "confirm": params.copy_on()},
        tags=[Tag.MIRROR, Tag.KAFKA, Tag.TIER_2],
    ):
        for mirror in MIRRORS:
            group = re.sub(r"[^\w-]", "_", mirror)
            with TaskGroup(group, group_display_name=mirror, add_suffix_on_collision=True):
                plan = PlanMirrorOperator(task_id="plan", mirror=mirror, pool=Pool.PROBE)
                apply = ApplyMirrorOperator(task_id="apply", mirror=mirror, pool=Pool.PROBE)
                # In no pool of ours: it waits for an hour, and a pool counts those who wait.
                wait = WaitForMirrorOperator(
                    task_id="wait", mirror=mirror, cut=apply.output, execution_timeout=timedelta(hours=2)
                )
                prove = ProveMirrorOperator(
                    task_id="prove", mirror=mirror, cut=apply.output, seen=wait.output, pool=Pool.PROBE
                )
                judge = JudgeOperator(task_id="judge", summary=prove.output, runbook="mirror-failed")

                plan >> apply >> wait >> prove >> judge
