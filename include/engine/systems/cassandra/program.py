"""The Cassandra that sandboxes and restores run: its jars, and how Java is told to run its server and its tools."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from include.engine.children import kept_in_memory
from include.engine.errors import NotFound
from include.engine.sandbox.distributions import Shelf
from include.engine.sandbox.home import Home
from include.engine.sandbox.maven import MavenJars

# 6.0 exists only as alpha: pinned, never RELEASE.
CASSANDRA = MavenJars(
    "cassandra",
    "5.0.9",
    coordinates=["org.apache.cassandra:cassandra-all:5.0.9"],
    alone=["org.jolokia:jolokia-agent-jvm:2.6.0:javaagent"],
)
JOLOKIA_JAR = "jolokia-agent-jvm-2.6.0-javaagent.jar"

DAEMON = "org.apache.cassandra.service.CassandraDaemon"
NODETOOL = "org.apache.cassandra.tools.NodeTool"
SSTABLELOADER = "org.apache.cassandra.tools.BulkLoader"

_EXPORTS = (
    "java.base/jdk.internal.misc",
    "java.management.rmi/com.sun.jmx.remote.internal.rmi",
    "java.rmi/sun.rmi.registry",
    "java.rmi/sun.rmi.server",
    "java.sql/java.sql",
    "java.base/java.lang.ref",
    "jdk.unsupported/sun.misc",
    "jdk.compiler/com.sun.tools.javac.file",
    "jdk.attach/sun.tools.attach",
)
_OPENS = (
    "java.base/java.lang.module",
    "java.base/jdk.internal.loader",
    "java.base/jdk.internal.ref",
    "java.base/jdk.internal.reflect",
    "java.base/jdk.internal.math",
    "java.base/jdk.internal.module",
    "java.base/jdk.internal.util.jar",
    "java.base/sun.nio.ch",
    "java.base/java.io",
    "java.base/java.lang",
    "java.base/java.lang.reflect",
    "java.base/java.util",
    "java.base/java.nio",
    "java.base/java.util.concurrent",
    "java.base/java.util.concurrent.atomic",
    "java.base/java.math",
    "java.base/java.net",
    "jdk.management/com.sun.management.internal",
    "jdk.compiler/com.sun.tools.javac",
)


def loader_jars(home: Home) -> Path:
    """The jars that sstableloader is run from: an installed Cassandra's (``CASSANDRA_HOME``), else those that Maven fetches.

    :raises NotFound: ``CASSANDRA_HOME`` has no Cassandra
    """
    installed = os.environ.get("CASSANDRA_HOME")
    if not installed:
        return Shelf.of(home).obtain(CASSANDRA)
    lib = Path(installed) / "lib"
    if not any(lib.glob("apache-cassandra-*.jar")):
        raise NotFound(
            f"CASSANDRA_HOME is {installed}, and there is no {lib}/apache-cassandra-….jar",
            hint="unpack a release of Cassandra there, or unset it to have the jars fetched with Maven",
        )
    return lib


def java() -> str:
    """The Java that runs it.

    :raises NotFound: there is none
    """
    found = shutil.which("java")
    if found is None:
        raise NotFound("Cassandra needs Java, and there is no java on the PATH", hint="Install a Java 17 runtime")
    return found


def options(lib: Path, directory: Path, *, heap: str) -> list[str]:
    """Options for Java that the server and every tool need.

    :param lib: the jars
    :param directory: the process's own: native parts of the jars are unpacked below it
    :param heap: the largest heap, as Java writes it
    """
    return [
        *(f"--add-exports={one}=ALL-UNNAMED" for one in _EXPORTS),
        *(f"--add-opens={one}=ALL-UNNAMED" for one in _OPENS),
        f"-Xmx{heap}",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",  # the optimising compiler costs more CPU than a short life gives back
        "-Djava.net.preferIPv4Stack=true",
        f"-Djava.io.tmpdir={directory}/tmp",  # noqa: S108 - below a directory of its own
        f"-Djna.tmpdir={directory}/tmp",  # noqa: S108
        f"-Duser.home={directory}",  # nodetool writes its history there
        "-cp",
        f"{directory}/conf:{lib}/*",
    ]


def argument_file(path: Path, arguments: Sequence[str]) -> Path:
    """Write *arguments* where ``java @path`` reads them: the list of processes shows the path, never a password."""
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(_as_file(arguments))
    return path


@contextmanager
def unwritten(arguments: Sequence[str]) -> Iterator[Path]:
    """Give a path where ``java @path`` reads *arguments* while the context lasts: in memory, where no kill leaves a password."""
    with kept_in_memory(_as_file(arguments)) as descriptor:
        yield Path(f"/proc/{os.getpid()}/fd/{descriptor}")


def _as_file(arguments: Sequence[str]) -> str:
    return "".join(f'"{_escaped(one)}"\n' for one in arguments)


def _escaped(argument: str) -> str:
    return argument.replace("\\", "\\\\").replace('"', '\\"')
