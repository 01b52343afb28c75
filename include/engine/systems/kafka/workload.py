"""What a load profile may say about Kafka: what is produced, and how.  Imports no client library."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from include.engine.loading.workload import LoadWorkload


class Workload(LoadWorkload):
    """Records that are produced to a topic of the test's own."""

    payload_bytes: int = Field(200, ge=8, le=1 << 20, description="size of a record's value")
    payload: Literal["json", "random"] = Field(
        "json", description="`json` compresses like events do, `random` not at all"
    )
    keys: int = Field(10_000, ge=0, description="how many different keys there are; 0 sends none")
    partitions: int = Field(3, ge=1, le=1000, description="of the topic")
    replication_factor: int | None = Field(None, ge=1, description="of the topic; 3, or as many as there are brokers")
    acks: Literal["all", "1", "0"] = Field(
        "all", description="whose answer counts: all in-sync replicas, the leader, nobody"
    )
    compression: Literal["none", "lz4", "zstd", "gzip", "snappy"] = Field("none", description="of the batches")
    linger_ms: int = Field(5, ge=0, le=60_000, description="how long a record may wait for others to share its batch")
    batch_bytes: int = Field(1 << 20, ge=1 << 10, le=1 << 30, description="size of a batch, at most")
    timeout_ms: int = Field(30_000, ge=1000, description="after which a record has failed")
    cross_check: bool = Field(
        default=False, description="ask kafka-producer-perf-test for a second opinion, when the load is over"
    )

    @property
    def second_opinion(self) -> bool:
        """Whether Kafka's own tool is asked as well."""
        return self.cross_check

    @property
    def operation_bytes(self) -> int:
        """What one operation writes, at most."""
        return self.payload_bytes + 20
