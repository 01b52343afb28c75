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

    :param used: a process works with it now: a drill, which removes it itself, or a restore
    :param unfinished: a restore into it has not come to its end, so what it serves is not whole
    """

    name: str
    servers: tuple[str, ...]
    used: bool
    unfinished: bool

    @property
    def state(self) -> str:
        """What a person should know of it."""
        if self.unfinished:
            return "being restored" if self.used else "unfinished: run the restore again, or remove it"
        return "in use" if self.used else ""


@sandboxes.command("list")
def show_all(as_json: Json = False) -> None:
    """List the sandboxes of this machine, and the servers that run in them."""
    found = [listed for one in _here() if (listed := _listed(one)) is not None]
    if as_json:
        emit_json(found)
    elif not found:
        show("there is no sandbox")
    else:
        rows = [(one.name, ", ".join(one.servers) or "none", one.state) for one in found]
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
    if found[name].used:
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


def _listed(sandbox: Sandbox) -> ListedSandbox | None:
    """Describe a sandbox; nothing when it was removed meanwhile, as a drill removes its own at any moment."""
    try:
        found = ListedSandbox(
            name=sandbox.name, servers=_serving(sandbox), used=sandbox.used, unfinished=sandbox.unfinished
        )
    except FileNotFoundError:
        return None
    return found if sandbox.root.exists() else None


def _serving(sandbox: Sandbox) -> tuple[str, ...]:
    addresses = []
    for record in sandbox.running():
        ports = ", ".join(str(port) for port in sorted(set(record.ports.values())))
        addresses.append(f"{record.name} (port {ports})" if ports else record.name)
    return tuple(addresses)
