"""A real Spark in a sandbox: a standalone cluster of one master and its workers on loopback, throw-away.

::

    spark = SparkCluster(sandbox, "main").start()          # 8 s; what runs already is reused
    connection = spark.connection()                        # the master's REST interface and page
    spark.workers[0].kill()
    spark.stop()

In local mode there is no server: the driver is all there is (``engines/local.py``).  Both run as ourselves: Spark is 500 MiB,
and the servers' account needs no copy of it.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from include.engine.contracts import Connection
from include.engine.errors import Unreachable
from include.engine.sandbox.accounts import ourselves
from include.engine.sandbox.distributions import Shelf
from include.engine.sandbox.home import Sandbox
from include.engine.sandbox.ports import LOOPBACK
from include.engine.sandbox.process import ServerProcess, ServerSpec
from include.engine.systems.spark.distribution import Installation

_HEAP = "256m"


class SparkCluster:
    """A standalone cluster, started or not.

    Whoever constructs it again with the same sandbox and name, in this process or a later one, has the same cluster.

    :param name: unique among the sandbox's Spark clusters
    :param workers: how many
    :param cores: of each worker; a driver takes one
    :param memory: of each worker, in MiB
    """

    def __init__(
        self, sandbox: Sandbox, name: str = "main", *, workers: int = 1, cores: int = 4, memory: int = 3072
    ) -> None:
        self.sandbox = sandbox
        self.label = f"spark-{name}"
        self.cores = cores
        self.memory = memory
        self.port = sandbox.port(self.label)
        self.rest_port = sandbox.port(f"{self.label}-rest")
        self.page_port = sandbox.port(f"{self.label}-page")
        self.workers = [
            sandbox.server(f"{self.label}-worker-{number}", account=ourselves()) for number in range(1, workers + 1)
        ]

    @cached_property
    def installation(self) -> Installation:
        """Spark and the job's jars, fetched when they are not there."""
        return Installation.on(Shelf.of(self.sandbox.home))

    @property
    def master(self) -> ServerProcess:
        """The master's process."""
        return self.sandbox.server(self.label, account=ourselves())

    @property
    def running(self) -> bool:
        """Whether the master and all workers run now."""
        return self.master.running and all(worker.running for worker in self.workers)

    def connection(self) -> Connection:
        """How Mainstay reaches it."""
        extra = {
            "master": f"spark://{LOOPBACK}:{self.port}",
            "page": f"http://{LOOPBACK}:{self.page_port}",
            "project": str(Path(__file__).resolve().parents[4]),
        }
        return Connection(host=LOOPBACK, port=self.rest_port, extra=extra)

    def start(self, *, timeout: float = 90.0) -> Self:
        """Start what does not run, and wait until the master has all workers.

        :raises Contended: somebody else holds a port
        :raises Unreachable: a process ended or did not answer in time; the hint shows its log
        """
        self.master.start(self._master)
        self.master.wait_ready(lambda: bool(self.state()), timeout=timeout)
        for worker in self.workers:
            worker.start(lambda name=worker.name: self._worker(name))  # type: ignore[misc]
        self.master.wait_ready(self._complete, timeout=timeout)
        return self

    def stop(self) -> None:
        """Stop all, workers first; what runs on them ends with them."""
        for worker in self.workers:
            worker.stop()
        self.master.stop()

    def state(self) -> dict[str, Any]:
        """Give what the master's page tells.

        :raises Unreachable: it does not answer
        """
        try:
            with urllib.request.urlopen(f"http://{LOOPBACK}:{self.page_port}/json/", timeout=5) as answer:
                found: dict[str, Any] = json.load(answer)
        except (OSError, ValueError, urllib.error.URLError) as error:
            raise Unreachable("the Spark master does not answer", hint=f"see {self.master.log}") from error
        return found

    def _complete(self) -> bool:
        alive = [worker for worker in self.state()["workers"] if worker["state"] == "ALIVE"]
        return len(alive) >= len(self.workers)

    def _master(self) -> ServerSpec:
        directory = self.sandbox.directory(self.label, account=ourselves())
        # From its files, passwords of jobs among them, a master that died knows its workers and drivers again.
        options = {
            "master.rest.enabled": "true",
            "master.rest.port": str(self.rest_port),
            "master.rest.host": LOOPBACK,
            "deploy.recoveryMode": "FILESYSTEM",
            "deploy.recoveryDirectory": str(directory / "recovery"),
        }
        return ServerSpec(
            command=[
                *(self.installation.home / "bin" / "spark-class", "org.apache.spark.deploy.master.Master"),
                *("--host", LOOPBACK, "--port", str(self.port), "--webui-port", str(self.page_port)),
            ],
            directory=directory,
            environment={
                **self.installation.environment(),
                "SPARK_DAEMON_MEMORY": _HEAP,
                "SPARK_DAEMON_JAVA_OPTS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
                "SPARK_MASTER_OPTS": " ".join(f"-Dspark.{key}={value}" for key, value in options.items()),
            },
            ports={self.label: self.port, f"{self.label}-rest": self.rest_port, f"{self.label}-page": self.page_port},
        )

    def _worker(self, name: str) -> ServerSpec:
        directory = self.sandbox.directory(name, account=ourselves())
        return ServerSpec(
            command=[
                *(self.installation.home / "bin" / "spark-class", "org.apache.spark.deploy.worker.Worker"),
                *("--host", LOOPBACK, "--cores", str(self.cores), "--memory", f"{self.memory}m", "--webui-port", "0"),
                *("--work-dir", directory / "work", f"spark://{LOOPBACK}:{self.port}"),
            ],
            directory=directory,
            environment={
                **self.installation.environment(),
                "SPARK_DAEMON_MEMORY": _HEAP,
                "SPARK_DAEMON_JAVA_OPTS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
            },
        )
