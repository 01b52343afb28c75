"""Java programs from Maven Central: the jars of one coordinate and all that it needs, each pinned and checked by Maven.

::

    lib = Shelf.of(home).obtain(MavenJars("cassandra", "5.0.9", ["org.apache.cassandra:cassandra-all:5.0.9"]))
    java -cp "lib/*" org.apache.cassandra.service.CassandraDaemon
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from include.engine.errors import NotFound, Unreachable

_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
_TIMEOUT = 900.0


@dataclass(frozen=True)
class MavenJars:
    """A set of jars, resolved by Maven from a POM that we write.

    :param coordinates: ``group:artifact:version``; what they need comes along
    :param alone: ``group:artifact:version[:classifier]``; taken without what they need, because they bundle it
    """

    name: str
    version: str
    coordinates: Sequence[str]
    alone: Sequence[str] = ()
    slow: str = "half a minute the first time"

    @staticmethod
    def possible() -> bool:
        """Whether there is a Maven and a Java that can fetch and run them."""
        return shutil.which("mvn") is not None and shutil.which("java") is not None

    def install(self, into: Path) -> None:
        """Copy all jars into *into*.

        :raises NotFound: there is no Maven
        :raises Unreachable: the registry did not answer, or a checksum differed
        """
        maven = shutil.which("mvn")
        if maven is None:
            raise NotFound(f"{self.name} comes from Maven Central, and there is no mvn", hint="Install maven")
        with tempfile.TemporaryDirectory(dir=into.parent) as scratch:
            Path(scratch, "pom.xml").write_text(self.pom())
            # -C: a jar whose checksum differs from the registry's is an error, not a warning.
            command = [maven, "-B", "-q", "-C", "-f", f"{scratch}/pom.xml", _PLUGIN, f"-DoutputDirectory={into}"]
            try:
                done = subprocess.run(
                    [*command, "-DincludeScope=runtime"],
                    capture_output=True,
                    text=True,
                    timeout=_TIMEOUT,
                    check=False,
                    stdin=subprocess.DEVNULL,
                )
            except subprocess.TimeoutExpired as error:
                raise Unreachable(
                    f"Maven did not fetch {self.name} {self.version} within {_TIMEOUT:.0f} s",
                    hint="Check that Maven Central can be reached",
                ) from error
        if done.returncode != 0 or not any(into.glob("*.jar")):
            said = " ".join(line for line in done.stdout.splitlines() if "ERROR" in line)[:600]
            raise Unreachable(
                f"Maven did not fetch {self.name} {self.version}: {said or done.stderr[-600:]}",
                hint="Check that Maven Central can be reached",
            )

    def pom(self) -> str:
        """The project whose dependencies are the jars.  Pure."""
        wanted = [_dependency(one, bundled=False) for one in self.coordinates]
        wanted += [_dependency(one, bundled=True) for one in self.alone]
        return (
            '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
            f"<groupId>mainstay</groupId><artifactId>{escape(self.name)}-jars</artifactId><version>1</version>"
            f"<packaging>pom</packaging><dependencies>{''.join(wanted)}</dependencies></project>\n"
        )


def _dependency(coordinate: str, *, bundled: bool) -> str:
    group, artifact, version, *classifier = map(escape, coordinate.split(":"))
    extra = "".join(f"<classifier>{one}</classifier>" for one in classifier)
    if bundled:
        extra += "<exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions>"
    return (
        f"<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>"
        f"<version>{version}</version>{extra}</dependency>"
    )
