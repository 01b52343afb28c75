"""``./mainstay sweep``: look at everything at once, and say what a person must know."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from include.engine.cli import figures
from include.engine.cli.clock import now
from include.engine.cli.output import Json, coloured, emit_json, leave, show, table
from include.engine.cli.whence import Whence, finds_pipeline

if TYPE_CHECKING:
    from rich.console import RenderableType

    from include.engine.health.findings import Finding
    from include.engine.health.scaling import ScalingRow
    from include.engine.verbs.sweep import SweepReport, Watch

_TREND = timedelta(days=2)  # of history that a trend is read from


@finds_pipeline
def sweep(
    whence: Whence,
    *,
    systems: Annotated[
        list[str] | None, typer.Argument(metavar="[SYSTEM]…", help="only these: postgres, kafka, airflow, backups, …")
    ] = None,
    scaling: Annotated[bool, typer.Option("--scaling", help="show also what will be too small, and when")] = False,
    readings: Annotated[bool, typer.Option("--readings", help="show also every number that was read")] = False,
    as_json: Json = False,
) -> None:
    """Read everything that the inventory has, judge it by the rules, and show what is found.

    It remembers what it has seen as the DAG does, and tells nobody else: the DAG's next run does that.
    """
    from include.engine.health.scaling import scaling as scaling_table
    from include.engine.verbs import sweep as verb

    watch = opened(whence)
    chosen = systems or list(watch.systems)
    began = time.monotonic()
    looks = verb.look(watch, chosen, clock=now)
    report, history = verb.conclude(watch, looks, chosen, clock=now, seconds=time.monotonic() - began)
    metrics = [row.metric for row in watch.book.scaling.values()]
    rows: list[ScalingRow] = []
    if scaling or as_json:
        points = history.points(metrics, now() - _TREND)
        rows = scaling_table(watch.book, report.looks, points, limits=watch.limits)
    if as_json:
        emit_json({"report": report, "scaling": rows})
    else:
        show(*_told(report, with_readings=readings), *([scaling_of(rows)] if scaling else []))
    leave(report.verdict)


def opened(whence: Whence) -> Watch:
    """Open the watch that the inventory describes, with the shell's connections.

    :raises Misconfigured: when a bucket was named, which has no live systems
    """
    from include.engine import lookout
    from include.engine.cli.connections import ShellConnections
    from include.engine.cli.demo_place import INVENTORY
    from include.engine.cli.demo_sandbox import existing
    from include.engine.errors import Misconfigured

    if whence.bucket:
        raise Misconfigured("a bucket alone has no live systems to look at", hint="leave --bucket out")
    if (demo := existing()) is not None and whence.path.resolve() in {INVENTORY.resolve(), demo.inventory.resolve()}:
        for name, value in demo.settings().items():  # where its DAG remembers, and where its logs are
            os.environ.setdefault(name, value)
    return lookout.open_watch(whence.inventory(), ShellConnections(whence.path), beside=whence.path)


def _told(report: SweepReport, *, with_readings: bool) -> list[RenderableType]:
    parts: list[RenderableType] = []
    if with_readings:
        parts.append(_readings(report))
    if report.findings:
        parts.append(findings_of(report.findings, report))
    subjects = len({look.subject for look in report.looks})
    failed = sum(look.trouble is not None for look in report.looks)
    told = f"{report.readings} readings of {subjects} subjects in {figures.duration(report.seconds)}"
    parts.append(table(("verdict", "looked at", ">findings"), [(coloured(report.verdict), told, len(report.findings))]))
    if failed:
        parts.append(f"{failed} of {len(report.looks)} probes could not read: what they would say is not proved")
    return parts


def findings_of(findings: tuple[Finding, ...], report: SweepReport) -> RenderableType:
    """Lay out findings."""
    rows = [
        (
            coloured(one.verdict) if one.state == "open" else str(one.state),
            one.severity,
            one.subject,
            one.rule,
            _value(one),
            figures.age(one.since, report.at),
            one.detail if one.verified else f"{one.detail} (not read now)",
            one.runbook,
        )
        for one in findings
    ]
    return table(("", "act", "subject", "rule", ">value", ">since", "what it means", "runbook"), rows)


def scaling_of(rows: list[ScalingRow]) -> RenderableType:
    """Lay out the scaling table."""
    columns = ("", "what", ">value", ">limit", ">per hour", ">breach", "what binds", "action", "costs")
    return table(columns, [_scaling(row) for row in rows], title="When to scale")


def _scaling(row: ScalingRow) -> tuple[object, ...]:
    from include.engine.health.trends import soon

    return (
        coloured(row.verdict),
        f"{row.title} {row.subject}".strip(),
        figures.number(row.value, row.unit),
        figures.number(row.limit, row.unit),
        "?" if row.trend is None else figures.number(row.trend.slope * 3600, row.unit),
        soon(row.breach) or "not in sight",
        row.cause,
        row.action,
        row.costs,
    )


def _readings(report: SweepReport) -> RenderableType:
    rows = [
        (look.subject, one.metric, figures.number(one.value, one.unit), _labels(one.labels))
        for look in report.looks
        for one in look.readings
    ]
    return table(("subject", "metric", ">value", "of"), rows)


def _labels(labels: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(labels.items()))


def _value(one: Finding) -> str:
    told = figures.number(one.value, one.unit)
    where = _labels(one.labels)
    return f"{told} ({where})" if where and one.value is not None else where or told
