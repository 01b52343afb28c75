"""Logs in while Python still loads what the rest of a command needs: a login is a password hash, and mostly waiting."""

from __future__ import annotations

import sys
import threading
from contextlib import suppress

from include.engine.contracts import Connection
from include.engine.errors import MainstayError
from include.engine.systems.cassandra.client import load_driver
from include.engine.systems.cassandra.sessions import session

_USUALLY, _BRIEFLY = sys.getswitchinterval(), 0.0005  # seconds that one thread keeps the others waiting


def log_in(connection: Connection) -> None:
    """Begin, and do not wait.  What goes wrong is told by the first step that needs the session."""

    def begin() -> None:
        try:
            with suppress(MainstayError), session(connection):
                pass
        finally:
            sys.setswitchinterval(_USUALLY)

    load_driver()  # not in the thread: what else is imported meanwhile would keep it from its first word to the node
    sys.setswitchinterval(_BRIEFLY)  # each of the dozen answers of a login would wait for the imports, 5 ms at a time
    threading.Thread(target=begin, name="login", daemon=True).start()
