"""How the plan of a restore is shown, before anybody agrees to it."""

from __future__ import annotations

from include.engine.cli import figures
from include.engine.cli.output import show, table
from include.engine.model import RestorePlan, SetPlan


def show_set_plan(plan: SetPlan) -> None:
    """Show what the restore of a set would do, all parts on one page."""
    rows = [
        (
            str(part.target),
            part.backup,
            f"{part.destination.kind} {part.destination.path or part.destination.name}".strip(),
            figures.size(part.bytes_to_fetch),
            figures.size(part.bytes_needed),
            figures.duration(part.seconds_expected) if part.seconds_expected else "not known",
        )
        for part in plan.parts
    ]
    expected = figures.duration(plan.seconds_expected) if plan.seconds_expected else "not known"
    rows.append(("all", "", "", figures.size(plan.bytes_to_fetch), figures.size(plan.bytes_needed), expected))
    columns = ("part", "from", "into", ">to fetch", ">space needed", ">expected")
    show(table(columns, rows, title=f"Restore of the set {plan.set_id}"))
    show(table(("part", "step"), [(part.target, step) for part in plan.parts for step in part.steps]))
    warnings = [f"{part.target}: {warning}" for part in plan.parts for warning in part.warnings]
    for warning in (*plan.warnings, *warnings):
        show(f"warning: {warning}")
    for thing in plan.would_overwrite:
        show(f"WOULD OVERWRITE {thing}")


def show_plan(plan: RestorePlan) -> None:
    """Show what a restore would do."""
    destination = plan.destination.path or plan.destination.name or str(plan.destination.kind)
    facts = [
        ("restore", f"{plan.target} from {plan.backup}"),
        ("to the point", plan.point),
        ("into", f"{plan.destination.kind} {destination}" if destination != plan.destination.kind else destination),
        ("chain", " → ".join(plan.chain)),
        ("to fetch", figures.size(plan.bytes_to_fetch)),
        ("space needed", figures.size(plan.bytes_needed)),
        (
            "time expected",
            figures.duration(plan.seconds_expected) if plan.seconds_expected else "not known: no drill yet",
        ),
    ]
    show(table(("plan", ""), facts))
    show(table((">", "step"), enumerate(plan.steps, start=1)))
    for warning in plan.warnings:
        show(f"warning: {warning}")
    for thing in plan.would_overwrite:
        show(f"WOULD OVERWRITE {thing}")
