"""Kafka's programs as jars from Maven Central, and how a JVM runs one of their classes."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from include.engine.errors import NotFound
from include.engine.sandbox.maven import MavenJars
from include.engine.sandbox.ports import is_free

# 4.4.0 is on Central only in part: its tools and Connect do not resolve.
KAFKA_VERSION = "4.3.1"
_JARS = MavenJars(
    "kafka",
    KAFKA_VERSION,
    coordinates=(
        *(f"org.apache.kafka:{name}:{KAFKA_VERSION}" for name in ("kafka_2.13", "kafka-tools", "connect-runtime")),
        *(f"org.apache.kafka:{name}:{KAFKA_VERSION}" for name in ("connect-mirror", "connect-file", "connect-json")),
        "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4",
    ),
)
_LOGGING = """\
rootLogger.level=WARN
rootLogger.appenderRef.stdout.ref=STDOUT
appender.stdout.type=Console
appender.stdout.name=STDOUT
appender.stdout.layout.type=PatternLayout
appender.stdout.layout.pattern=%d{ISO8601} %p %c{1} %m%n
"""


@dataclass(frozen=True)
class KafkaJars:
    """The jars of one Kafka version, resolved by Maven, which verifies their checksums.

    Its directory holds ``lib/`` and ``log4j2.properties``; no scripts: a class is run with :func:`java`.
    """

    name: str = "kafka"
    version: str = KAFKA_VERSION
    slow: str = "1 minute the first time"

    def install(self, into: Path) -> None:
        """Resolve the jars into *into*.

        :raises NotFound: there is no Maven
        :raises Unreachable: Maven Central did not answer, or an artifact is not there
        """
        lib = into / "lib"
        lib.mkdir()
        _JARS.install(lib)
        (into / "log4j2.properties").write_text(_LOGGING)


def java(jars: Path, main_class: str, *arguments: str | Path, heap: str = "384m", quick: bool = True) -> list[str]:
    """Give the command that runs *main_class* of the *jars*.

    :param quick: compile with C1 only: half the CPU until it is ready, and less speed at the peak
    :raises NotFound: there is no Java
    """
    home = os.environ.get("JAVA_HOME")
    program = shutil.which("java", path=f"{home}/bin") if home else shutil.which("java")
    if program is None:
        raise NotFound(
            "Kafka runs on Java, which is not there", hint="Install Java 17: apt install default-jre-headless"
        )
    options: Sequence[str] = (
        f"-Xmx{heap}",
        "-XX:+UseSerialGC",
        *(("-XX:TieredStopAtLevel=1",) if quick else ()),
        "-XX:+ExitOnOutOfMemoryError",
        "-Djava.net.preferIPv4Stack=true",
        f"-Dlog4j2.configurationFile=file:{jars / 'log4j2.properties'}",
    )
    # java itself expands the asterisk: 95 jars would not be legible in ps.
    return [program, *options, "-cp", f"{jars / 'lib'}/*", main_class, *map(str, arguments)]


def wait_released(*ports: int) -> None:
    """Wait until nobody holds *ports* after a kill: a JVM's first thread is gone before the others let go of its sockets."""
    deadline = time.monotonic() + 10
    while not all(map(is_free, ports)) and time.monotonic() < deadline:
        time.sleep(0.02)
