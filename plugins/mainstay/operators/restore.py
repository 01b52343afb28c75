"""Restore: plan, and when a person has approved the plan, do it.  One target, or all parts of a set under one approval."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import TriggerRule

from include.engine.errors import Refused
from include.engine.model import DestinationKind, Moved, RestorePlan, SetPlan, Target, Verdict, waves, worst
from mainstay.operators.judge import told
from mainstay.operators.plan_page import page_of, page_of_set, place_of
from mainstay.operators.step import Step, Summary, clock
from mainstay.params import SET

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Context

    from include.engine.verbs.pipeline import Pipeline
    from include.engine.verbs.wishes import Wishes


class PlanOperator(Step):
    """Say what the restore would do.  Changes nothing; refuses what must not be done.

    Its summary has the plan as a page for the person who approves it (``page``), and the parts to restore: those of ``first``
    side by side, those of ``then`` after them.
    """

    def __init__(self, *, runbook: str = "restore-failed", **kwargs: Any) -> None:
        super().__init__(runbook=runbook, **kwargs)

    def execute(self, context: Context) -> Summary:
        """Plan."""
        from include.engine.verbs import restore, restore_set

        params = context["params"]
        wishes = wishes_of(params)
        if params["target"] == SET:
            word = f"set/{params['backup']}" if params["backup"] else restore_set.LATEST
            manifest = restore_set.find(self.pipeline, word)
            whole = restore_set.plan(self.pipeline, manifest, wishes, point=params["point"], clock=clock)
            self.report = f"sets/{whole.set_id}"
            page = page_of_set(whole, params["reason"])
        else:
            target = Target.parse(params["target"])
            plan = restore.plan_wish(
                self.pipeline, target, wishes.of_one(), point=params["point"], backup=params["backup"], clock=clock
            )
            whole = SetPlan(set_id="", parts=(plan,))
            page = page_of(plan, params["reason"])
        self.log.info("%s", page)
        first = waves(plan.target for plan in whole.parts)[0]
        return {
            "bytes_to_fetch": whole.bytes_to_fetch,
            "bytes_needed": whole.bytes_needed,
            "seconds_expected": whole.seconds_expected,
            "would_overwrite": list(whole.would_overwrite),
            "page": page,
            "first": [_told(whole.set_id, plan) for plan in whole.parts if plan.target in first],
            "then": [_told(whole.set_id, plan) for plan in whole.parts if plan.target not in first],
        }


class PartsOperator(Step):
    """Give the parts of a plan to map the restores over.

    Those of ``first`` only when every part, of ``then`` too, can still be restored as it was approved: a day may have gone, and the
    first one overwrites.  Who runs on their destinations comes to rest.

    :param plan: the summary of :class:`PlanOperator` (templated)
    :param which: ``first`` or ``then``
    :param approval: what the person answered (templated)
    """

    template_fields = ("plan", "approval")

    def __init__(self, *, plan: Any, which: str, approval: Any, runbook: str = "restore-failed", **kwargs: Any) -> None:
        super().__init__(runbook=runbook, **kwargs)
        self.plan = plan
        self.which = which
        self.approval = approval

    def execute(self, context: Context) -> list[Summary]:
        """Give them.

        :raises Refused: when nobody has approved, or a part is not what was approved any more; nothing was touched then
        """
        from include.engine.verbs import restore_set

        approver(self.approval)
        if self.which == "first":
            parts = [*self.plan["first"], *self.plan["then"]]
            plans = [_planned_again(self.pipeline, context["params"], part) for part in parts]
            restore_set.rest(self.pipeline, plans, clock=clock)
        return list(self.plan[self.which])


class RestoreOperator(Step):
    """Restore one part of what was planned and approved.

    It plans again first: the destination may have filled up since, or turned out to be the source.  It starts from the backup
    that was approved, and refuses when more would be overwritten than the person has seen.

    :param part: one of the parts of :class:`PlanOperator` (templated; map over them)
    :param approval: what the person answered (templated)
    :param before: the summaries of the parts that were restored before, which say where positions in a log are now (templated)
    """

    template_fields = ("part", "approval", "before")

    def __init__(
        self, *, part: Any, approval: Any, before: Any = (), runbook: str = "restore-failed", **kwargs: Any
    ) -> None:
        super().__init__(runbook=runbook, **kwargs)
        self.part = part
        self.approval = approval
        self.before = before

    def execute(self, context: Context) -> Summary:
        """Restore."""
        from include.engine.verbs import restore, restore_set

        params = context["params"]
        plan = _planned_again(self.pipeline, params, self.part)
        who = approver(self.approval)
        self.log.info("restoring %s from %s into %s, approved by %s", plan.target, plan.backup, place_of(plan), who)
        with self.progress() as progress:
            recorded: dict[str, Any] = {
                "reason": params["reason"],
                "by": who,
                "progress": progress,
                "stop": self.stop,
                "clock": clock,
            }
            if self.part["set"]:
                moved = [msgspec.convert(one, Moved) for done in self.before for one in done["moved"]]
                restored = restore_set.restore_part(self.pipeline, self.part["set"], plan, moved=moved, **recorded)
            else:
                restored = restore.restore(self.pipeline, plan, **recorded)
        return {
            "what": f"restore of {restored.target} from {restored.backup}",
            "set": self.part["set"],
            "verdict": str(restored.verdict if restored.checks else Verdict.UNVERIFIED),
            "problems": told(restored.checks),
            "checks": len(restored.checks),
            "address": restored.address,
            "recovered_to": restored.recovered_to.isoformat() if restored.recovered_to else None,
            "seconds": sum(stage.seconds for stage in restored.stages),
            "bytes": plan.bytes_to_fetch,
            "reason": params["reason"],
            "approved_by": who,
            "moved": msgspec.to_builtins(restored.moved),
        }


class SumUpOperator(Step):
    """Join the summaries of all parts that were restored into one, for the task that judges it.

    It runs when nothing has failed: of a set without a reader of a log, the second group is skipped.

    :param parts: the summaries (templated); lists of them, or nothing where a part of the DAG was skipped
    """

    template_fields = ("parts",)

    def __init__(self, *, parts: Any, runbook: str = "restore-failed", **kwargs: Any) -> None:
        super().__init__(runbook=runbook, trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS, **kwargs)
        self.parts = parts

    def execute(self, context: Context) -> Summary:
        """Join."""
        done = [one for group in self.parts for one in group or ()]
        whole = done[0]["set"] if done else ""
        problems = [f"{one['what']}: {problem}" for one in done for problem in one["problems"]]
        if whole:
            self.report = f"sets/{whole}"
        return {
            "what": f"restore of the set {whole}" if whole else ", ".join(one["what"] for one in done),
            "verdict": str(worst([Verdict(one["verdict"]) for one in done])),
            "problems": problems,
            "checks": sum(one["checks"] for one in done),
            "bytes": sum(one["bytes"] for one in done),
            "seconds": sum(one["seconds"] for one in done),
            "report": self.report,
        }


def approver(approval: Mapping[str, Any] | None) -> str:
    """Name the person who approved.

    :raises Refused: when nobody did: a task may be run, or its predecessor be marked as a success, without any answer
    """
    if approval is None or list(approval.get("chosen_options", [ApprovalOperator.APPROVE])) != [
        ApprovalOperator.APPROVE
    ]:
        raise Refused("nobody has approved the plan", hint="run it again, read its plan and answer the question")
    user = approval.get("responded_by_user") or {}
    return str(user.get("name") or user.get("id") or "nobody known")


def wishes_of(params: Mapping[str, Any]) -> Wishes:
    """Read what the form says.  Names in one field are separated by commas."""
    from include.engine.verbs.wishes import Wishes

    return Wishes(
        destination=DestinationKind(params["destination"]),
        path=params["path"] or "",
        servers=_names(params["server"]),
        confirm=_names(params["confirm"]),
        only=params["only"] or (),
        rename=params["rename"] or (),
        append=params["append"],
        access=params["access"],
    )


def _names(text: str | None) -> list[str]:
    return [name for name in (part.strip() for part in (text or "").split(",")) if name]


def _told(set_id: str, plan: RestorePlan) -> Summary:
    return {
        "set": set_id,
        "target": str(plan.target),
        "backup": plan.backup,
        "point": str(plan.point),
        "destination": place_of(plan),
        "would_overwrite": list(plan.would_overwrite),
    }


def _planned_again(pipeline: Pipeline, params: Mapping[str, Any], part: Mapping[str, Any]) -> RestorePlan:
    plan = _plan_part(pipeline, params, part)
    more = sorted(set(plan.would_overwrite) - set(part["would_overwrite"]))
    if more or place_of(plan) != part["destination"]:
        raise Refused(
            f"the plan is not the one that was approved: it would overwrite {', '.join(more) or place_of(plan)}",
            hint="look at the destination, then run the restore again and read its plan",
        )
    return plan


def _plan_part(pipeline: Pipeline, params: Mapping[str, Any], part: Mapping[str, Any]) -> RestorePlan:
    from include.engine.verbs import restore

    wishes, target = wishes_of(params), Target.parse(part["target"])
    if part["set"]:
        parts = [one.target for one in pipeline.catalog.set(part["set"]).parts]
        wish = wishes.of_parts(sorted(parts))[target]
    else:
        wish = wishes.of_one()
    return restore.plan_wish(pipeline, target, wish, point=params["point"], backup=part["backup"], clock=clock)
