"""Kafka's own kafka-producer-perf-test as a second opinion on a load: the same topic, rate, size and settings, for some seconds.

It sends as its throttle allows and takes the time from each send to the broker's answer, in whole milliseconds: what it says is
held against our latencies from the time of sending.
"""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from include.engine.contracts import Connection, Stop
from include.engine.errors import PermanentError, Unreachable
from include.engine.loading.contracts import ToolSaid
from include.engine.loading.payloads import payloads
from include.engine.loading.tool import SECRET, run_tool
from include.engine.sandbox.distributions import Shelf
from include.engine.sandbox.home import Home
from include.engine.sandbox.process import clean_environment
from include.engine.systems.kafka.access import librdkafka_settings
from include.engine.systems.kafka.distribution import KAFKA_VERSION, KafkaJars, java
from include.engine.systems.kafka.topology import java_settings
from include.engine.systems.kafka.workload import Workload

BY = f"kafka-producer-perf-test {KAFKA_VERSION}"
LONGEST = 30.0  # seconds, with the start of its JVM
_PROJECT = Path(__file__).resolve().parents[4]
_MAIN = "org.apache.kafka.tools.ProducerPerformance"
_WARMS_UP, _MEASURES = 3.0, 6.0  # seconds; while its JVM compiles, it is what is measured
_SAID = re.compile(
    r"^(?P<count>\d+)(?P<steady> steady state)? records sent, (?P<rate>[\d.]+) records/sec \([\d.]+ MB/sec\),"
    r" (?P<mean>[\d.]+) ms avg latency, (?P<max>[\d.]+) ms max latency,"
    r" (?P<p50>\d+) ms 50th, (?P<p95>\d+) ms 95th, (?P<p99>\d+) ms 99th, (?P<p999>\d+) ms 99\.9th\.",
    re.MULTILINE,
)
_LATENCIES = ("mean", "max", "p50", "p95", "p99", "p999")


def records(rate: float) -> int:
    """Give how many records it sends at *rate*."""
    return math.ceil(rate * (_WARMS_UP + _MEASURES))


def ask(connection: Connection, topic: str, workload: Workload, rate: float, stop: Stop) -> ToolSaid:
    """Have it produce to *topic*.

    :raises NotFound: when there is no Java, or no Maven to fetch Kafka's programs with
    :raises Unreachable: when it did not end in time
    :raises PermanentError: when it failed
    """
    jars = Shelf.of(Home.of(_PROJECT)).obtain(KafkaJars())
    with tempfile.TemporaryDirectory() as folder:
        values = Path(folder, "values")
        arguments = [
            *("--bootstrap-server", librdkafka_settings(connection)["bootstrap.servers"], "--topic", topic),
            *("--num-records", str(records(rate)), "--warmup-records", str(math.ceil(rate * _WARMS_UP))),
            *("--throughput", f"{rate:.3f}", "--command-config", SECRET),
        ]
        if workload.payload == "json":
            values.write_bytes(b"\n".join(payloads(workload.payload_bytes, shape="json")))
            arguments += ["--payload-file", str(values)]
        else:
            arguments += ["--record-size", str(workload.payload_bytes)]
        command = java(jars, _MAIN, *arguments, heap="256m", quick=False)
        return said_by(_output(command, Path(folder), stop, properties(connection, workload)), workload)


def properties(connection: Connection, workload: Workload) -> str:
    """Write the client's settings, the same as those of our own producer."""
    timeout = workload.timeout_ms
    settings = {
        **java_settings(librdkafka_settings(connection)),
        "acks": workload.acks,
        "enable.idempotence": str(workload.acks == "all").lower(),
        "compression.type": workload.compression,
        "linger.ms": str(workload.linger_ms),
        "batch.size": str(workload.batch_bytes),
        "request.timeout.ms": str(max(1, timeout - workload.linger_ms - 1)),
        "delivery.timeout.ms": str(timeout + workload.linger_ms),
    }
    return "".join(f"{key}={_escaped(value)}\n" for key, value in settings.items())


def said_by(output: str, workload: Workload) -> ToolSaid:
    """Read what it prints: without its warm-up, when it says that apart.

    :raises PermanentError: when there is no line with percentiles
    """
    found = list(_SAID.finditer(output))
    if not found:
        last = output.strip().splitlines()[-1:] or ["nothing"]
        raise PermanentError(
            f"{BY} has printed no percentiles: {last[0][:200]}", hint="run the load test without the cross-check"
        )
    line: Mapping[str, str] = next((one for one in found if one["steady"]), found[-1]).groupdict()
    keys = "" if not workload.keys else "; it sends no keys"
    return ToolSaid(
        by=BY,
        how=f"the same topic, rate, size and settings, {_MEASURES:g} s after {_WARMS_UP:g} s of warm-up{keys};"
        " from the time of sending, in whole milliseconds",
        rate=float(line["rate"]),
        operations=int(line["count"]),
        resolution=1.0,
        latencies={name: float(line[name]) for name in _LATENCIES},
    )


def _output(command: list[str], folder: Path, stop: Stop, config: str) -> str:
    with (folder / "said").open("w+") as said:
        code = run_tool(
            command,
            directory=folder,
            environment=clean_environment(Path.home(), {"LC_ALL": "C"}),
            stop=stop,
            timeout=LONGEST,
            output=said,
            errors=said,
            secret=config,
        )
        said.seek(0)
        text = said.read()
    if code is None:
        raise Unreachable(f"{BY} did not end within {LONGEST:g} s", hint="check that the brokers answer")
    if code:
        wrong = [line for line in text.splitlines() if "Exception" in line or "rror" in line] or text.splitlines()[-1:]
        raise PermanentError(
            f"{BY} ended with exit code {code}: {' '.join(wrong[:1])[:300]}",
            hint="run the load test without the cross-check",
        )
    return text


def _escaped(value: str) -> str:
    """Write a value of a Java properties file."""
    return value.replace("\\", "\\\\").replace("\n", "\\n")
