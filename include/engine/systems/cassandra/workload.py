"""What a load profile may say about Cassandra: what is written and read, and how.  Imports no client library."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from include.engine.loading.workload import LoadWorkload


class Workload(LoadWorkload):
    """Writes and reads of single rows, in a keyspace of the test's own."""

    tried_out: ClassVar[bool] = True

    writes: int = Field(1, ge=0, description="weight of writes")
    reads: int = Field(0, ge=0, description="weight of reads, of rows that were written before")
    consistency: Literal["ONE", "LOCAL_ONE", "QUORUM", "LOCAL_QUORUM", "ALL"] = Field(
        "LOCAL_QUORUM", description="how many replicas must answer"
    )
    replication_factor: int = Field(3, ge=1, description="of the keyspace, or as many as there are nodes")
    payload_bytes: int = Field(200, ge=1, le=1 << 20, description="size of a row's value")
    payload: Literal["json", "random"] = Field(
        "json", description="`json` compresses like events do, `random` not at all"
    )
    rows: int = Field(10_000, ge=1, description="how many different keys there are")
    timeout_ms: int = Field(10_000, ge=100, description="after which an operation has failed")

    @model_validator(mode="after")
    def _does_something(self) -> Workload:
        if not self.writes + self.reads:
            msg = "give `writes`, `reads` or both a weight"
            raise ValueError(msg)
        return self

    @property
    def operation_bytes(self) -> int:
        """What one operation writes, at most."""
        return self._row_bytes if self.writes else 0

    @property
    def prepared_bytes(self) -> int:
        """The rows that will be read."""
        return self.rows * self._row_bytes if self.reads else 0

    @property
    def _row_bytes(self) -> int:
        return self.payload_bytes + 40
