"""Runs an archiver as a process of its own, for tests that kill it.

Arguments: the server's port, the bucket's URL, the spool, the slot; the password is in PASSWORD.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from include.engine.cli.progress import ShellProgress
from include.engine.contracts import Connection, Stop
from include.engine.sandbox.distributions import Shelf
from include.engine.sandbox.home import Home
from include.engine.store.bucket import Bucket
from include.engine.systems.postgres.binaries import PostgresBinaries
from include.engine.systems.postgres.roles import BACKUP_ROLE
from include.engine.systems.postgres.wal_archive import WalArchiver, run
from tests.estate import TARGET, clock


def main() -> None:
    port, url, spool, slot = sys.argv[1:]
    home = Home.of(Path(__file__).resolve().parents[3])
    archiver = WalArchiver(
        TARGET,
        Bucket.open(url),
        Connection(host="127.0.0.1", port=int(port), login=BACKUP_ROLE, password=os.environ["PASSWORD"]),
        spool=Path(spool),
        slot=slot,
        binaries=lambda major: PostgresBinaries.find(major, Shelf.of(home)),
        clock=clock,
        progress=ShellProgress(),
        partial_seconds=0.2,
    )
    run(archiver, Stop())


if __name__ == "__main__":
    main()
