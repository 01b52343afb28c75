"""``./mainstay expire``, ``retention``, ``keep`` and ``unkeep``: what stays in the bucket, and why."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Annotated

import typer

from include.engine.cli import figures
from include.engine.cli.clock import now
from include.engine.cli.output import Json, emit_json, show, table
from include.engine.cli.whence import Whence, finds_pipeline
from include.engine.errors import Refused

if TYPE_CHECKING:
    from include.engine.store.expiry import Expired, ExpiryPlan

_SHORTEST_REASON = 4

SetId = Annotated[str, typer.Argument(metavar="SET", help="the set, as the catalog names it")]


@finds_pipeline
def retention(whence: Whence, as_json: Json = False) -> None:
    """Say for every set and backup why it is kept, or that nothing keeps it.  Changes nothing."""
    from include.engine.verbs import retention as verb

    planned = verb.plan(whence.pipeline(), clock=now)
    if as_json:
        emit_json(planned)
        return
    show(f"The policy keeps {planned.policy}.")
    _show_kept(planned)
    _show_doomed(planned, "would go with `./mainstay expire --apply`")


@finds_pipeline
def expire(
    whence: Whence,
    apply: Annotated[
        bool, typer.Option("--apply/--dry-run", help="remove it; without, only say what would go")
    ] = False,
    as_json: Json = False,
) -> None:
    """Remove the sets, the backups and the log archive that nothing keeps any more.

    Only says what would go, unless --apply is given.  Chains are never broken, and the newest verified set always stays.
    """
    from include.engine.verbs import retention as verb

    report = verb.expire(whence.pipeline(), dry_run=not apply, clock=now)
    if as_json:
        emit_json(report)
        return
    if report.done is None:
        _show_doomed(report.plan, "would go")
    else:
        _show_done(report.done)
    for target, count in report.archive_bytes.items():
        show(f"log archive of {target}: {figures.size(count)} {'freed' if apply else 'would be freed'}")
    if not apply:
        show("Nothing was removed: this was a dry run.")


@finds_pipeline
def keep(
    whence: Whence,
    set_id: SetId,
    reason: Annotated[str, typer.Option("--reason", help="why; the catalog shows it")],
    as_json: Json = False,
) -> None:
    """Pin a set: retention never removes it, nor anything that it needs."""
    from include.engine.store.catalog import Keep

    if len(reason.strip()) < _SHORTEST_REASON:
        raise Refused("keeping a set needs a reason", hint="say it with --reason, for whoever wonders in a year")
    pinned = Keep(by=getpass.getuser(), reason=reason.strip(), at=now())
    whence.pipeline().catalog.keep(set_id, pinned)
    if as_json:
        emit_json({"set": set_id, "keep": pinned})
        return
    show(f"{set_id} is kept: {pinned.reason}")


@finds_pipeline
def unkeep(whence: Whence, set_id: SetId, as_json: Json = False) -> None:
    """Unpin a set: from now on retention decides."""
    pipeline = whence.pipeline()
    pipeline.catalog.set(set_id)
    pipeline.catalog.unkeep(set_id)
    if as_json:
        emit_json({"set": set_id, "keep": None})
        return
    show(f"{set_id} is no longer kept by a person; `./mainstay retention` says what else keeps it")


def _show_kept(planned: ExpiryPlan) -> None:
    rows = [("set", set_id, "\n".join(why)) for set_id, why in sorted(planned.sets.items(), reverse=True)]
    for target, kept in sorted(planned.backups.items()):
        rows += [(target, backup, "\n".join(why)) for backup, why in sorted(kept.items(), reverse=True)]
    show(table(("of", "kept", "because"), rows))


def _show_doomed(planned: ExpiryPlan, what: str) -> None:
    rows: list[tuple[object, ...]] = [("set", set_id, "") for set_id in planned.delete_sets]
    rows += [(one.target, one.backup, figures.size(one.bytes)) for one in planned.delete]
    if rows:
        show(table(("of", what, ">bytes"), rows))
    else:
        show("Everything is kept by some reason.")
    for held in planned.cannot:
        show(f"held: {held}")


def _show_done(done: Expired) -> None:
    rows: list[tuple[object, ...]] = [("set", set_id, "") for set_id in done.sets]
    rows += [(one.target, one.backup, figures.size(one.bytes)) for one in done.backups]
    show(table(("of", "removed", ">bytes"), rows) if rows else "There was nothing to remove.")
    for key in done.refused:
        show(f"the store refused to delete {key}")
    for spared in done.spared:
        show(f"spared: {spared}")
