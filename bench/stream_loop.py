"""What a careful person would write instead of the job: one process, a consumer, a driver, dead letters, then the commit."""

from __future__ import annotations

import json
import os
import re
import resource
import time
from typing import Any
from uuid import UUID, uuid4

COLUMNS = ("id", "first_name", "last_name", "gender", "address", "post_code", "email", "username", "registered_date")
COLUMNS += ("phone", "picture")  # type: ignore[assignment]
UUIDS = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
BATCH, AT_ONCE = 5000, 128


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
        {"bootstrap.servers": told["servers"], "group.id": uuid4().hex, "auto.offset.reset": "earliest"}
        | {"enable.auto.commit": False, "isolation.level": "read_committed"}
    )
    producer = Producer({"bootstrap.servers": told["servers"], "acks": "all", "enable.idempotence": True})
    consumer.subscribe([told["topic"]])

    def shaped(message: Any) -> list[object] | str:
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

    done = 0
    consumer.poll(10)  # joining the group is not what is measured
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
    while done < told["records"]:
        messages = consumer.consume(BATCH, timeout=2)
        rows = []
        for message in messages:
            row = shaped(message)
            if isinstance(row, str):
                place = {"reason": row, "source_topic": message.topic(), "source_offset": str(message.offset())}
                producer.produce(f"{told['topic']}.dead", message.value(), message.key(), headers=list(place.items()))
            else:
                rows.append(row)
        execute_concurrent_with_args(session, insert, rows, concurrency=AT_ONCE)
        producer.flush()
        consumer.commit(asynchronous=False)
        done += len(messages)
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"records": done, "seconds": time.monotonic() - began, "cpu": cpu}))


if __name__ == "__main__":
    main()
