"""Restores the newest backup of a bucket as a process that kills itself in the middle: the bucket's URL, the directory.

It does so when the server of the restored directory runs and waits for its log.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from include.engine.cli.progress import ShellProgress
from include.engine.contracts import PlanRequest, RestoreJob, Stop
from include.engine.sandbox import procfs
from include.engine.store.bucket import Bucket
from include.engine.store.catalog import Catalog
from include.engine.store.vault import VaultReader
from include.engine.systems.postgres.restore import open_engine
from include.engine.systems.postgres.wal_objects import WalObject
from tests.estate import TARGET, clock, eventually


def main() -> None:
    url, path = sys.argv[1:]

    def killed(bucket: Bucket, wal: WalObject, identities: Sequence[str]) -> bytes:
        eventually(lambda: path in map(procfs.directory, procfs.pids()), what="a server works in the directory")
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    pytest.MonkeyPatch().setattr("include.engine.systems.postgres.spool.fetch", killed)
    catalog = Catalog(Bucket.open(url))
    engine = open_engine(TARGET, catalog)
    manifests = catalog.backups(TARGET)
    plan = engine.plan(
        PlanRequest(
            manifests=manifests,
            backup=None,
            destination_kind="directory",
            path=str(Path(path)),
            server="",
            point="latest",
            confirm="",
        )
    )
    engine.restore(
        RestoreJob(
            plan=plan,
            chain=[catalog.backup(TARGET, backup) for backup in plan.chain],
            reader=VaultReader(catalog.bucket),
            progress=ShellProgress(),
            stop=Stop(),
            clock=clock,
        )
    )


if __name__ == "__main__":
    main()
