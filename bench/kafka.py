"""Kafka: backup against kafka-consumer-perf-test, restore against kafka-producer-perf-test, on the same topic in one run.

    python -m bench.kafka [records]

Both of Kafka's tools throw the records away or make them up; ours read and store, or fetch and write, every byte.  Both are run
as commands of their own, so that either pays for its start.  The mirror is timed with the cluster and the worker running.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from include.engine.contracts import Connection, Stop
from include.engine.mirroring import MirrorProgress
from include.engine.sandbox.home import Home, Sandbox
from include.engine.store.bucket import Bucket
from include.engine.systems.kafka.client import LATEST, TP, open_admin
from include.engine.systems.kafka.connect_server import ConnectWorker
from include.engine.systems.kafka.cut import KafkaCut, TopicCut
from include.engine.systems.kafka.mirror import open_mirror
from include.engine.systems.kafka.planning import plan_reads
from include.engine.systems.kafka.server import KafkaCluster
from include.engine.systems.kafka.settings import Mirror, Settings
from include.engine.systems.object_store.server import ObjectStoreServer
from include.engine.verbs import mirror as verbs
from tests.systems.kafka.stand import TARGET, Servers, Stand, clock

PROJECT = Path(__file__).resolve().parent.parent
SIZE = 1024


def measured(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """Run *work*; give what it gives, its wall seconds, and the CPU seconds of us and of the processes that we waited for."""
    before, began = _cpu(), time.monotonic()
    result = work()
    return result, time.monotonic() - began, _cpu() - before


def _cpu() -> float:
    both = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def run(records: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []

    def row(what: str, who: str, count: int, seconds: float, cpu: float) -> None:
        rows.append(
            {
                "what": what,
                "who": who,
                "records": count,
                "seconds": round(seconds, 2),
                "records_per_second": round(count / seconds) if count else None,
                "cpu_us_per_record": round(cpu / count * 1e6, 2) if count else None,
            }
        )

    with Home.of(PROJECT).sandbox("bench-kafka") as sandbox:
        cluster = KafkaCluster(sandbox, "bench", quick=False).start()
        objects = ObjectStoreServer(sandbox, "bench").start()
        bucket = objects.create_bucket("bench")
        extra = {"endpoint_url": objects.endpoint}
        store = Connection(login=objects.access_key, password=objects.secret_key, extra=extra)
        stand = Stand(cluster, Bucket.open(f"s3://{bucket}/p", store))
        topic = stand.topic("t")

        def produce(into: str) -> None:
            cluster.run(
                "org.apache.kafka.tools.ProducerPerformance",
                *("--topic", into, "--num-records", str(records), "--record-size", str(SIZE), "--throughput", "-1"),
                *("--bootstrap-server", cluster.bootstrap, "--command-property", "acks=all"),
                timeout=600,
            )

        _, seconds, cpu = measured(lambda: produce(topic))
        row("restore", "kafka-producer-perf-test, acks=all", records, seconds, cpu)

        def consume() -> None:
            cluster.run(
                "org.apache.kafka.tools.ConsumerPerformance",
                *("--topic", topic, "--num-records", str(records), "--bootstrap-server", cluster.bootstrap),
                timeout=600,
            )

        for _ in range(2):  # the first run of either side warms the page cache for both
            _, seconds, cpu = measured(consume)
            row("backup", "kafka-consumer-perf-test", records, seconds, cpu)
            _, seconds, cpu = measured(lambda: stand.backup(full=True))
            row("backup", "mainstay, to S3", records, seconds, cpu)
        _, seconds, cpu = measured(stand.backup)
        row("backup, nothing new", "mainstay", 0, seconds, cpu)
        _, seconds, cpu = measured(lambda: stand.restore(rename={topic: topic + "_back"}))
        row("restore", "mainstay, from S3", records, seconds, cpu)
        with open_admin(cluster.connection()) as admin:
            assert sum(admin.offsets([TP(topic + "_back", p) for p in range(3)], LATEST).values()) == records
        seconds, cpu, count = mirrored(sandbox, stand)
        row("mirror, started and proved caught up", "mainstay", count, seconds, cpu)
    topics = {f"t{i}": TopicCut(id="a", low=(0,) * 10, high=(5000,) * 10) for i in range(100)}
    now = KafkaCut(cluster="c", topics=topics, groups={})
    _, seconds, cpu = measured(
        lambda: plan_reads(
            now,
            None,
            policies={},
            seconds_since=0,
            keep_expired=False,
        )
    )
    row("plan 1,000 partitions", "mainstay", 0, seconds, cpu)
    return rows


def mirrored(sandbox: Sandbox, stand: Stand) -> tuple[float, float, int]:
    """Mirror 6,000 records to a second cluster; give the seconds and CPU from the plan to the proof that all are there."""
    count = 6000
    topic = stand.topic("mirrored")
    stand.produce(topic, count)
    dr = KafkaCluster(sandbox, "dr").start()
    worker = ConnectWorker(sandbox, dr).start()
    declared = Mirror(connect="connect", to="dr", topics=(topic,), groups=("none",), replication_factor=1)
    connections = Servers(main=stand.cluster.connection(), dr=dr.connection(), connect=worker.connection())
    mirror = open_mirror(TARGET, Settings(connection="main", mirrors={"b": declared}), "b", connections)

    def prove() -> MirrorProgress:
        verbs.plan(mirror)
        mirror.apply()
        return verbs.wait(mirror, mirror.cut(clock), patience=timedelta(minutes=2), stop=Stop())

    seen, seconds, cpu = measured(prove)
    assert seen.caught_up
    assert sum(map(len, stand.seen(topic, cluster=dr).values())) == count
    worker.stop()
    dr.stop()
    return seconds, cpu, count


def main() -> None:
    rows = run(int(sys.argv[1]) if len(sys.argv) > 1 else 600_000)
    out = PROJECT / "bench" / "results"
    out.mkdir(exist_ok=True)
    (out / "kafka.json").write_text(json.dumps(rows, indent=2) + "\n")
    print("| what | who | seconds | records/s | CPU us/record |\n|---|---|---|---|---|")
    for r in rows:
        rate, cpu = r["records_per_second"] or "", r["cpu_us_per_record"] or ""
        print(f"| {r['what']} | {r['who']} | {r['seconds']} | {rate} | {cpu} |")


if __name__ == "__main__":
    main()
