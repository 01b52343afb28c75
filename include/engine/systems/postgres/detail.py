"""What a PostgreSQL manifest says beyond the common part.  No client library: a restore reads it with none at hand."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from include.engine.errors import Corrupt
from include.engine.model import Manifest

MANIFEST_OBJECT = "backup_manifest.zst"  # PostgreSQL's own manifest, compressed with zstd


class Tablespace(Struct, frozen=True, kw_only=True):
    """A tablespace outside of the data directory, and the archive that holds it."""

    oid: int
    path: str  # where it was on the source
    archive: str  # name of the manifest's entry
    bytes: int  # estimated by the server when the backup began


class DatabaseSize(Struct, frozen=True, kw_only=True):
    """A database of the cluster; its size is unknown when the role may not connect to it."""

    name: str
    bytes: int | None = None


class CheckPoint(Struct, frozen=True, kw_only=True):
    """Where a restore must stop for its rows to be comparable with the samples; *reason* when there are none.

    Recover with ``recovery_target_lsn = lsn`` and ``recovery_target_inclusive = off``.  The restore point is the record that
    lies behind it, so that a stop before it is possible.
    """

    lsn: str = ""
    restore_point: str = ""
    reason: str = ""


class PostgresDetail(Struct, frozen=True, kw_only=True):
    """All that a restore must know of a base backup; ``Manifest.detail`` in a PostgreSQL manifest."""

    server_version_num: int
    timeline: int
    stop_timeline: int
    start_lsn: str
    stop_lsn: str
    start_wal: str  # first and last segment file that make the backup consistent; both are inside its base archive
    stop_wal: str
    wal_segment_bytes: int
    data_checksums: bool
    manifest_checksums: str
    compression: str  # zstd, lz4, gzip, none
    compressed_on: str  # server, client
    base: str  # entry of the data directory's archive
    manifest: str = MANIFEST_OBJECT
    tablespaces: tuple[Tablespace, ...] = ()
    databases: tuple[DatabaseSize, ...] = ()
    superuser: str = "postgres"  # the role that made the cluster: whoever holds the files logs in as it
    heartbeat: str | None = None  # table with a row every few seconds, by which a drill measures the RPO
    clock_ahead_seconds: float = (
        0.0  # of the server's clock before that of the machine that took the backup; 0 within 1 s
    )
    restore_point: str = ""  # of the freeze; empty when the role may not create one
    check: CheckPoint = CheckPoint()

    @classmethod
    def of(cls, manifest: Manifest) -> PostgresDetail:
        """Read a manifest's own part.

        :raises Corrupt: when it is not one of PostgreSQL
        """
        try:
            return msgspec.convert(manifest.detail, cls)
        except msgspec.ValidationError as error:
            raise Corrupt(
                f"the manifest of {manifest.target} {manifest.id} is not a PostgreSQL one: {error}",
                hint="use another backup; `./mainstay catalog` lists them",
            ) from error
