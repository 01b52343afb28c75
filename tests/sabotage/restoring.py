"""Restores the newest backup of a bucket as a process of its own, for tests that kill it: the bucket's URL, the directory."""

from __future__ import annotations

import sys
from pathlib import Path

from include.engine.cli.progress import ShellProgress
from include.engine.contracts import PlanRequest, RestoreJob, Stop
from include.engine.store.bucket import Bucket
from include.engine.store.catalog import Catalog
from include.engine.store.vault import VaultReader
from include.engine.systems.postgres.restore import open_engine
from tests.estate import TARGET, clock


def main() -> None:
    url, path = sys.argv[1:]
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
