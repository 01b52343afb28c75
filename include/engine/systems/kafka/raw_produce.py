"""Writes single records with a timestamp that librdkafka cannot send: 0 means "now" to it.

The record batch is built by hand and sent once.  It is not idempotent: whoever is in doubt looks at the partition's end.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from include.engine.contracts import Connection
from include.engine.errors import Unreachable
from include.engine.systems.kafka.client import TP, Admin, open_admin
from include.engine.systems.kafka.refusals import told

_TIMEOUT_MS = 30_000


class RawProducer:
    """Sends record batches over an admin connection that is opened when the first one comes."""

    def __init__(self, connection: dict[str, Any]) -> None:
        self._connection = Connection(**connection)
        self._opened: Any = None
        self._admin: Admin | None = None
        self._ids: dict[str, uuid.UUID] = {}

    def produce(
        self,
        tp: TP,
        timestamp: int,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes | None]],
    ) -> None:
        """Append one record and wait for all in-sync replicas."""
        from kafka.errors import for_code
        from kafka.protocol.producer import ProduceRequest
        from kafka.record.default_records import DefaultRecordBatchBuilder

        admin = self._open()
        topic, partition = tp
        builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 30)
        builder.append(0, timestamp, key, value, list(headers))
        records = bytes(builder.build())
        state = admin.topics([topic])[topic]
        kind = ProduceRequest.TopicProduceData
        request = ProduceRequest(
            transactional_id=None,
            acks=-1,
            timeout_ms=_TIMEOUT_MS,
            topic_data=[
                kind(
                    name=topic,
                    topic_id=uuid.UUID(state.id),
                    partition_data=[kind.PartitionProduceData(index=partition, records=records)],
                )
            ],
        )
        manager = admin.client._manager  # noqa: SLF001 - kafka-python has the request and no method for it
        leader = state.partitions[partition].leader
        with told("a record"):
            answer = manager.run(lambda: manager.send(request, node_id=leader))
            code = answer.responses[0].partition_responses[0].error_code
            if code:
                raise for_code(code)(f"{topic}-{partition}")

    def _open(self) -> Admin:
        if self._admin is None:
            self._opened = open_admin(self._connection)
            self._admin = self._opened.__enter__()
        if self._admin is None:
            raise Unreachable("there is no admin connection", hint="run it again")
        return self._admin

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._opened is not None:
            self._opened.__exit__(kind, error, trace)
