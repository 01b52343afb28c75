"""Stop or start the node of a benchmark, for Medusa: ``python -m bench.cassandra_node SANDBOX start|stop``."""

from __future__ import annotations

import sys
from pathlib import Path

from include.engine.sandbox.home import Home
from include.engine.systems.cassandra.server import CassandraServer

if __name__ == "__main__":
    server = CassandraServer(Home.of(Path(__file__).resolve().parent.parent).sandbox(sys.argv[1]), "bench")
    if sys.argv[2] == "stop":
        server.stop()
    else:
        server.start()
