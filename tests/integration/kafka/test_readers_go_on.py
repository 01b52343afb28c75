"""Kafka's own consumers continue from restored groups, at the record that they would have read next."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from include.engine.errors import MainstayError
from include.engine.model import Restored, Verdict
from include.engine.store.bucket import Bucket
from include.engine.systems.kafka.client import LATEST, TP, open_admin
from tests.systems.kafka.stand import TARGET, Stand, send

pytestmark = pytest.mark.integration

# The command line, killed as a whole in the middle of what it does: by itself, so that no machine is too quick for it.
KILLED_WHILE_IT_STORES = """
import os, signal
from include.engine.store.bucket import Bucket
create, made = Bucket.create, []
def killed(bucket, key, data):
    done = create(bucket, key, data)
    made.append(key)
    if sum("/objects/" in one for one in made) >= 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return done
Bucket.create = killed
"""
KILLED_WHILE_IT_LOADS = """
import os, signal
from include.engine.systems.kafka.isolation import Child
send, segments = Child.send, []
def killed(child, frame):
    send(child, frame)
    if "raw" in frame:
        segments.append(frame["what"])
    if len(segments) >= 6:
        os.kill(os.getpid(), signal.SIGKILL)
Child.send = killed
"""
COMMAND_LINE = """
from include.engine.cli.app import app
app(prog_name="./mainstay")
"""


def test_the_console_consumer_and_the_verifiable_consumer_continue_at_the_right_record(stand: Stand) -> None:
    topic = stand.topic("t", partitions=1)
    producer = stand.producer(**{"transactional.id": stand.prefix})
    producer.init_transactions()
    for batch in range(6):  # with markers and aborted records between, so that offsets differ after the restore
        producer.begin_transaction()
        for i in range(10):
            send(producer, topic, b"%d" % (batch * 10 + i), None, 0)
        producer.flush()
        producer.abort_transaction() if batch == 2 else producer.commit_transaction()
    values = [value for _, value, _, _ in stand.seen(topic)[0]]
    assert values == [b"%d" % i for i in range(60) if not 20 <= i < 30]
    # 10 records and a marker make a transaction: offset 38 is the sixth record of the fourth.
    groups = [stand.commit(name, {(topic, 0): 38}) for name in ("console", "verifiable")]
    assert stand.next_record(groups[0], topic, 0, cluster=stand.cluster) is not None
    stand.backup()
    stand.restore(rename={topic: topic + "_back"})
    back = topic + "_back"
    with open_admin(stand.cluster.connection()) as admin:
        assert {group: admin.committed([group])[group][TP(back, 0)][0] for group in groups} == dict.fromkeys(groups, 25)
    said = stand.cluster.run(
        "org.apache.kafka.tools.consumer.ConsoleConsumer",
        *("--bootstrap-server", stand.cluster.bootstrap, "--topic", back, "--group", groups[0], "--max-messages", "3"),
    )
    assert [line for line in said.splitlines() if line.isdigit()] == ["35", "36", "37"]
    said = stand.cluster.run(
        "org.apache.kafka.tools.VerifiableConsumer",
        *("--bootstrap-server", stand.cluster.bootstrap, "--topic", back, "--group-id", groups[1]),
        *("--max-messages", "25", "--verbose"),
    )
    events = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    read = [(event["offset"], event["value"]) for event in events if event["name"] == "record_data"]
    assert read == [(25 + n, str(35 + n)) for n in range(25)]


def test_a_backup_whose_process_is_killed_is_whole_after_the_next_try(stand: Stand, tmp_path: Path) -> None:
    """kill -9 of the task: it leaves segments that nobody names, and no backup."""
    stand.bucket = Bucket.open(f"file://{tmp_path}/bucket")
    stand.catalog.bucket = stand.bucket
    topic = stand.topic("t")
    stand.produce(topic, 20_000, size=100)
    arguments = ["backup", "--id", "20261123T020000Z", "--json"]
    environment = environment_of(stand, tmp_path, segment_records=100)
    _killed(KILLED_WHILE_IT_STORES, arguments, environment)
    segments = tmp_path / "bucket" / "kafka" / "main" / "objects"
    assert any(segments.rglob("*.parquet"))
    assert stand.catalog.find(TARGET, "20261123T020000Z") is None
    command = [sys.executable, "-m", "include.engine.cli", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert stand.catalog.backup(TARGET, "20261123T020000Z").detail["new_records"] == 20_000
    stand.restore(rename={topic: topic + "_back"})
    assert stand.seen(topic + "_back") == stand.seen(topic)


def test_a_restore_whose_process_is_killed_goes_on_without_losing_or_doubling(stand: Stand, tmp_path: Path) -> None:
    """kill -9 of the task: its children live on for a moment, and must not write beside those of the next try."""
    stand.settings = stand.settings.model_copy(update={"segment_records": 2000})
    stand.bucket = Bucket.open(f"file://{tmp_path}/bucket")
    stand.catalog.bucket = stand.bucket
    topic = stand.topic("t")
    stand.produce(topic, 60_000, size=300)
    stand.backup()
    back = topic + "_back"
    arguments = [
        *("restore", str(TARGET), "--to-server", "kafka_main", "--yes"),
        *("--rename", f"{topic}={back}", "--confirm", str(TARGET), "--reason", "a test of kills", "--json"),
    ]
    environment = environment_of(stand, tmp_path)
    _killed(KILLED_WHILE_IT_LOADS, arguments, environment)
    assert 0 < _records(stand, back) < 60_000
    command = [sys.executable, "-m", "include.engine.cli", *arguments]
    for _ in range(5):  # as Airflow's retries: while the dead one's children finish their segments, it is told to wait
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            break
        assert json.loads(done.stdout)["error"]["retry"], done.stdout
    assert done.returncode == 0, done.stderr
    assert stand.seen(back) == stand.seen(topic)


def test_of_two_restores_at_once_none_says_that_all_is_well_when_it_is_not(stand: Stand) -> None:
    stand.settings = stand.settings.model_copy(update={"segment_records": 500})
    topic = stand.topic("t")
    stand.produce(topic, 12_000)
    stand.backup()
    ended: list[Restored | MainstayError] = []

    def run() -> None:
        try:
            ended.append(stand.restore(rename={topic: topic + "_back"}))
        except MainstayError as error:
            ended.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ended) == 2
    if any(isinstance(one, Restored) and one.verdict is Verdict.PASS for one in ended):
        assert stand.seen(topic + "_back") == stand.seen(topic)


def environment_of(stand: Stand, directory: Path, *, segment_records: int = 2000) -> dict[str, str]:
    """Where the command finds the stand's topics and the bucket in *directory*."""
    inventory = directory / "inventory.yaml"
    inventory.write_text(
        f"pipeline: test\nstore: {{url: 'file://{directory}/bucket'}}\n"
        f"kafka: {{main: {{connection: kafka_main, topics: ['{stand.prefix}.*'], segment_records: {segment_records}}}}}\n"
    )
    return os.environ | {
        "MAINSTAY_INVENTORY": str(inventory),
        "AIRFLOW_CONN_KAFKA_MAIN": f"kafka://{stand.cluster.bootstrap}",
    }


def _killed(program: str, arguments: list[str], environment: dict[str, str]) -> None:
    """Run the command line, which kills itself."""
    command = [sys.executable, "-c", program + COMMAND_LINE, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr


def _records(stand: Stand, topic: str) -> int:
    with open_admin(stand.cluster.connection()) as admin:
        return sum(admin.offsets([TP(topic, p) for p in range(3)], LATEST, committed=False).values())
