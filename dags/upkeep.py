"""
### Look after the backups

Removes what dead attempts left in the bucket, walks the log archives for gaps, checks that the catalog adds up, and deletes
old rows and logs of Airflow itself. The tasks do not depend on each other: each tells what it found.

| | |
|---|---|
| **If it fails** | runbook `include/runbooks/upkeep-failed.md`; a gap in a log archive: `include/runbooks/wal-gap.md` |
| **Safe to clear** | yes |
| **Objective** | a gap in an archive is known within a day |
"""

from __future__ import annotations

from airflow.sdk import DAG

from mainstay import params
from mainstay.defaults import DEFAULT_ARGS, INVENTORY, SYSTEM_TAGS, Pool, Tag, on_schedule
from mainstay.links import documented
from mainstay.notifiers.alert import AlertNotifier
from mainstay.operators.upkeep import (
    AuditOperator,
    CheckCatalogOperator,
    CleanLogsOperator,
    CleanMetadataOperator,
    SweepOperator,
)

with DAG(
    dag_id="upkeep",
    dag_display_name="Upkeep",
    description="Orphans, log archives, catalog, and Airflow's own rows and logs",
    doc_md=documented(__doc__),
    schedule=on_schedule(INVENTORY.schedule.upkeep),
    catchup=False,
    max_active_runs=1,
    default_args={**DEFAULT_ARGS, "on_failure_callback": AlertNotifier(runbook="upkeep-failed")},
    params={
        "dry_run": params.dry_run(default=False),
        "metadata_days": params.days(90, "rows in Airflow's database"),
        "log_days": params.days(30, "task logs"),
    },
    tags=[Tag.UPKEEP, Tag.TIER_2, *SYSTEM_TAGS],
):
    SweepOperator(task_id="sweep")
    AuditOperator(task_id="audit", pool=Pool.PROBE)
    CheckCatalogOperator(task_id="check_catalog", pool=Pool.PROBE)
    CleanMetadataOperator(task_id="clean_metadata")
    CleanLogsOperator(task_id="clean_logs")
