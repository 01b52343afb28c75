"""``./mainstay sandbox``: what restores have left serving on this machine, and how to be rid of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import Struct

from include.engine.cli.output import Json, emit_json, show, table
from include.engine.errors import Contended, NotFound, Refused

if TYPE_CHECKING:
    from include.engine.sandbox.home import Sandbox

sandboxes = typer.Typer(help="See and remove throw-away servers that a restore left serving.", no_args_is_help=True)


class ListedSandbox(Struct, frozen=True, kw_only=True):
    """One sandbox of this machine.

    :param used: a process works with it now and removes it itself, as a drill does
    """

    name: str
    servers: tuple[str, ...]
    used: bool


@sandboxes.command("list")
def show_all(as_json: Json = False) -> None:
    """List the sandboxes of this machine, and the servers that run in them."""
    found = [ListedSandbox(name=one.name, servers=_serving(one), used=_used(one)) for one in _here()]
    if as_json:
        emit_json(found)
    elif not found:
        show("there is no sandbox")
    else:
        rows = [(one.name, ", ".join(one.servers) or "none", "in use" if one.used else "") for one in found]
        show(table(("sandbox", "serving", ""), rows))


@sandboxes.command("remove")
def remove(name: Annotated[str, typer.Argument(help="as `sandbox list` shows it")]) -> None:
    """Stop the servers of a sandbox and delete all that they hold.  It touches no backup."""
    from include.engine.cli.demo_place import NAME

    found = {one.name: one for one in _here()}
    if name not in found:
        known = ", ".join(sorted(found)) or "none"
        raise NotFound(f"there is no sandbox {name}", hint=f"there are: {known}")
    if name == NAME:
        raise Refused("that is the demo", hint="`./mainstay down --wipe` ends it and deletes its data")
    if _used(found[name]):
        raise Contended(
            f"a process works with the sandbox {name}", hint="wait for its end, or stop the drill or restore"
        )
    stopped = _serving(found[name])
    found[name].destroy()
    show(f"removed {name}" + (f", with {', '.join(stopped)}" if stopped else ""))


def _here() -> list[Sandbox]:
    from include.engine.sandbox.home import Home
    from include.engine.wiring import PROJECT

    return Home.of(PROJECT).sandboxes()


def _serving(sandbox: Sandbox) -> tuple[str, ...]:
    addresses = []
    for record in sandbox.running():
        ports = ", ".join(str(port) for port in sorted(set(record.ports.values())))
        addresses.append(f"{record.name} (port {ports})" if ports else record.name)
    return tuple(addresses)


def _used(sandbox: Sandbox) -> bool:
    return (sandbox.root / "owner.json").exists() and not sandbox.abandoned
