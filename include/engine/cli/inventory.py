"""``./mainstay inventory``: is the inventory right, and is everything there that it names?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from include.engine.cli.output import Json, checks_table, emit_json, leave, show, table
from include.engine.cli.whence import Whence, finds_pipeline
from include.engine.contracts import Connections
from include.engine.errors import Misconfigured
from include.engine.model import Check, Verdict, worst

if TYPE_CHECKING:
    from include.engine.inventory import Inventory

inventory = typer.Typer(help="Look at the inventory.", no_args_is_help=True)


@inventory.command("check")
@finds_pipeline
def check(whence: Whence, as_json: Json = False) -> None:
    """Read the inventory and say all that is wrong with it, each mistake with its line; ask no server.

    Connections that it names are looked for, since a missing one is otherwise found at two in the morning.
    """
    from include.engine.cli.connections import ShellConnections

    found = whence.inventory()
    connections = ShellConnections(whence.path)
    checks = [_is_defined(name, connections) for name in named_connections(found)]
    verdict = worst([check.verdict for check in checks])
    if as_json:
        emit_json(
            {
                "path": str(whence.path),
                "pipeline": found.pipeline,
                "targets": [str(target) for target in sorted(found.targets)],
                "checks": checks,
                "verdict": verdict,
            }
        )
    else:
        _show(whence, found)
        show(checks_table(checks))
    leave(verdict)


def named_connections(found: Inventory) -> list[str]:
    """Name every connection that the inventory needs, once."""
    names = [found.store.connection, found.encryption.identity, found.evidence.key]
    for settings in found.targets.values():
        names += settings.connections()
    names += [name for one in found.load.airflow.values() for name in (one.connection, one.load.connection)]
    watch = found.sweep
    names += [watch.history, watch.metrics_token, *(one.connection for one in watch.airflow.values())]
    names += [*(one.connection for one in watch.endpoints.values()), *(one.connection for one in found.notify.values())]
    return list(dict.fromkeys(name for name in names if name))


def _is_defined(name: str, connections: Connections) -> Check:
    try:
        connection = connections.get(name)
    except Misconfigured as error:
        return Check(name=f"connection {name}", verdict=Verdict.FAIL, detail=str(error))
    where = connection.host or connection.extra.get("endpoint_url", "")
    port = f":{connection.port}" if connection.port else ""
    return Check(
        name=f"connection {name}", verdict=Verdict.PASS, detail=f"defined{f', {where}{port}' if where else ''}"
    )


def _show(whence: Whence, found: Inventory) -> None:
    rows = []
    for target in sorted(found.targets):
        objectives = found.objectives_of(target)
        sealed = "yes" if found.encryption_of(target).recipients else "no"
        rows.append((target, found.settings(target).connection, objectives.rpo, objectives.rto, sealed))
    columns = ("target", "connection", ">RPO", ">RTO", "encrypted")
    show(table(columns, rows, title=f"{whence.path}: pipeline {found.pipeline}, store {found.store.url}"))
