"""Takes backups of a real server as the backup verb does, for tests; run as a module it takes one and prints its memory.

The environment of the module: PORT, LOGIN, PASSWORD of the server, STORE, the backup's ID, and SETTINGS as JSON; for S3 also
ENDPOINT, ACCESS, SECRET.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import psycopg
import zstandard

from include.engine.contracts import Connection, CopyJob, Stop
from include.engine.model import Cut, Entry, Manifest, System, Target
from include.engine.store.bucket import Bucket
from include.engine.store.catalog import Catalog
from include.engine.store.shared import SharedFolder
from include.engine.store.vault import VaultReader, VaultWriter
from include.engine.systems.postgres.backup import PostgresBackup, open_source
from include.engine.systems.postgres.client import sql
from include.engine.systems.postgres.settings import PostgresSettings

TARGET = Target(System.POSTGRES, "main")
FIRST, SECOND, THIRD = "20261123T020000Z", "20261124T020000Z", "20261125T020000Z"


def clock() -> datetime:
    return datetime.now(UTC)


class Watched:
    """A progress that remembers, and calls *when_moving* at the first bytes of the copy."""

    def __init__(
        self, when_moving: Callable[[], None] | None = None, when_staged: Callable[[str], None] | None = None
    ) -> None:
        self.stages: list[tuple[str, int | None]] = []
        self.said: list[str] = []
        self.bytes = 0
        self._when_moving = when_moving
        self._when_staged = when_staged

    def stage(self, name: str, total_bytes: int | None = None) -> None:
        self.stages.append((name, total_bytes))
        if self._when_staged:
            self._when_staged(name)

    def advance(self, bytes_: int) -> None:
        self.bytes += bytes_
        if self._when_moving:
            action, self._when_moving = self._when_moving, None
            action()

    def say(self, text: str) -> None:
        self.said.append(text)


class Taking:
    """Backs up the server behind *connection* into *bucket*."""

    def __init__(self, connection: Connection, bucket: Bucket, **settings: object) -> None:
        self.connection = connection
        self.bucket = bucket
        self.catalog = Catalog(bucket)
        self.settings = PostgresSettings.model_validate({"connection": "postgres_main", **settings})

    @property
    def source(self) -> PostgresBackup:
        return open_source(TARGET, self.settings, self.connection)

    def open(self, database: str) -> AbstractContextManager[psycopg.Connection[Any]]:
        return sql(self.connection, database=database)

    def take(
        self,
        backup: str = FIRST,
        history: Sequence[Manifest] = (),
        *,
        full: bool = False,
        progress: Watched | None = None,
        stop: Stop | None = None,
        cut: Cut | None = None,
    ) -> Manifest:
        attempt = f"{self.catalog.folder(TARGET, backup)}/{os.urandom(4).hex()}"
        job = CopyJob(
            id=backup,
            target=TARGET,
            cut=cut or self.source.freeze(backup, clock),
            writer=VaultWriter(self.bucket, attempt),
            reader=VaultReader(self.bucket),
            shared=SharedFolder(self.bucket, TARGET),
            history=history,
            progress=progress or Watched(),
            stop=stop or Stop(),
            clock=clock,
            full=full,
        )
        return self.source.copy(job)

    def stored(self, entry: Entry) -> bytes:
        raw = b"".join(VaultReader(self.bucket).read(entry))
        return zstandard.ZstdDecompressor().decompressobj().decompress(raw) if entry.name.endswith(".zst") else raw

    def entry(self, manifest: Manifest, name: str) -> Entry:
        return next(entry for entry in manifest.entries if entry.name == name)

    def names(self, manifest: Manifest, archive: str) -> list[str]:
        with tarfile.open(fileobj=BytesIO(self.stored(self.entry(manifest, archive)))) as tar:
            return tar.getnames()

    def unpack(self, manifest: Manifest, into: Path) -> Path:
        """What a person would do with tar and zstd.  For clusters without tablespaces."""
        into.mkdir(mode=0o700)
        base = self.stored(self.entry(manifest, "base.tar.zst"))
        subprocess.run(["tar", "--extract", "--file=-", "--directory", into], input=base, check=True)
        (into / "backup_manifest").write_bytes(self.stored(self.entry(manifest, "backup_manifest.zst")))
        return into


def environment(role: Connection, store: str, settings: dict[str, object] | None = None) -> dict[str, str]:
    """Give the environment of this module when it is run."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(__file__).parents[3]),
        "PORT": str(role.port),
        "LOGIN": role.login,
        "PASSWORD": role.password,
        "STORE": store,
        "ID": FIRST,
        "SETTINGS": json.dumps(settings or {}),
    }


def main() -> None:
    found = os.environ
    connection = Connection(host="127.0.0.1", port=int(found["PORT"]), login=found["LOGIN"], password=found["PASSWORD"])
    store = Connection(
        login=found.get("ACCESS", ""),
        password=found.get("SECRET", ""),
        extra={"endpoint_url": found.get("ENDPOINT", "")},
    )
    taking = Taking(connection, Bucket.open(found["STORE"], store), **json.loads(found.get("SETTINGS", "{}")))
    moving = Watched(when_moving=lambda: print("moving", flush=True))  # noqa: T201
    manifest = taking.catalog.commit(taking.take(found["ID"], progress=moving))
    # Not ru_maxrss, which a child inherits from the process that forked it.
    status = Path("/proc/self/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    said = {"bytes": manifest.bytes, "peak_kib": int(peak.split()[1])}
    sys.stdout.write(json.dumps(said))


if __name__ == "__main__":
    main()
