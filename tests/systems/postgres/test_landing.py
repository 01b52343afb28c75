"""What a restore says when it was stopped at its very end."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from include.engine.contracts import Stop
from include.engine.errors import Interrupted
from include.engine.systems.postgres.landing import Landing


def test_a_stop_while_the_restored_server_is_looked_at_is_told_as_a_stop() -> None:
    """The stop ends the server, which must not look like a server that died."""
    stop = Stop()
    stop.stop("by SIGTERM")
    landing = object.__new__(Landing)
    landing.__dict__["job"] = SimpleNamespace(stop=stop)
    with pytest.raises(Interrupted, match="SIGTERM"):
        landing.report()
