"""The text that tells how to restore a backup of Kafka when there is no Mainstay: Python, pyarrow and a Kafka client."""

from __future__ import annotations

from include.engine.systems.kafka.detail import Saved

_SHOWN = 40


def instructions(saved: Saved) -> str:
    """Write it in Markdown, with this backup's own keys."""
    manifest = saved.manifest
    topics = "\n".join(
        f"| `{name}` | {topic.partitions} | {topic.factor} | "
        f"{', '.join(f'`{k}={e.value}`' for k, e in sorted(topic.configs.items()) if e.source == 'DYNAMIC_TOPIC_CONFIG') or '-'} |"
        for name, topic in sorted(saved.detail.topics.items())
    )
    keys = "\n".join(f"{saved.entry(segment).key}" for segment in saved.detail.segments[:_SHOWN])
    more = len(saved.detail.segments) - _SHOWN
    further = f"\n… and {more} more: the entries of the manifest that end in .parquet" if more > 0 else ""
    sealed = (
        "\nThe objects are encrypted with age: `age -d -i key.txt < object.age > object` first, with the secret key of "
        + ", ".join(manifest.encryption.key_ids)
        + ".\n"
        if manifest.encryption
        else ""
    )
    return _TEXT.format(
        target=manifest.target,
        backup=manifest.id,
        at=manifest.cut.at.isoformat(),
        cluster=manifest.source.identity,
        version=manifest.source.version,
        topics=topics,
        keys=keys + further,
        sealed=sealed,
    )


_TEXT = """\
## {target}: backup {backup}

Topics of the Kafka cluster `{cluster}` (Kafka {version}) up to the cut at {at}: every record that was acknowledged and
committed by then, and none that came later. For the cut, the groups' offsets were read first, then the ends of all
partitions (up to the first open transaction), so no group points past it. Each object is a Parquet file with the records of
one partition in order; read one in three lines:

```python
import pyarrow.parquet as pq
table = pq.read_table("segment.parquet")
print(table.to_pylist()[0])  # offset, timestamp, timestamp_type, key, value, headers
```

or `duckdb -c "select * from 'segment.parquet' limit 10"`.
{sealed}
1. Create the topics, with `retention.ms=-1`, `cleanup.policy=delete`, `message.timestamp.type=CreateTime` and
   `message.timestamp.before.max.ms=9223372036854775807` (and `after`) while you load, or old records are deleted at once:

| topic | partitions | replicas | configuration to put back afterwards |
|---|---|---|---|
{topics}

2. Fetch the segments below the bucket's prefix; the path says topic, partition, first and last offset:

```
{keys}
```

3. Produce each partition's records in the order of their offsets, to the same partition:

```python
import sys, pyarrow.parquet as pq
from confluent_kafka import Producer
servers, topic, partition, *files = sys.argv[1:]          # files in the order of their offsets
producer = Producer({{"bootstrap.servers": servers, "enable.idempotence": True, "message.max.bytes": 1000000000,
                     "message.timeout.ms": 0}})
failed = []
told = lambda error, _: failed.append(error) if error else None
for name in sorted(files):
    for r in pq.read_table(name).to_pylist():
        while True:
            try:
                producer.produce(topic, r["value"], r["key"], int(partition), timestamp=r["timestamp"],
                                 headers=[(h["key"], h["value"]) for h in r["headers"] or []], on_delivery=told)
                break
            except BufferError:
                producer.poll(1)
    if producer.flush(600) or failed:                      # delete the topic and begin anew: what is there has a hole
        sys.exit(f"{{name}}: {{failed[:1] or 'not written in ten minutes'}}")
```

4. Consumer groups: `detail` of the cut in `manifest.json` has what each had committed. The new position is the number of
   restored records whose old `offset` is less than the committed one:
   `kafka-consumer-groups --reset-offsets --to-offset N --topic T:P --group G --execute`.
5. Put the configurations back: `kafka-configs --alter --entity-type topics --entity-name T --add-config K=V`, and
   `--delete-config` for what step 1 set.
6. Access rules and quotas are in `topics.json` under `declared`, in Kafka's own words: `kafka-acls --add --allow-principal P
   --operation O --topic T`, `kafka-configs --alter --entity-type users --entity-name U --add-config KEY=VALUE`. Of SCRAM users
   only the names are known: give them new passwords.

Not in any backup: open and aborted transactions, transaction state, `__consumer_offsets` (its content is step 4), share
groups, what quotas have used up, passwords, and topics that the inventory left out.
"""
