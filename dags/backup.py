"""
### Back up the pipeline

Takes one backup set: fixes the cut of all targets without pausing them, copies them side by side, writes the set, reads it
back, and expires what retention no longer keeps. What was left on the servers is released whatever happened. The asset events
say that a set, and each of its backups, was taken **and read back**. A set whose parts do not fit together, or of which that could
not be told, is kept and announced, and fails the task `judge`.

| | |
|---|---|
| **If it fails** | runbook `include/runbooks/backup-failed.md`, of `judge` `set-inconsistent.md`, of a late run `backup-late.md` |
| **Safe to clear** | yes: a run finds the cut, the copies and the set that it has made, and goes on from there |
| **Objective** | one verified set per schedule; a person is told when a run is not done in time (`late_after`) |
"""

from __future__ import annotations

from airflow.sdk import DAG, AsyncCallback, DeadlineAlert, DeadlineReference, TriggerRule

from mainstay import params
from mainstay.assets import BACKUPS, sets_of
from mainstay.defaults import DEFAULT_ARGS, INVENTORY, LONGEST, QUEUE, SYSTEM_TAGS, TARGETS, Pool, Tag, on_schedule
from mainstay.links import documented
from mainstay.notifiers.alert import AlertNotifier
from mainstay.operators.backup import CopyOperator, FreezeOperator, ReleaseOperator, SealOperator, VerifyOperator
from mainstay.operators.expire import ExpireOperator
from mainstay.operators.judge import JudgeOperator

UNFIT = "set-inconsistent"
LATE = AsyncCallback(AlertNotifier, kwargs={"runbook": "backup-late", "what": "a backup is late"})

with DAG(
    dag_id="backup",
    dag_display_name="Backup",
    description="One backup set over all targets, verified",
    doc_md=documented(__doc__),
    schedule=on_schedule(INVENTORY.schedule.backup),
    catchup=False,
    max_active_runs=1,
    default_args={**DEFAULT_ARGS, "on_failure_callback": AlertNotifier(runbook="backup-failed")},
    deadline=DeadlineAlert(DeadlineReference.DAGRUN_QUEUED_AT, INVENTORY.late_after, LATE, name="late"),
    params={"targets": params.targets(TARGETS), "full": params.full()},
    tags=[Tag.BACKUP, Tag.TIER_1, *SYSTEM_TAGS],
):
    freeze = FreezeOperator(task_id="freeze", pool=Pool.PROBE)
    copy = CopyOperator.partial(
        task_id="copy",
        pool=Pool.BACKUP,
        queue=QUEUE,
        execution_timeout=LONGEST,
        map_index_template="{{ task.target }}",
    ).expand(target=freeze.output)
    seal = SealOperator(task_id="seal")
    verify = VerifyOperator(task_id="verify", execution_timeout=LONGEST, outlets=[sets_of(INVENTORY.pipeline), BACKUPS])
    # A teardown without a setup: when the freeze itself fails halfway, what it left must go too.
    release = ReleaseOperator(task_id="release", pool=Pool.PROBE, trigger_rule=TriggerRule.ALL_DONE).as_teardown()

    judge = JudgeOperator(
        task_id="judge", summary=seal.output, runbook=UNFIT, on_failure_callback=AlertNotifier(runbook=UNFIT)
    )

    freeze >> copy >> seal >> verify >> [ExpireOperator(task_id="expire"), judge]
    [freeze, copy] >> release
