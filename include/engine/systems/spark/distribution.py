"""Spark and what the job needs beside it: a fixed version, in a place of its own, complete before anything is started.

Airflow's environment holds the client part of PySpark, which shares a package with the whole of it: one would break the other.
So Spark is unpacked from its source archive, jars and Python together, into the shelf, and runs from there.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from include.engine.errors import Corrupt, NotFound, Unreachable
from include.engine.sandbox.accounts import ourselves
from include.engine.sandbox.distributions import Shelf
from include.engine.sandbox.maven import MavenJars

SPARK_VERSION = "4.2.0"
_SHA256 = "5ad689d53570ee1674193fd4f9bda065f0db3be9363a27d2a3406cc457b70b61"
_KEPT = {"deps/bin": "bin", "deps/sbin": "sbin", "deps/jars": "jars", "deps/licenses": "licenses", "lib": "python/lib"}

PROJECT = Path(__file__).resolve().parents[4]
SINK = PROJECT / "include" / "jobs" / "sink"
_SINK_JAR = "mainstay-sink.jar"

# All `alone`: the rest of what they need is among Spark's own jars already, in the version that it wants.
LIBRARIES = MavenJars(
    "spark-libraries",
    SPARK_VERSION,
    coordinates=(),
    alone=(
        f"org.apache.spark:spark-sql-kafka-0-10_2.13:{SPARK_VERSION}",
        f"org.apache.spark:spark-token-provider-kafka-0-10_2.13:{SPARK_VERSION}",
        "org.apache.kafka:kafka-clients:3.9.2",
        "org.apache.commons:commons-pool2:2.13.1",
        "org.apache.cassandra:java-driver-core-shaded:4.19.3",
        "org.apache.cassandra:java-driver-guava-shaded:4.19.3",
        "com.datastax.oss:native-protocol:1.5.2",
        "com.typesafe:config:1.4.1",
        "org.reactivestreams:reactive-streams:1.0.3",
    ),
)

# For checkpoints in an object store: the parts of a bundle of several hundred MiB that are needed for that.
OBJECT_STORE = MavenJars(
    "spark-object-store",
    SPARK_VERSION,
    coordinates=tuple(
        f"software.amazon.awssdk:{part}:2.35.4" for part in ("s3", "s3-transfer-manager", "sts", "apache-client")
    ),
    alone=(
        "org.apache.hadoop:hadoop-aws:3.5.0",
        "software.amazon.s3.analyticsaccelerator:analyticsaccelerator-s3:1.3.1",
    ),
)
_SPARKS_OWN = ("slf4j-", "netty-", "jackson-", "commons-codec-", "reactive-streams-")  # it brings newer ones


@dataclass(frozen=True)
class SparkProgram:
    """Spark with its jars, scripts and Python part: a ``SPARK_HOME``.  Nothing in the archive is executed to get it."""

    name: str = "spark"
    version: str = SPARK_VERSION
    slow: str = "1 minute the first time, 430 MiB"

    def install(self, into: Path) -> None:
        """Download, verify and unpack it.

        :raises Unreachable: PyPI did not answer
        :raises Corrupt: what came is not what was pinned
        """
        with tempfile.TemporaryDirectory(dir=into.parent) as scratch:
            archive = self._download(Path(scratch))
            if hashlib.file_digest(archive.open("rb"), "sha256").hexdigest() != _SHA256:
                raise Corrupt(f"Spark {self.version} is not what was pinned", hint="do not use it; find out why")
            with tarfile.open(archive) as tar:
                tar.extraction_filter = getattr(tarfile, "data_filter", None)
                tar.extractall(scratch, self._wanted(tar))  # noqa: S202 - the hash has vouched for it
            top = Path(scratch, f"pyspark-{self.version}")
            for source, place in _KEPT.items():
                (into / place).parent.mkdir(parents=True, exist_ok=True)
                (top / source).rename(into / place)
        for script in (*(into / "bin").iterdir(), *(into / "sbin").iterdir()):
            script.chmod(0o755)

    def _wanted(self, tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
        folders = tuple(f"pyspark-{self.version}/{folder}/" for folder in _KEPT)
        return (member for member in tar if member.name.startswith(folders))

    def _download(self, scratch: Path) -> Path:
        wanted = scratch / "requirements.txt"
        wanted.write_text(f"pyspark=={self.version} --hash=sha256:{_SHA256}\n")
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download", "--quiet"]
        options = ["--no-deps", "--require-hashes", "--dest", str(scratch), "-r", str(wanted)]
        done = subprocess.run([*pip, *options], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            said = "\n".join(done.stderr.strip().splitlines()[-6:])
            raise Unreachable(f"Spark {self.version} could not be had", hint=f"check the way to PyPI: {said}")
        return next(scratch.glob("pyspark-*.tar.gz"))


@dataclass(frozen=True)
class SinkJar:
    """Our own jar: what the job does on Spark's executors.  Built by Maven from ``include/jobs/sink``.

    :param against: Spark's jars and the libraries, which it is compiled with
    """

    against: tuple[Path, ...]
    name: str = "spark-sink"
    slow: str = "half a minute the first time"

    @cached_property
    def version(self) -> str:
        """The digest of its sources: a change makes another jar."""
        digest = hashlib.sha256(SPARK_VERSION.encode())
        for file in sorted(SINK.rglob("*")):
            if file.is_file() and "target" not in file.parts:
                digest.update(file.relative_to(SINK).as_posix().encode() + b"\0" + file.read_bytes())
        return digest.hexdigest()[:12]

    def install(self, into: Path) -> None:
        """Build it.

        :raises NotFound: there is no Maven or no Java compiler
        :raises Unreachable: Maven did not build it; the hint shows what it said
        """
        maven = shutil.which("mvn")
        if maven is None or shutil.which("javac") is None:
            raise NotFound(
                "the stream's sink is built by Maven and a JDK, and one of them is not there",
                hint="install maven and openjdk-17-jdk-headless",
            )
        with tempfile.TemporaryDirectory(dir=into.parent) as scratch:
            build = Path(scratch, "sink")
            shutil.copytree(SINK, build, ignore=shutil.ignore_patterns("target"))
            classpath = ":".join(str(jar) for folder in self.against for jar in sorted(folder.glob("*.jar")))
            done = subprocess.run(
                [maven, "-B", "-q", "-C", "-f", f"{build}/pom.xml", "package", f"-Dspark.classpath={classpath}"],
                capture_output=True,
                text=True,
                timeout=900,
                check=False,
                stdin=subprocess.DEVNULL,
            )
            made = build / "target" / _SINK_JAR
            if done.returncode != 0 or not made.exists():
                said = "\n".join(line for line in done.stdout.splitlines() if "ERROR" in line)[:1500]
                raise Unreachable(
                    "Maven did not build the stream's sink", hint=f"it said: {said or done.stderr[-600:]}"
                )
            shutil.copy(made, into / made.name)


@dataclass(frozen=True, kw_only=True)
class Installation:
    """A Spark that is ready to run the job.

    :param home: its ``SPARK_HOME``
    :param jars: what the job needs beside Spark's own
    :param python: the interpreter of the driver
    """

    home: Path
    jars: tuple[Path, ...]
    python: Path

    @classmethod
    def on(cls, shelf: Shelf) -> Installation:
        """The one on *shelf*, put there when it is not.

        :raises MainstayError: it cannot be had
        """
        home, libraries = _kept(shelf, SparkProgram()), _kept(shelf, LIBRARIES)
        sink = _kept(shelf, SinkJar((home / "jars", libraries)))
        store = [jar for jar in _kept(shelf, OBJECT_STORE).glob("*.jar") if not _sparks_own(jar.name)]
        jars = (*sorted(libraries.glob("*.jar")), *sorted(sink.glob("*.jar")), *sorted(store))
        # The base interpreter, not a virtual environment's: that one holds the client part of PySpark.
        return cls(home=home, jars=jars, python=Path(getattr(sys, "_base_executable", sys.executable)))

    def require(self) -> None:
        """See that it is complete: without one of its jars, a job would end with the name of some class.

        :raises NotFound: naming what is missing
        """
        there = {path.name for path in (self.home / "bin" / "spark-submit", *self.jars) if path.exists()}
        wanted = {"{1}-{2}.jar".format(*coordinate.split(":")) for coordinate in LIBRARIES.alone}
        missing = sorted((wanted | {"spark-submit", _SINK_JAR}) - there)
        if missing:
            raise NotFound(
                f"the streaming job cannot run without {', '.join(missing)}",
                hint=f"remove spark-* from {self.home.parent}: what is not there is put there anew",
            )

    def environment(self) -> dict[str, str]:
        """What its scripts find it by."""
        return {
            "SPARK_HOME": str(self.home),
            "PYSPARK_PYTHON": str(self.python),
            "PYSPARK_DRIVER_PYTHON": str(self.python),
            "PYTHONPATH": str(PROJECT),
            "PYTHONNOUSERSITE": "1",
            "PYTHONUNBUFFERED": "1",
            "SPARK_LOCAL_IP": "127.0.0.1",
        }


def spark_home(shelf: Shelf) -> Path:
    """Give Spark alone, put on *shelf* when it is not: enough to submit with.

    :raises MainstayError: it cannot be had
    """
    return _kept(shelf, SparkProgram())


def _sparks_own(name: str) -> bool:
    return name.startswith(_SPARKS_OWN) and not name.startswith("netty-nio-client")


def _kept(shelf: Shelf, wanted: SparkProgram | MavenJars | SinkJar) -> Path:
    """Give *wanted* from the cache itself: Spark runs as ourselves, so the servers' account needs no copy of 500 MiB."""
    return replace(shelf, home=replace(shelf.home, account=ourselves())).obtain(wanted)
