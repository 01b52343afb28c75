"""The look through the job's plan, by Spark itself: what in a key a replay would not make again, and what it would."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from include.engine.sandbox.distributions import Shelf
from include.engine.sandbox.home import Home
from include.engine.systems.spark.distribution import Installation

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

# As SQL in the place of a user's id, and what the job is to say of it.
BAD = {
    "uuid()": "chance: uuid",
    "cast(rand() as string)": "chance: rand",
    "cast(random() as string)": "chance: rand",
    "cast(monotonically_increasing_id() as string)": "chance: monotonically_increasing_id",
    "cast(current_timestamp() as string)": "the clock: current_timestamp",
    "cast(now() as string)": "the clock: now",
    "cast(current_date() as string)": "the clock: current_date",
    "cast(localtimestamp() as string)": "the clock: localtimestamp",
    "cast(unix_timestamp() as string)": "the clock",
    "concat(d.id, cast(offset as string))": "the record's offset",
    "concat(cast(partition as string), d.id)": "the record's partition",
    "coalesce(d.id, uuid())": "chance: uuid",
    "if(d.id is null, cast(now() as string), d.id)": "the clock: now",
}
GOOD = (
    "d.id",
    "lower(d.id)",
    "sha2(cast(value as string), 256)",
    "concat(topic, d.email)",
    "cast(timestamp as string)",  # the record's own, which a restore brings back
)

SCRIPT = """
import json, sys
from pyspark.sql import SparkSession
from include.jobs.lint import unrepeatable
from include.jobs.shapes import SHAPES, SOURCE, rows

spark = SparkSession.builder.getOrCreate()
reader = spark.readStream.format("kafka").options(**{"kafka.bootstrap.servers": "127.0.0.1:9", "subscribe": "users"})
found = {}
for text in json.loads(sys.argv[1]):
    frame = rows(reader.load().select(*SOURCE), SHAPES["users"], {"id": text})
    found[text] = unrepeatable(frame, ["id", "email"])
print("FOUND " + json.dumps(found))
spark.stop()
"""


@pytest.fixture(scope="module")
def found(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Mapping[str, Sequence[str]]]:
    """What the job finds in each: one Spark for all of them."""
    installation = Installation.on(Shelf.of(home))
    script = tmp_path_factory.mktemp("lint") / "lint.py"
    script.write_text(SCRIPT)
    options = {
        "spark.master": "local[1]",
        "spark.ui.enabled": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.extraClassPath": ":".join(map(str, installation.jars)),
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    }
    flags = [part for key, value in options.items() for part in ("--conf", f"{key}={value}")]
    done = subprocess.run(
        [str(installation.home / "bin" / "spark-submit"), *flags, str(script), json.dumps([*BAD, *GOOD])],
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", **installation.environment()},
        cwd=Path(script).parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    said = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    assert said, done.stdout[-1000:] + done.stderr[-3000:]
    told: Mapping[str, Mapping[str, Sequence[str]]] = json.loads(said[-1].removeprefix("FOUND "))
    return told


@pytest.mark.parametrize("text", list(BAD))
def test_a_key_that_a_replay_would_not_make_again_is_named(
    found: Mapping[str, Mapping[str, Sequence[str]]], text: str
) -> None:
    assert set(found[text]) == {"id"}  # and no other column is blamed for it
    assert any(one.startswith(BAD[text]) for one in found[text]["id"]), found[text]


@pytest.mark.parametrize("text", GOOD)
def test_a_key_that_comes_from_the_record_is_let_through(
    found: Mapping[str, Mapping[str, Sequence[str]]], text: str
) -> None:
    assert found[text] == {}
