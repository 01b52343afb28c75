"""What the inventory may say about a PostgreSQL target.  It is read at DAG parsing, so this imports no client library."""

from __future__ import annotations

import re
from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from include.engine.inventory import Duration, Section, TargetSettings

_SLOT = re.compile(r"^[a-z0-9_]{1,63}$")  # PostgreSQL: ReplicationSlotValidateName


class Compression(StrEnum):
    """The codecs that PostgreSQL's BASE_BACKUP knows."""

    ZSTD = "zstd"
    LZ4 = "lz4"
    GZIP = "gzip"
    NONE = "none"


class CompressOn(StrEnum):
    """Whose CPU compresses."""

    AUTO = "auto"
    SERVER = "server"
    CLIENT = "client"


class Checkpoint(StrEnum):
    """How the checkpoint that begins a base backup is made."""

    FAST = "fast"
    SPREAD = "spread"


_LEVELS = {Compression.ZSTD: 22, Compression.LZ4: 12, Compression.GZIP: 9, Compression.NONE: 22}


class SampleSettings(Section):
    """How much of the rows is digested at backup, to be compared after a restore."""

    enabled: bool = Field(True, description="take digests of rows at the end of a backup; a drill compares them")
    databases: int = Field(8, ge=1, le=64, description="digest tables of this many databases, the largest first")
    tables: int = Field(200, ge=1, description="digest this many tables of a database, the largest first")
    whole_table_bytes: int = Field(
        64 << 20, ge=0, description="digest tables up to this many bytes as a whole, larger ones by ranges of blocks"
    )
    ranges: int = Field(8, ge=1, le=1000, description="block ranges that are read of a larger table, evenly spread")
    range_blocks: int = Field(128, ge=1, description="blocks in one such range (8 KiB each)")
    seconds: float = Field(60.0, gt=0, description="stop taking further tables after this many seconds")
    quiet_seconds: float = Field(
        10.0, gt=0, description="wait this many seconds for an instant at which no transaction is writing"
    )


class PostgresSettings(TargetSettings):
    """One PostgreSQL cluster (an instance with all its databases), as declared in the inventory."""

    connection: str = Field(
        min_length=1,
        description="name of the connection; its role needs LOGIN and REPLICATION, pg_read_all_data for samples, and EXECUTE "
        "on pg_create_restore_point for the cut",
    )
    database: str | None = Field(
        None, description="database to send SQL to; by default the connection's own, else `postgres`"
    )
    compression: Compression = Field(Compression.ZSTD, description="codec of the base backup's archives")
    compression_level: int = Field(1, ge=1, le=22, description="level of the codec; zstd 1 is the measured optimum")
    compression_workers: int = Field(2, ge=0, le=64, description="threads that zstd compresses with; 0 means none")
    compress_on: CompressOn = Field(
        CompressOn.AUTO,
        description="where compression runs: `server` saves network, `client` saves the database's CPU (zstd only), "
        "`auto` is the server, or the client when the server was built without the codec",
    )
    checkpoint: Checkpoint = Field(
        Checkpoint.FAST, description="`fast` starts at once, `spread` spares a busy server and waits for minutes"
    )
    incremental: bool = Field(
        True, description="take incremental backups between full ones where the server can (17+ with summarize_wal)"
    )
    full_every: Duration = Field(timedelta(days=7), description="take a full backup when the last one is this old")
    max_chain: int = Field(6, ge=0, description="most incremental backups on top of one full backup")
    max_rate: Annotated[int, Field(ge=32 << 10, le=1 << 30)] | None = Field(
        None, description="most bytes per second that the server reads for a backup, before compression"
    )
    samples: SampleSettings = Field(default_factory=SampleSettings, description="digests of rows, taken at backup")
    heartbeat: str | None = Field(
        "mainstay.heartbeat", description="table, as `schema.table`, with a row every few seconds: measures the RPO"
    )
    slot: str = Field("mainstay_wal", description="replication slot of the WAL archive")

    @field_validator("slot")
    @classmethod
    def _slot_is_a_slot_name(cls, value: str) -> str:
        if not _SLOT.match(value):
            msg = "a slot's name is 1 to 63 characters of a-z, 0-9 and _"
            raise ValueError(msg)
        return value

    @field_validator("heartbeat")
    @classmethod
    def _heartbeat_is_qualified(cls, value: str | None) -> str | None:
        if value is not None and not all(value.partition(".")):
            msg = "write the table as schema.table, or null for none"
            raise ValueError(msg)
        return value

    @field_validator("full_every")
    @classmethod
    def _full_every_is_positive(cls, value: timedelta) -> timedelta:
        if value <= timedelta(0):
            msg = "must be longer than nothing"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _codec_fits(self) -> PostgresSettings:
        if self.compression_level > _LEVELS[self.compression]:
            msg = f"compression_level of {self.compression} is 1 to {_LEVELS[self.compression]}"
            raise ValueError(msg)
        if self.compress_on is CompressOn.CLIENT and self.compression not in (Compression.ZSTD, Compression.NONE):
            msg = f"compress_on: client can do zstd only, not {self.compression}"
            raise ValueError(msg)
        return self


Settings = PostgresSettings  # the name that wiring looks for in every system's folder
