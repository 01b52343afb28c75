"""Topics to segments and back by Spark, for what is too large for one machine: the columns are those of Mainstay's backups.

Runs inside Spark and knows nothing of the engine.  How to connect to Kafka is a JSON document in the environment variable
``MAINSTAY_KAFKA``, in Spark's words (``{"kafka.bootstrap.servers": "…", "kafka.security.protocol": "…"}``): passwords are in it,
so no argument is it.

::

    spark-submit include/jobs/kafka_segments.py export --topics 'users_.*' --to s3a://bucket/exports/2026-11-23
    spark-submit include/jobs/kafka_segments.py load --from s3a://bucket/exports/2026-11-23 --topic users_created=users_back
    spark-submit include/jobs/kafka_segments.py load --from s3a://bucket/prefix \\
        --manifest kafka/main/backups/20261123T020000Z/manifest.json

``load`` writes each partition's records in order, to the same partition, with key, value and headers.  Spark gives a record no
timestamp but the time of the writing, and writes again what a failed task had begun: for times kept and nothing doubled there
is ``./mainstay restore``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - everybody's name for it

CONNECTION = "MAINSTAY_KAFKA"
COLUMNS = ("offset", "timestamp", "timestamp_type", "key", "value", "headers")
SEGMENT_RECORDS = 500_000
_FILE = r"/objects/(.+)/(\d+)/\d+-\d+\.[0-9a-f]+\.parquet$"  # of a backup's segment: topic and partition


class Wrong(Exception):
    """What cannot be done, in one sentence for a person."""


def export(spark: SparkSession, kafka: Mapping[str, str], topics: str, to: str) -> int:
    """Write all committed records of the topics that match, up to their ends as of now; give how many.

    They lie at ``<to>/topic=<topic>/partition=<n>/``, in order, some files each.
    """
    options = {
        "subscribePattern": topics,
        "startingOffsets": "earliest",
        "endingOffsets": "latest",
        "includeHeaders": "true",
        "failOnDataLoss": "true",
        "kafka.isolation.level": "read_committed",
    }
    read = spark.read.format("kafka").options(**kafka).options(**options).load()
    columns = read.select(
        "topic",
        "partition",
        "offset",
        F.expr("unix_millis(timestamp)").alias("timestamp"),
        F.col("timestampType").cast("byte").alias("timestamp_type"),
        "key",
        "value",
        F.coalesce("headers", F.array().cast("array<struct<key:string,value:binary>>")).alias("headers"),
    )
    ordered = columns.repartition("topic", "partition").sortWithinPartitions("topic", "partition", "offset")
    writer = ordered.write.partitionBy("topic", "partition").option("maxRecordsPerFile", SEGMENT_RECORDS)
    writer.option("compression", "zstd").parquet(to)  # refuses a place that exists
    return spark.read.schema(columns.schema).parquet(to).count()


def load(kafka: Mapping[str, str], found: DataFrame, names: Mapping[str, str]) -> int:
    """Write the records of *found*, of all topics or those in *names*, under their new names; give how many.

    :raises Wrong: a topic that is asked for is not there
    """
    there = {row.topic for row in found.select("topic").distinct().collect()}
    if missing := sorted(set(names) - there):
        raise Wrong(f"there is no topic {', '.join(missing)}: there are {', '.join(sorted(there))}")
    if names:
        pairs = F.create_map(*(F.lit(part) for pair in names.items() for part in pair))
        found = found.where(F.col("topic").isin(*names)).withColumn("new", pairs[F.col("topic")])
    else:
        found = found.withColumn("new", F.col("topic"))
    ordered = found.repartition("topic", "partition").sortWithinPartitions("topic", "partition", "offset")
    records = ordered.select(F.col("new").alias("topic"), F.col("partition").cast("int"), "key", "value", "headers")
    safe = {"kafka.acks": "all", "kafka.enable.idempotence": "true", "includeHeaders": "true"}
    records.write.format("kafka").options(**safe).options(**kafka).save()
    return records.count()


def exported(spark: SparkSession, place: str) -> DataFrame:
    """Read what :func:`export` has written."""
    # Else Spark guesses what names mean: the topic `0012` would be the number 12.
    spark.conf.set("spark.sql.sources.partitionColumnTypeInference.enabled", "false")
    return spark.read.parquet(place)


def backed_up(spark: SparkSession, bucket: str, manifest: str) -> DataFrame:
    """Read the segments that a backup names, and no others that lie beside them.

    :param bucket: with the prefix
    :param manifest: key of the backup's manifest below it
    :raises Wrong: when the backup is encrypted, or holds no record
    """
    (text,) = spark.read.text(f"{bucket}/{manifest}", wholetext=True).first() or ("{}",)
    keys = [str(entry["key"]) for entry in json.loads(text)["entries"] if ".parquet" in entry["key"]]
    if any(not key.endswith(".parquet") for key in keys):
        raise Wrong("the backup is encrypted: decrypt its segments with age first, or use `./mainstay restore`")
    if not keys:
        raise Wrong(f"{manifest} names no segment: its topics hold no records")
    found = spark.read.parquet(*(f"{bucket}/{key}" for key in keys))
    path = F.input_file_name()
    topic, partition = F.regexp_extract(path, _FILE, 1), F.regexp_extract(path, _FILE, 2).cast("int")
    return found.withColumn("topic", topic).withColumn("partition", partition)


def main(arguments: Sequence[str]) -> int:
    """Do what the command line says; print one JSON document with what was done."""
    asked = _parser().parse_args(arguments)
    kafka: dict[str, str] = json.loads(os.environ[CONNECTION])
    spark = SparkSession.builder.appName(f"mainstay-segments-{asked.what}").getOrCreate()
    try:
        if asked.what == "export":
            count = export(spark, kafka, asked.topics, asked.to)
        else:
            place = asked.source.rstrip("/")
            found = backed_up(spark, place, asked.manifest) if asked.manifest else exported(spark, place)
            count = load(kafka, found, dict(pair.split("=", 1) for pair in asked.topic))
    except Wrong as error:
        print(json.dumps({"error": str(error)}))  # noqa: T201 - the job's one answer
        return 1
    finally:
        spark.stop()
    print(json.dumps({"records": count}))  # noqa: T201 - the job's one answer
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Topics to segments and back, by Spark.")
    verbs = parser.add_subparsers(dest="what", required=True)
    out = verbs.add_parser("export", help="Kafka to segments")
    out.add_argument("--topics", required=True, help="regular expression, whole names")
    out.add_argument("--to", required=True, help="a place that does not exist yet: s3a://…, file:///…")
    back = verbs.add_parser("load", help="segments to Kafka")
    back.add_argument(
        "--from", dest="source", required=True, help="what export wrote; with --manifest, bucket and prefix"
    )
    back.add_argument("--manifest", default="", help="key of a backup's manifest: load what it names")
    back.add_argument("--topic", action="append", default=[], metavar="OLD=NEW", help="only this one, under this name")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
