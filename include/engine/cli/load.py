"""``./mainstay load``: load tests that can be believed, what they found, and whether that has changed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from include.engine.cli.boundary import stopping
from include.engine.cli.clock import now
from include.engine.cli.output import Json, checks_table, coloured, emit_json, leave, show, table
from include.engine.cli.progress import ShellProgress
from include.engine.cli.whence import Whence, finds_pipeline, notice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from include.engine.loading.comparison import Comparison
    from include.engine.model import LoadResult

load = typer.Typer(help="Put load on a system of the pipeline, and say what it can take.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="ID", help="of a load test, as `load list` shows it")]


@load.command("run")
@finds_pipeline
def run(
    whence: Whence,
    *,
    profile: Annotated[str, typer.Argument(metavar="PROFILE", help="as `load profiles` lists them")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="<system>/<name>, allowed by the inventory")],
    rate: Annotated[
        float | None, typer.Option("--rate", min=0.1, help="operations a second, instead of the profile's")
    ] = None,
    duration: Annotated[
        float | None, typer.Option("--duration", min=1, help="seconds, instead of the profile's")
    ] = None,
    search: Annotated[bool, typer.Option("--search", help="look for the highest rate that keeps the gates")] = False,
    baseline: Annotated[str | None, typer.Option("--baseline", help="compare with this load test")] = None,
    cross_check: Annotated[
        bool, typer.Option("--cross-check", help="ask the system's own tool for a second opinion; Kafka has one")
    ] = False,
    reason: Annotated[str, typer.Option("--reason", help="why; it is kept with the result")] = "",
    as_json: Json = False,
) -> None:
    """Run a load test.  What it creates is removed at its end; the result and its page go to the bucket."""
    from include.engine import load_wiring
    from include.engine.cli.connections import ShellConnections
    from include.engine.model import backup_id
    from include.engine.store.loads import Loads
    from include.engine.verbs import load as verb

    inventory, connections = whence.inventory(), ShellConnections(whence.path)
    found = load_wiring.load_profile(profile)
    engine = load_wiring.open_load(inventory, connections, target, found)
    wish = verb.Wish(
        profile=found,
        target=target,
        permission=load_wiring.load_targets(inventory)[target],
        rate=rate,
        seconds=duration,
        search=search,
        reason=reason,
        baseline=baseline,
        cross_check=cross_check,
    )
    with stopping() as stop, ShellProgress() as progress:
        result = verb.run(
            inventory.pipeline,
            Loads(whence.pipeline().catalog.bucket),
            engine,
            wish,
            id_=backup_id(now()),
            probes=load_wiring.load_probes(inventory, connections, target),
            progress=progress,
            stop=stop,
            clock=now,
        )
    emit_json(result) if as_json else _show(result)
    leave(result.verdict)


@load.command("profiles")
def profiles(as_json: Json = False) -> None:
    """List the load profiles, and say what is wrong with those that have mistakes."""
    from include.engine import load_wiring
    from include.engine.errors import Misconfigured
    from include.engine.model import Verdict

    found: list[dict[str, str]] = []
    for name in load_wiring.load_profiles():
        try:
            one = load_wiring.load_profile(name)
            found.append({"name": name, "system": one.system, "description": one.description, "wrong": ""})
        except Misconfigured as error:
            found.append({"name": name, "system": "", "description": "", "wrong": error.message})
    if as_json:
        emit_json(found)
    else:
        rows = [(one["name"], one["system"], one["description"] or one["wrong"]) for one in found]
        show(table(("profile", "system", "what it stands for"), rows))
    leave(Verdict.FAIL if any(one["wrong"] for one in found) else Verdict.PASS)


@load.command("list")
@finds_pipeline
def list_(whence: Whence, *, as_json: Json = False) -> None:
    """List the load tests in the bucket.  The exit code is 1 when one cannot be read; it hides no other."""
    from include.engine.errors import Corrupt, Unsupported
    from include.engine.model import Verdict
    from include.engine.store.loads import Loads

    loads = Loads(whence.pipeline().catalog.bucket)
    found: list[LoadResult] = []
    wrong: list[str] = []
    for id_ in loads.ids():
        try:
            result = loads.find(id_)
        except (Corrupt, Unsupported) as error:
            wrong.append(error.message)
        else:
            found += [result] if result is not None else []
    if as_json:
        emit_json(found)
    else:
        _show_list(found)
    for problem in wrong:
        notice(f"cannot be read: {problem}")
    leave(Verdict.FAIL if wrong else Verdict.PASS)


def _show_list(found: Sequence[LoadResult]) -> None:
    rows = [
        (
            one.id,
            one.profile,
            one.target,
            f"{one.step.achieved_rate:,.0f}/{one.step.target_rate:,.0f}" if one.step else "",
            f"{one.step.from_intended.p99:,.1f}" if one.step else "",
            coloured(one.verdict),
        )
        for one in found
    ]
    show(table(("id", "profile", "target", ">achieved/asked for, 1/s", ">p99, ms", "verdict"), rows))


@load.command("show")
@finds_pipeline
def show_(
    whence: Whence,
    *,
    id_: Id,
    html: Annotated[Path | None, typer.Option("--html", help="write its page to this file")] = None,
    as_json: Json = False,
) -> None:
    """Show one load test; with --html write its page, plots and all, to a file.  The exit code is its verdict's."""
    from include.engine.store.loads import Loads

    loads = Loads(whence.pipeline().catalog.bucket)
    result = loads.get(id_)
    if html is not None:
        html.write_text(loads.page(id_), encoding="utf-8")
    emit_json(result) if as_json else _show(result)
    leave(result.verdict)


