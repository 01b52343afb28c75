"""What an error of Spark means in one word; the texts are its own."""

from __future__ import annotations

import pytest

from include.jobs.stream import classified

GONE = """Some data may have been lost because they are not available in Kafka any more; either the data was aged out by Kafka
or the topic may have been deleted before all the data in the topic was processed.
Reason: Partition users-2 offset was changed from 2807 to 24."""


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (GONE, "lost"),
        ("[KAFKA_DATA_LOSS.COULD_NOT_READ_OFFSET_RANGE] Some data may have been lost", "lost"),
        ("java.lang.IllegalStateException: batch 12 doesn't exist", "damaged"),
        ("Log file was malformed: failed to read correct log version from v9", "damaged"),
        ("[CAST_INVALID_INPUT] The value 'x' of the type STRING cannot be cast because it is malformed.", "failed"),
        ("com.datastax.oss.driver: keyspace spark_streams doesn't exist", "failed"),
        ("Incomplete log file in the offset commit log", "damaged"),
        ("org.apache.hadoop.fs.ChecksumException: Checksum error: offsets/3", "damaged"),
        ("Cassandra did not take 17 rows within 300 s", "failed"),
        ("", "failed"),
    ],
)
def test_an_error_is_one_word(text: str, word: str) -> None:
    assert classified(text) == word
