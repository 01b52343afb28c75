"""What a load profile may say about a stream: what is sent, and how its row is looked for.  Imports no client library."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from include.engine.loading.workload import LoadWorkload

_DOCUMENT = 260  # bytes of an event besides its payload


class Workload(LoadWorkload):
    """Events that are produced to a topic of the test's own, and looked for in a table of its own."""

    tried_out: ClassVar[bool] = True

    payload_bytes: int = Field(200, ge=0, le=1 << 20, description="size of each event, besides its ids and times")
    partitions: int = Field(3, ge=1, le=1000, description="of the topic")
    replication_factor: int = Field(
        3, ge=1, description="of the topic and the keyspace, or as many as there are brokers and nodes"
    )
    lanes: int = Field(4, ge=1, le=1000, description="partitions of the table that the rows are spread over")
    poll_ms: int = Field(
        20, ge=1, le=10_000, description="time between two looks for rows: a latency is told too long by this, at most"
    )

    @property
    def operation_bytes(self) -> int:
        """What one operation writes, at most: a record, and a row."""
        return 2 * (self.payload_bytes + _DOCUMENT)
