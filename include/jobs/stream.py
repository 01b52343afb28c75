"""The streaming job: Kafka to Cassandra, one query for each flow.  Runs inside Spark, told by one document what to do.

It guards what only it can see: that it is the newest launch of its checkpoint, that a topic is still the topic that the
checkpoint is about, and that a replay would write the same keys.  What it refuses, it refuses before the batch is written, and
says so in ``_mainstay/ends/<launch>.json`` beside the checkpoint, where whoever keeps it running reads it.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from include.jobs.journal import Journal
from include.jobs.lint import unrepeatable
from include.jobs.shapes import SHAPES, SOURCE, rows

DOCUMENT = "MAINSTAY_STREAM"  # the environment variable that says what to do; passwords are in it, so no argument is it

_LOST = ("data may have been lost", "data may have been missed", "DATA_LOSS", "offset was changed from")
# Of the checkpoint's own notes: a value that cannot be cast is "malformed" as well, and much else "doesn't exist".
_DAMAGED = re.compile(
    r"Log file was malformed|Incomplete log file|ChecksumException|Checksum error|required to restart the query"
    r"|\bbatch(es)? [^:]{1,60} do(es)?n't exist"
)
_PAUSE = 1.0  # seconds between two looks at what is wished
_LOG = logging.getLogger("mainstay.stream")


class Refusal(Exception):
    """What no restart mends.

    :param kind: one word that the engine decides by
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason


def classified(text: str) -> str:
    """Say in one word what an error of Spark means: ``lost`` records, a ``damaged`` checkpoint, or just ``failed``."""
    if any(sign in text for sign in _LOST):
        return "lost"
    return "damaged" if _DAMAGED.search(text) else "failed"


