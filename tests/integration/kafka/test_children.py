"""Children that read: slow ones are waited for, silent ones are ended, and one that has failed takes nobody else with it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from include.engine.errors import PermanentError, Unauthorized, Unreachable
from include.engine.store.bucket import Bucket
from include.engine.systems.kafka.access import librdkafka_settings
from include.engine.systems.kafka.client import TP
from include.engine.systems.kafka.isolation import Child, Frame
from include.engine.systems.kafka.translate import Side
from tests.systems.kafka.stand import TARGET, Stand, send

pytestmark = pytest.mark.integration
SILENCE = 6.0  # seconds that are borne here
SLOW = 15  # records, one every half second: all of them together take longer


def test_a_reader_that_gets_a_record_now_and_then_is_waited_for_and_a_silent_one_is_ended(stand: Stand) -> None:
    """As over a slow link: a segment takes longer than any silence may."""
    topic = stand.topic("t", partitions=1)
    stand.produce(topic, 1, partitions=1)

    def trickle() -> None:
        producer = stand.producer()
        for _ in range(SLOW):
            time.sleep(0.5)
            send(producer, topic, b"late", None, 0)
            assert producer.flush(30) == 0

    with Child("reader", patience=SILENCE) as child:
        child._patience = 120  # a Python that starts on a busy machine gives no sign of life, either
        frames = child.frames()

        def read(start: int, stop: int) -> int:
            wanted = {"topic": topic, "partition": 0, "start": start, "stop": stop}
            child.send({"settings": librdkafka_settings(stand.cluster.connection()), "ranges": [wanted]})
            return _records(frames)

        assert read(0, 1) == 1  # it has started
        child._patience = SILENCE
        sending = threading.Thread(target=trickle)
        sending.start()
        assert read(1, 1 + SLOW) == SLOW
        sending.join()
        with pytest.raises(Unreachable, match=r"gave no sign of life for 6 s"):
            read(1 + SLOW, 2 + SLOW)


def test_what_is_asked_after_a_failure_is_answered_by_another_child(stand: Stand) -> None:
    topic, bad = stand.topic("t", partitions=1), stand.topic("bad", partitions=1)
    stand.produce(topic, 30, partitions=1)
    stand.produce_unreadable(bad, 1)
    with Side(librdkafka_settings(stand.cluster.connection())) as side:
        for _ in range(2):
            with pytest.raises(PermanentError, match="no UTF-8"):
                side.rows(TP(bad, 0), 0, 1)
            assert len(side.rows(TP(topic, 0), 10, 30)) == 20


def test_a_store_that_takes_no_more_ends_a_backup_before_all_is_read(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand.settings = stand.settings.model_copy(update={"segment_records": 50})
    stand.produce(stand.topic("t", partitions=1), 6000, partitions=1)
    tried: list[str] = []
    create = Bucket.create

    def refuse(bucket: Bucket, key: str, data: bytes) -> bool:
        if key.startswith(f"{TARGET}/objects"):
            tried.append(key)
            raise Unauthorized("the store refused", hint="look at its keys")
        return create(bucket, key, data)

    monkeypatch.setattr(Bucket, "create", refuse)
    with pytest.raises(Unauthorized, match="the store refused"):
        stand.backup()
    assert 0 < len(tried) < 60  # of 120


def _records(frames: Iterator[Frame]) -> int:
    count = 0
    for frame in frames:
        if "finished" in frame:
            return count
        if "segment" in frame:
            count += frame["segment"]["records"]
    raise AssertionError("it ended")
