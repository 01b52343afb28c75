"""The segments of a backup are read by Spark, and Spark's are read like a backup's: the documented commands, on a local Spark."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from include.engine.sandbox.distributions import Shelf
from include.engine.sandbox.home import Home, Sandbox
from include.engine.store.bucket import Bucket
from include.engine.systems.kafka.segments import SCHEMA
from include.engine.systems.kafka.server import KafkaCluster
from tests.systems.kafka import hostile
from tests.systems.kafka.stand import LOADING, Seen, Stand, send

PROJECT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def run(installation: Any, bootstrap: str, *arguments: str) -> dict[str, object]:
    """Run the job as ``docs/kafka.md`` says."""
    command = [
        *(installation.home / "bin" / "spark-submit", "--master", "local[2]", "--conf", "spark.ui.enabled=false"),
        *("--conf", f"spark.driver.extraClassPath={':'.join(map(str, installation.jars))}"),
        *(PROJECT / "include" / "jobs" / "kafka_segments.py", *arguments),
    ]
    kafka = {"MAINSTAY_KAFKA": json.dumps({"kafka.bootstrap.servers": bootstrap})}
    done = subprocess.run(
        list(map(str, command)),
        env=os.environ | installation.environment() | kafka,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert lines, done.stderr[-3000:]
    answer: dict[str, object] = json.loads(lines[-1])
    return answer


def timeless(found: dict[int, list[Seen]]) -> dict[int, list[tuple[object, ...]]]:
    return {p: [(key, value, headers) for key, value, _, headers in rows] for p, rows in found.items()}


def test_segments_go_through_spark_both_ways(sandbox: Sandbox, home: Home, tmp_path: Path) -> None:
    spark = importlib.import_module("include.engine.systems.spark.distribution")
    installation = spark.Installation.on(Shelf.of(home))
    cluster = KafkaCluster(sandbox, "spark").start()
    stand = Stand(cluster, Bucket.open(f"file://{tmp_path}/bucket"))
    topic = stand.topic("t", given=LOADING)
    records = [one for one in hostile.records(11, 400) if one.timestamp >= 0 and len(one.value or b"") < 900_000]
    stand.produce_hostile(topic, records)
    producer = stand.producer(**{"transactional.id": stand.prefix})
    producer.init_transactions()
    producer.begin_transaction()
    send(producer, topic, b"never", None, 0)
    producer.flush()
    producer.abort_transaction()
    before = stand.seen(topic)
    manifest = stand.backup()
    stand.produce(topic, 30)  # after the cut: not among what the backup names
    stand.backup()

    # a backup's segments to Kafka, by Spark
    back = stand.topic("back", given=LOADING)
    key = stand.catalog.manifest_key(manifest.target, manifest.id)
    place = f"file://{tmp_path}/bucket"
    told = run(
        installation, cluster.bootstrap, "load", "--from", place, "--manifest", key, "--topic", f"{topic}={back}"
    )
    assert told == {"records": sum(map(len, before.values()))}
    assert timeless(stand.seen(back)) == timeless(before)

    # Kafka to segments, by Spark: the same columns, types and bytes as a backup's
    now = stand.seen(topic)
    out = tmp_path / "export"
    told = run(installation, cluster.bootstrap, "export", "--topics", re.escape(topic), "--to", f"file://{out}")
    assert told == {"records": sum(map(len, now.values()))}
    for partition, rows in now.items():
        (folder,) = out.glob(f"topic=*/partition={partition}")
        tables = [pq.ParquetFile(file).read() for file in sorted(folder.glob("*.parquet"))]
        assert all(table.cast(SCHEMA).schema == SCHEMA for table in tables)
        found = [
            (r["key"], r["value"], r["timestamp"], tuple((h["key"], h["value"]) for h in r["headers"]))
            for table in tables
            for r in table.to_pylist()
        ]
        assert found == rows

    # and what Spark has written goes back as well
    again = stand.topic("again", given=LOADING)
    told = run(installation, cluster.bootstrap, "load", "--from", f"file://{out}", "--topic", f"{topic}={again}")
    assert timeless(stand.seen(again)) == timeless(now)
    (folder,) = out.glob("topic=*")
    folder.rename(out / "topic=0012")  # a name is a name, though it looks like a number
    numbered = stand.topic("numbered", given=LOADING)
    told = run(installation, cluster.bootstrap, "load", "--from", f"file://{out}", "--topic", f"0012={numbered}")
    assert timeless(stand.seen(numbered)) == timeless(now)
    assert "there is no topic" in str(
        run(installation, cluster.bootstrap, "load", "--from", f"file://{out}", "--topic", "x=y")
    )
    cluster.stop()
