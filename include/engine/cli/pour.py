"""``python -m include.engine.cli.pour``: users and events for a streaming job, so many a second, until SIGTERM.

``MAINSTAY_POUR`` holds a JSON document: ``kafka`` (a connection's fields), ``topics`` (by shape: users, events), ``rate`` (records
a second), ``seed``, and ``broken`` (after so many records comes one more that is broken off).  It is in the environment, where
``ps`` shows nobody the password.  A broker that is away is waited for.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

import msgspec

from include.engine.cli.clock import now
from include.engine.contracts import Connection, Stop
from include.engine.errors import MainstayError, Misconfigured
from include.engine.systems.spark.ingest import pour

DOCUMENT = "MAINSTAY_POUR"
_PAUSE = 1.0


def environment(
    connection: Connection, topics: dict[str, str], *, rate: float, seed: int = 1, broken: int = 0
) -> dict[str, str]:
    """Give the environment that a companion with this module is started with."""
    told = {"topics": topics, "rate": rate, "seed": seed, "broken": broken}
    document = {"kafka": msgspec.to_builtins(connection), **told}
    return {DOCUMENT: json.dumps(document)}


def main() -> None:
    """Pour until SIGTERM or SIGINT."""
    stop = Stop()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.stop("a signal"))
    try:
        told: dict[str, Any] = json.loads(os.environ[DOCUMENT])
    except (KeyError, ValueError):
        # Without `from`: the cause would quote the password.
        raise Misconfigured(f"{DOCUMENT} holds no document", hint="start it as the demo does") from None
    connection = msgspec.convert(told["kafka"], Connection)
    seed, broken = int(told["seed"]), int(told["broken"])
    print(f"pouring {told['rate']:g} records a second into {', '.join(told['topics'].values())}", flush=True)
    while not stop.stopped:
        try:
            pour(connection, told["topics"], rate=float(told["rate"]), seed=seed, broken=broken, stop=stop, clock=now)
        except MainstayError as error:
            print(error.message, file=sys.stderr, flush=True)
            signal.sigtimedwait({signal.SIGTERM}, _PAUSE)


if __name__ == "__main__":
    main()