@load.command("compare")
@finds_pipeline
def compare(
    whence: Whence,
    *,
    before: Annotated[str, typer.Argument(metavar="A", help="a load test")],
    after: Annotated[str, typer.Argument(metavar="B", help="a later one")],
    as_json: Json = False,
) -> None:
    """Say what has changed between two load tests beyond noise.  The exit code is 1 when something has, 3 when nobody can say."""
    from include.engine.model import worst
    from include.engine.store.loads import Loads
    from include.engine.verbs.load import comparison

    found = comparison(Loads(whence.pipeline().catalog.bucket), before, after)
    emit_json(found) if as_json else _show_comparison(found)
    leave(worst([change.verdict for change in found.changes]))


def _show(result: LoadResult) -> None:
    step = result.step
    show(f"Load test {result.id}: {result.profile} on {result.target}", "")
    if step is not None:
        rows = [
            (name, f"{one.count:,}", *(f"{value:,.2f}" for value in (one.p50, one.p90, one.p99, one.p999, one.max)))
            for name, one in (
                ("from the intended time", step.from_intended),
                ("from the time of sending", step.from_sent),
            )
        ]
        show(table(("latency, ms", ">operations", ">p50", ">p90", ">p99", ">p99.9", ">longest"), rows))
        if step.phases:
            rows = [
                (name, *(f"{value:,.1f}" for value in (one.mean, one.p50, one.p99, one.max)))
                for name, one in step.phases.items()
            ]
            show(table(("where the time went, ms", ">mean", ">p50", ">p99", ">longest"), rows))
    if len(result.steps) > 1:
        searched = [
            (
                f"{one.target_rate:,.0f}",
                f"{one.achieved_rate:,.0f}",
                f"{one.from_intended.p99:,.1f}",
                coloured(one.verdict),
            )
            for one in result.steps
        ]
        show(table((">asked for, 1/s", ">achieved, 1/s", ">p99, ms", "gates"), searched))
    if result.cross_check is not None and not result.cross_check.failed:
        other = result.cross_check
        names = ("mean", "p50", "p95", "p99", "p999", "max")
        rows = [
            (who, f"{rate:,.1f}", *(f"{found.get(name, 0.0):,.1f}" for name in names))
            for who, rate, found in (
                ("this test", step.achieved_rate if step else 0.0, other.ours),
                (other.by, other.rate, other.latencies),
            )
        ]
        heads = (">1/s", ">mean", ">p50", ">p95", ">p99", ">p99.9", ">longest")
        show(table(("second opinion, ms from sending", *heads), rows))
    show(checks_table(result.checks), *result.notes)
    show(table(("verdict", "result"), [(coloured(result.verdict), f"loads/{result.id}.json, loads/{result.id}.html")]))


def _show_comparison(found: Comparison) -> None:
    rows = [
        (
            change.metric,
            f"{change.before:,.4g} {change.unit}",
            f"{change.after:,.4g} {change.unit}",
            "" if change.p is None else f"{change.p:.2g}",
            change.says,
        )
        for change in found.changes
    ]
    show(table(("", f">{found.before}", f">{found.after}", ">p", ""), rows), *found.notes)
