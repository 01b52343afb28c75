"""What the inventory may say about a PostgreSQL target.  Imports no client library: Airflow reads it while parsing DAGs."""

from __future__ import annotations

import re
from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

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


class SampleSettings(BaseModel):
    """How much of the rows is digested at backup, to be compared after a restore."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = Field(True, description="Take digests of rows at the end of a backup; a drill compares them.")
    databases: int = Field(8, ge=1, le=64, description="Digest tables of this many databases, the largest first.")
    tables: int = Field(200, ge=1, description="Digest this many tables of a database, the largest first.")
    whole_table_bytes: int = Field(
        64 << 20, ge=0, description="Digest tables up to this many bytes as a whole, larger ones by ranges of blocks."
    )
    ranges: int = Field(8, ge=1, le=1000, description="Block ranges that are read of a larger table, evenly spread.")
    range_blocks: int = Field(128, ge=1, description="Blocks in one such range (8 KiB each).")
    seconds: float = Field(60.0, gt=0, description="Stop taking further tables after this many seconds.")
    quiet_seconds: float = Field(
        10.0, gt=0, description="Wait this many seconds for an instant at which no transaction is writing."
    )


class PostgresSettings(BaseModel):
    """One PostgreSQL cluster (an instance with all its databases), as declared in the inventory."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: str = Field(
        min_length=1,
        description="Name of the connection; its role needs LOGIN REPLICATION, and pg_read_all_data for samples.",
    )
    database: str | None = Field(
        None, description="Database to send SQL to; by default the connection's own, else `postgres`."
    )
    compression: Compression = Field(Compression.ZSTD, description="Codec of the base backup's archives.")
    compression_level: int = Field(1, ge=1, le=22, description="Level of the codec; zstd 1 is the measured optimum.")
    compression_workers: int = Field(2, ge=0, le=64, description="Threads that zstd compresses with; 0 means none.")
    compress_on: CompressOn = Field(
        CompressOn.AUTO,
        description="Where compression runs: `server` saves network, `client` saves the database's CPU (zstd only), "
        "`auto` is the server, or the client when the server was built without the codec.",
    )
    checkpoint: Checkpoint = Field(
        Checkpoint.FAST, description="`fast` starts at once, `spread` spares a busy server and waits for minutes."
    )
    incremental: bool = Field(
        True, description="Take incremental backups between full ones where the server can (17+ with summarize_wal)."
    )
    full_every: timedelta = Field(timedelta(days=7), description="Take a full backup when the last one is this old.")
    max_chain: int = Field(6, ge=0, description="Most incremental backups on top of one full backup.")
    max_rate: Annotated[int, Field(ge=32 << 10, le=1 << 30)] | None = Field(
        None, description="Most bytes per second that the server reads for a backup, before compression."
    )
    samples: SampleSettings = Field(default_factory=SampleSettings, description="Digests of rows, taken at backup.")
    heartbeat: str | None = Field(
        "mainstay.heartbeat", description="Table, as `schema.table`, with a row every few seconds: measures the RPO."
    )
    slot: str = Field("mainstay_wal", description="Replication slot of the WAL archive.")

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