class Stream:
    """The job of one launch.

    :param todo: see ``include/engine/systems/spark/submission.py``, which writes it
    """

    def __init__(self, spark: SparkSession, todo: dict[str, Any]) -> None:
        self.spark = spark
        self.todo = todo
        self.generation = int(todo["generation"])
        self.journal = Journal(spark, todo["checkpoint"])
        self.queries: list[StreamingQuery] = []
        self.draining: tuple[str, dict[str, dict[int, int]]] | None = None  # the wish, and where the flows were to end
        self.refusal: Refusal | None = None
        session: Any = spark
        self._jvm = session._jvm.mainstay.stream  # noqa: SLF001 - our own classes have no other door
        self._kafka = {str(key): str(value) for key, value in todo["kafka"].items()}
        self._progress = self._jvm.Progress(self._kafka, todo["group"])
        session._jsparkSession.streams().addListener(self._progress)  # noqa: SLF001

    def run(self) -> int:
        """Run until a person wishes otherwise or something fails; give the exit code."""
        try:
            kind, reason = self._run()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is noted where the next launch reads it
            told = error if isinstance(error, Refusal) else self.refusal
            kind, reason = (told.kind, told.reason) if told else (classified(str(error)), str(error))
            if kind == "lost":
                kind, reason = self._recreated() or (kind, reason)
            _LOG.exception("the stream ends: %s", kind)
        for query in self.queries:
            try:
                query.stop()
            except Exception:  # noqa: BLE001 - how it ended is noted all the same
                _LOG.exception("the query %s did not stop in good order", query.name)
        if kind != "fenced":  # the name belongs to the launch that is newer
            end = {"kind": kind, "reason": reason[:2000], "at": time.time()}
            self.journal.create(f"ends/{self.generation:06d}.json", end)
        return 0 if kind in ("stopped", "drained") else 1

    def _run(self) -> tuple[str, str]:
        self._fence()
        if self._wish()[1] == "stop":  # said since the launch, or a restore writes the checkpoint: do not begin at all
            return "stopped", "a person wished it before it began"
        facts = {}
        for flow, told in self.todo["flows"].items():
            settings = self._settings(told)
            frame = self._frame(told)
            facts[flow] = self._admit(flow, told, settings, frame)
            self._begin(flow)
            self.queries.append(self._start(flow, told, settings, frame))
        context = self.spark.sparkContext
        run = {"application": context.applicationId, "page": context.uiWebUrl, "flows": facts, "at": time.time()}
        self.journal.create(f"runs/{self.generation:06d}.json", run)
        while True:
            time.sleep(_PAUSE)
            for query in self.queries:
                if not query.isActive:
                    raise query.exception() or RuntimeError(f"the query {query.name} has ended by itself")
            rest = self._rest()
            if rest:
                return rest

    def _rest(self) -> tuple[str, str] | None:
        """Say whether the job is to end now, as a person wishes.

        A drain is of what was there when it was seen first: of topics that go on being filled, all that is there is never written.
        Nothing waits here, so that whoever wishes something else meanwhile is heard.
        """
        name, action = self._wish()
        if action == "run":
            self.draining = None
            return None
        if action == "stop":
            return "stopped", "a person wished it"
        if self.draining is None or self.draining[0] != name:
            try:
                self.draining = name, {flow: self._ends(told["topic"]) for flow, told in self.todo["flows"].items()}
            except Exception as error:  # noqa: BLE001 - Kafka is away: the queries know what that means, a wish can wait
                _LOG.warning("where the topics end could not be read, so the drain waits: %s", error)
                return None
        if all(self._reached(flow, ends) for flow, ends in self.draining[1].items()):
            return "drained", "all that was there is written"
        return None

    def _wish(self) -> tuple[str, str]:
        """Give the name of the newest wish, and what is wished; to run, when nobody ever said anything."""
        name = self.journal.newest("wishes")
        wish = self.journal.note(f"wishes/{name}") if name else None
        return (str(name), str(wish["action"])) if wish else ("", "run")

    def _ends(self, topic: str) -> dict[int, int]:
        found = self._jvm.Topics.ends(self._kafka, topic)
        return {int(partition): int(end) for partition, end in found.items()}

    def _reached(self, flow: str, ends: dict[int, int]) -> bool:
        """Say whether the checkpoint has noted all of *flow* before *ends* as done."""
        committed = self.journal.committed(flow)
        told = json.loads(committed[1]).get(self.todo["flows"][flow]["topic"], {}) if committed else {}
        return all(int(told.get(str(partition), 0)) >= end for partition, end in ends.items())

    def _fence(self) -> None:
        """Make sure that nobody has launched this checkpoint after us: two drivers would take turns in undoing each other."""
        newest = self.journal.newest("launches")
        if newest is None or int(newest.partition(".")[0]) != self.generation:
            raise self._refused("fenced", f"launch {self.generation} is not the newest of this checkpoint: {newest} is")

    def _settings(self, told: dict[str, Any]) -> Any:
        cassandra = self.todo["cassandra"]
        options = {str(key): str(value) for key, value in cassandra["options"].items()}
        return self._jvm.Sink.settings(
            list(cassandra["hosts"]), int(cassandra["port"]), options, self._kafka, told["dead_letters"]
        )

    def _frame(self, told: dict[str, Any]) -> DataFrame:
        reader = self.spark.readStream.format("kafka").options(
            **{f"kafka.{key}": value for key, value in self._kafka.items()},
            subscribe=told["topic"],
            startingOffsets="earliest",
            maxOffsetsPerTrigger=str(told["max_offsets"]),
            failOnDataLoss="true",
            # As the set's cut of the log counts: what is not committed is not there yet.
            **{"kafka.isolation.level": "read_committed"},
        )
        return rows(reader.load().select(*SOURCE), SHAPES[told["shape"]], told.get("replaced"))

    def _admit(self, flow: str, told: dict[str, Any], settings: Any, frame: DataFrame) -> dict[str, Any]:
        """Check the topic and the table, and look through the plan; give what a set should know of this flow."""
        identity = self._identity(flow, told["topic"])
        self._jvm.Topics.ensure(self._kafka, told["dead_letters"], told["topic"])
        key = [str(column) for column in self._jvm.Tables.key(settings, told["table"])]
        if not key:
            raise self._refused("table", f"there is no table {told['table']}, which the flow {flow} writes to")
        columns = frame.columns[len(SOURCE) + 1 :]
        missing = sorted(set(key) - set(columns))
        if missing:
            raise self._refused("table", f"the key of {told['table']} has {missing}, which no record of {flow} tells")
        offences = unrepeatable(frame, columns)
        bad = {column: found for column, found in offences.items() if column in key}
        if bad and not told["allow_unrepeatable"]:
            raise self._refused("unrepeatable", f"a replay of {flow} would write other keys: {bad}")
        return {**identity, "table": told["table"], "key": key, "idempotent": not bad, "unrepeatable": offences}

    def _identity(self, flow: str, topic: str) -> dict[str, str]:
        """Compare the topic with the one that the checkpoint is about; the first launch writes down which that is."""
        found = {"topic": topic, "id": str(self._jvm.Topics.id(self._kafka, topic))}
        note = f"flows/{flow}.json"
        known = self.journal.note(
            note
        )  # it is there for every batch but the first: to try to write it would cost three requests
        if known is None and not self.journal.create(note, found):
            known = self.journal.note(note)
        if known not in (None, found):
            raise self._refused(
                "recreated", f"the checkpoint of {flow} is about the topic {known}, and this one is {found}"
            )
        return found

    def _recreated(self) -> tuple[str, str] | None:
        """Say whether records are missing because a topic is another one of the same name."""
        try:
            for flow, told in self.todo["flows"].items():
                self._identity(flow, told["topic"])
        except Refusal as error:
            return error.kind, error.reason
        except Exception as error:  # noqa: BLE001 - it is only a better word for what is known
            _LOG.warning("the topics could not be compared: %s", error)
        return None

    def _begin(self, flow: str) -> None:
        """Put the group where the checkpoint is: the last driver may have died before it did."""
        committed = self.journal.committed(flow)
        if committed is not None:
            batch, offsets = committed
            self._progress.begin(flow, offsets, batch)

    def _start(self, flow: str, told: dict[str, Any], settings: Any, frame: DataFrame) -> StreamingQuery:
        return (
            frame.writeStream.foreachBatch(self._writer(flow, told, settings))
            .queryName(flow)
            .option("checkpointLocation", f"{self.todo['checkpoint'].rstrip('/')}/{flow}")
            .trigger(processingTime=f"{self.todo['trigger_ms']} milliseconds")
            .start()
        )

    def _writer(self, flow: str, told: dict[str, Any], settings: Any) -> Callable[[DataFrame, int], None]:
        def write(batch: DataFrame, _number: int) -> None:
            self._fence()
            self._identity(flow, told["topic"])
            classic: Any = batch
            written, dead = self._jvm.Sink.write(classic._jdf, settings, told["table"])  # noqa: SLF001
            self._progress.count(flow, written, dead)

        return write

    def _refused(self, kind: str, reason: str) -> Refusal:
        # Kept: from a batch, the error comes back as one of Spark's, with this one's text in it at best.
        self.refusal = Refusal(kind, reason)
        return self.refusal


def main() -> None:
    """Do what the environment says, and exit."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("py4j").setLevel(logging.WARNING)
    todo = json.loads(os.environ[DOCUMENT])
    spark = SparkSession.builder.appName(todo["name"]).getOrCreate()
    spark.sparkContext.setLogLevel("WARN")
    code = Stream(spark, todo).run()
    spark.stop()
    sys.exit(code)


if __name__ == "__main__":
    main()
