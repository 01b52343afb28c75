"""Restore: plan, and when a person has approved the plan, do it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from include.engine.cli import figures
from include.engine.errors import Refused
from include.engine.model import DestinationKind, RestorePlan, Target
from mainstay.operators.judge import told
from mainstay.operators.step import Step, Summary, clock

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Context

    from include.engine.verbs.pipeline import Pipeline


class PlanOperator(Step):
    """Say what the restore would do.  Changes nothing; refuses what must not be done.

    Its summary has the plan as a page for the person who approves it (``page``).
    """

    def __init__(self, *, runbook: str = "restore-failed", **kwargs: Any) -> None:
        super().__init__(runbook=runbook, **kwargs)

    def execute(self, context: Context) -> Summary:
        """Plan."""
        params = context["params"]
        plan = _plan(self.pipeline, params, params["backup"])
        page = page_of(plan, params["reason"])
        self.log.info("%s", page)
        return {
            "target": str(plan.target),
            "backup": plan.backup,
            "point": str(plan.point),
            "destination": place_of(plan),
            "bytes_to_fetch": plan.bytes_to_fetch,
            "bytes_needed": plan.bytes_needed,
            "seconds_expected": plan.seconds_expected,
            "would_overwrite": list(plan.would_overwrite),
            "page": page,
        }


class RestoreOperator(Step):
    """Restore what was planned and approved.

    It plans again first: the destination may have filled up since, or turned out to be the source.  It starts from the backup
    that was approved, and refuses when more would be overwritten than the person has seen.

    :param plan: the summary of :class:`PlanOperator` (templated)
    :param approval: what the person answered (templated)
    """

    template_fields = ("plan", "approval")

    def __init__(self, *, plan: Any, approval: Any, runbook: str = "restore-failed", **kwargs: Any) -> None:
        super().__init__(runbook=runbook, **kwargs)
        self.plan = plan
        self.approval = approval

    def execute(self, context: Context) -> Summary:
        """Restore."""
        from include.engine.verbs import restore

        params = context["params"]
        plan = _plan(self.pipeline, params, self.plan["backup"])
        more = sorted(set(plan.would_overwrite) - set(self.plan["would_overwrite"]))
        if more or place_of(plan) != self.plan["destination"]:
            raise Refused(
                f"the plan is not the one that was approved: it would overwrite {', '.join(more) or place_of(plan)}",
                hint="look at the destination, then run the restore again and read its plan",
            )
        who = approver(self.approval)
        self.log.info("restoring %s from %s into %s, approved by %s", plan.target, plan.backup, place_of(plan), who)
        with self.progress() as progress:
            restored = restore.restore(
                self.pipeline,
                plan,
                reason=params["reason"],
                by=who,
                progress=progress,
                stop=self.stop,
                clock=clock,
            )
        return {
            "what": f"restore of {restored.target} from {restored.backup}",
            "verdict": str(restored.verdict),
            "problems": told(restored.checks),
            "checks": len(restored.checks),
            "address": restored.address,
            "recovered_to": restored.recovered_to.isoformat() if restored.recovered_to else None,
            "seconds": sum(stage.seconds for stage in restored.stages),
            "bytes": plan.bytes_to_fetch,
            "reason": params["reason"],
            "approved_by": who,
        }


def approver(approval: Mapping[str, Any]) -> str:
    """Name the person who approved."""
    user = approval.get("responded_by_user") or {}
    return str(user.get("name") or user.get("id") or "nobody known")


def place_of(plan: RestorePlan) -> str:
    """Name where a restore goes."""
    place = plan.destination.path or plan.destination.name
    return f"{plan.destination.kind} {place}".strip()


def page_of(plan: RestorePlan, reason: str) -> str:
    """Write the plan as Markdown for the person who approves it."""
    expected = (
        figures.duration(plan.seconds_expected) if plan.seconds_expected else "not known: no drill has measured it yet"
    )
    overwritten = ", ".join(f"**{plain(one)}**" for one in plan.would_overwrite) or "nothing"
    facts = [
        ("Target", f"`{plan.target}`"),
        ("From", " → ".join(f"`{one}`" for one in plan.chain)),
        ("To the point", f"`{plan.point}`"),
        ("Into", f"`{plain(place_of(plan))}`"),
        ("Would overwrite", overwritten),
        ("To fetch", figures.size(plan.bytes_to_fetch)),
        ("Space needed", figures.size(plan.bytes_needed)),
        ("Expected to take", expected),
        ("Reason", plain(reason)),
    ]
    table = "\n".join(["| | |", "|---|---|", *(f"| **{name}** | {value} |" for name, value in facts)])
    steps = "\n".join(f"{number}. {plain(step)}" for number, step in enumerate(plan.steps, start=1))
    warnings = "".join(f"\n> **Warning:** {plain(one)}\n" for one in plan.warnings)
    return f"{table}\n{warnings}\n**Steps**\n\n{steps}\n"


def plain(text: str) -> str:
    """Keep what people typed from breaking the table or becoming markup."""
    flat = " ".join(text.split())
    return "".join(f"\\{letter}" if letter in "\\|<>[]*_`#" else letter for letter in flat)


def _plan(pipeline: Pipeline, params: Mapping[str, Any], backup: str | None) -> RestorePlan:
    from include.engine.verbs import restore

    return restore.plan(
        pipeline,
        Target.parse(params["target"]),
        point=params["point"],
        backup=backup,
        destination=DestinationKind(params["destination"]),
        path=params["path"] or "",
        server=params["server"] or "",
        confirm=params["confirm"] or "",
    )
