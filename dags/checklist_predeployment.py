"""
### The checklist before a deployment

Gives a verdict with evidence for each of: security audit, backup strategy, monitoring, recovery plan (a passed drill), load test,
documents and runbooks. Then a person reads the report and signs it, in Airflow: the last line is that name. Without it, or with a
line that could not be proved, the run is red.

| | |
|---|---|
| **If it fails** | runbook `include/runbooks/checklist-open.md`; the report says which line, and why |
| **Safe to clear** | yes: it only reads. A run keeps the first report that it made |
| **Objective** | no deployment without a signed report |
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import DAG

from mainstay import params
from mainstay.defaults import DEFAULT_ARGS, SYSTEM_TAGS, Pool, Tag
from mainstay.links import documented
from mainstay.notifiers.alert import AlertNotifier
from mainstay.operators.checklist import REFUSE, SIGN, InspectOperator, SignOperator
from mainstay.operators.judge import JudgeOperator

KIND = "predeployment"

with DAG(
    dag_id="checklist_predeployment",
    dag_display_name="Checklist: before a deployment",
    description="Seven items with verdicts and evidence, signed by a person",
    doc_md=documented(__doc__),
    schedule=None,
    catchup=False,
    max_active_runs=1,
    default_args={**DEFAULT_ARGS, "on_failure_callback": AlertNotifier(runbook="checklist-open")},
    tags=[Tag.CHECKLIST, Tag.TIER_3, *SYSTEM_TAGS],
):
    inspect = InspectOperator(task_id="inspect", kind=KIND, to_be_signed=True, pool=Pool.PROBE)
    ask = HITLOperator(
        task_id="ask",
        subject="Is the team ready, trained and willing to deploy with this report?",
        body="{{ ti.xcom_pull('inspect')['page'] }}",
        options=[SIGN, REFUSE],
        params={"note": params.note()},
        response_timeout=timedelta(days=3),
    )
    sign = SignOperator(task_id="sign", kind=KIND, answer=ask.output)

    inspect >> ask >> sign >> JudgeOperator(task_id="judge", summary=sign.output, runbook="checklist-open")
