"""The text that every set carries is followed to the letter, with stock tools, and the records come back."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.systems.kafka.stand import TARGET, Stand

pytestmark = pytest.mark.integration


def test_the_text_restores_what_it_says(stand: Stand, tmp_path: Path) -> None:
    topic = stand.topic("t", partitions=2, retention_ms="7200000")
    stand.produce(topic, 500, partitions=2)
    stand.backup()
    stand.produce(topic, 100, partitions=2, start=500)
    manifest = stand.backup()
    text = stand.engine(TARGET).by_hand(manifest)

    # 1. the topics are in a table, with what to put back
    assert f"| `{topic}` | 2 | 1 | `retention.ms=7200000` |" in text
    again = stand.topic("again", partitions=2)

    # 2. the segments are listed by key
    keys = [line for line in text.splitlines() if line.endswith(".parquet") and line.startswith("kafka/main/objects/")]
    assert len(keys) == 4
    for key in keys:
        (tmp_path / Path(key).name).write_bytes(b"")
    programs = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    reading, producing = programs
    sample = stand.bucket.read(keys[0])
    (tmp_path / "segment.parquet").write_bytes(sample)
    shown = subprocess.run([sys.executable, "-c", reading], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "'offset': 0" in shown.stdout

    # 3. the program produces them, in order
    for partition in range(2):
        folder = tmp_path / str(partition)
        folder.mkdir()
        files = []
        for key in keys:
            if key.split("/")[-2] == str(partition):
                file = folder / Path(key).name
                file.write_bytes(stand.bucket.read(key))
                files.append(str(file))
        subprocess.run(
            [sys.executable, "-c", producing, stand.cluster.bootstrap, again, str(partition), *files], check=True
        )
    assert stand.seen(again) == stand.seen(topic)
