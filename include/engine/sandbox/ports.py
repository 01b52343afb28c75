"""TCP ports on loopback: free ones for tests and drills, fixed ones for the demo, and who holds a busy one."""

from __future__ import annotations

import os
import random
import socket
from pathlib import Path

from include.engine.errors import Contended, Misconfigured
from include.engine.sandbox import procfs

LOOPBACK = "127.0.0.1"
RANGE = "MAINSTAY_PORTS"

_VARIABLE = "MAINSTAY_PORT_"  # and the name of a server
_TRIES = 200
_WIDTH = 12_000  # ports below the ephemeral range from which free ones are taken


def free_port() -> int:
    """A port that nobody listens on now.

    It lies in ``$MAINSTAY_PORTS`` (``20000-25999``) when set, else below the kernel's ephemeral range: a port from inside
    that can be taken by any outgoing connection while the server that owns it restarts.

    :raises Misconfigured: the variable holds no range
    """
    ports = _range()
    for port in random.SystemRandom().sample(ports, min(_TRIES, len(ports))):
        if is_free(port):
            return port
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def free_ports(count: int) -> list[int]:
    """So many ports that nobody listens on now, each another: asked for one by one, one could be given twice.

    :raises Misconfigured: see :func:`free_port`
    """
    found: set[int] = set()
    while len(found) < count:
        found.add(free_port())
    return list(found)


def promised() -> set[int]:
    """The ports that variables give to servers: nobody may listen there yet, and they are not free all the same."""
    texts = (text.strip() for name, text in os.environ.items() if name.startswith(_VARIABLE))
    return {int(text) for text in texts if text.isdecimal()}


def fixed_port(name: str, default: int | None = None) -> int | None:
    """The port that the variable ``MAINSTAY_PORT_<NAME>`` gives to the server *name*, else *default*.

    :raises Misconfigured: the variable holds no port
    """
    variable = variable_of(name)
    text = os.environ.get(variable, "").strip()
    if not text:
        return default
    if not text.isdecimal() or not 1 <= int(text) <= 65_535:
        raise Misconfigured(f"{variable}={text} is not a port", hint=f"Set {variable} to a number from 1 to 65535")
    return int(text)


def variable_of(name: str) -> str:
    """The environment variable that moves the server *name* to another port."""
    return _VARIABLE + "".join(letter if letter.isalnum() else "_" for letter in name).upper()


def is_free(port: int) -> bool:
    """Whether a server could listen on *port* on loopback now."""
    with socket.socket() as probe:
        # Servers set this too: a connection of the last life that still lingers does not block the next one.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def require_free(name: str, port: int) -> None:
    """Check that the server *name* can listen on *port*.

    :raises Contended: somebody listens there; the message names the port and the process, the hint the variable
    """
    if is_free(port):
        return
    pid = procfs.listener(port)
    holder = "another process" if pid is None else f"process {pid} ({procfs.command(pid)})"
    raise Contended(
        f"Port {port}, which {name} needs, is held by {holder}",
        hint=f"Stop it, or choose another port with {variable_of(name)}",
    )


def halves(number: int) -> str:
    """Give one half of the default range, for ``$MAINSTAY_PORTS``: two test runs side by side never choose the same port.

    :param number: which half; 2 is the first again
    """
    top = _first_ephemeral_port()
    first = top - _WIDTH // (1 + number % 2)
    return f"{first}-{first + _WIDTH // 2 - 1}"


def _range() -> range:
    text = os.environ.get(RANGE, "").strip()
    if not text:
        top = _first_ephemeral_port()
        return range(max(1024, top - _WIDTH), top)
    first, _, last = text.partition("-")
    if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last) <= 65_535):
        raise Misconfigured(f"{RANGE}={text} is not a range of ports", hint=f"Set {RANGE} to one like 20000-25999")
    return range(int(first), int(last) + 1)


def _first_ephemeral_port() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 32_768
