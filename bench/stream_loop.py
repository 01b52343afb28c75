"""What a careful person would write instead of the job: one process, a consumer, a driver, dead letters, then the commit.

It goes on until it is killed, as the job does.
"""

from __future__ import annotations

import json
import os
import re
from typing import Any
from uuid import UUID

_NAMES = ("first_name", "last_name", "gender", "address", "post_code", "email", "username", "registered_date")
COLUMNS = ("id", *_NAMES, "phone", "picture")
UUIDS = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
BATCH, AT_ONCE = 5000, 128
WAIT = 0.2  # seconds for a batch to fill


def main() -> None:
    from cassandra import ConsistencyLevel
    from cassandra.auth import PlainTextAuthProvider
    from cassandra.cluster import Cluster
    from cassandra.concurrent import execute_concurrent_with_args
    from cassandra.query import UNSET_VALUE
    from confluent_kafka import Consumer, Producer

    told: dict[str, Any] = json.loads(os.environ["BENCH_LOOP"])
    login = PlainTextAuthProvider(told["login"], told["password"])
    session: Any = Cluster([told["host"]], port=told["port"], auth_provider=login, protocol_version=5).connect()
    marks = ", ".join("?" for _ in COLUMNS)
    insert = session.prepare(f"INSERT INTO {told['table']} ({', '.join(COLUMNS)}) VALUES ({marks}) USING TIMESTAMP ?")
    insert.consistency_level = ConsistencyLevel.LOCAL_QUORUM
    consumer = Consumer(
        {"bootstrap.servers": told["servers"], "group.id": told["group"], "auto.offset.reset": "earliest"}
        | {"enable.auto.commit": False, "isolation.level": "read_committed"}
    )
    producer = Producer({"bootstrap.servers": told["servers"], "acks": "all", "enable.idempotence": True})
    consumer.subscribe([told["topic"]])

    def shaped(message: Any) -> list[object] | str:
        if message.error():
            raise SystemExit(str(message.error()))
        try:
            found = json.loads(message.value())
        except (ValueError, TypeError):
            return "bad_json"
        if not isinstance(found, dict) or not found.get("id"):
            return "no_id"
        if not UUIDS.fullmatch(str(found["id"])):
            return "bad_id"
        row: list[object] = [UUID(found["id"])]
        for column in COLUMNS[1:]:
            value = found.get(column)
            row.append(UNSET_VALUE if value is None else str(value))
        return [*row, message.timestamp()[1] * 1000 + message.offset() % 1000]

    def place(message: Any, reason: str) -> list[tuple[str, str | bytes | None]]:
        return [
            ("reason", reason),
            ("source_topic", message.topic()),
            ("source_partition", str(message.partition())),
            ("source_offset", str(message.offset())),
        ]

    while True:
        messages = consumer.consume(BATCH, timeout=WAIT)
        rows = []
        for message in messages:
            row = shaped(message)
            if isinstance(row, str):
                producer.produce(f"{told['topic']}.dead", message.value(), message.key(), headers=place(message, row))
            else:
                rows.append(row)
        if messages:
            execute_concurrent_with_args(session, insert, rows, concurrency=AT_ONCE)
            producer.flush()
            consumer.commit(asynchronous=False)


if __name__ == "__main__":
    main()
