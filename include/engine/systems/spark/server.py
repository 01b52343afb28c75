"""A real Spark in a sandbox: a standalone cluster of masters and workers on loopback, throw-away.

::

    spark = SparkCluster(sandbox, "main").start()          # 8 s; what runs already is reused
    connection = spark.connection()                        # the masters' REST interfaces and pages
    spark.workers[0].kill()
    spark.stop()

With two masters, a ZooKeeper beside them says who leads; it comes with Spark's own jars.

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
from include.engine.sandbox.ports import LOOPBACK, is_free
from include.engine.sandbox.process import ServerProcess, ServerSpec
from include.engine.systems.spark.distribution import Installation

_HEAP = "256m"


class Master:
    """One master: its process and its ports."""

    def __init__(self, sandbox: Sandbox, name: str) -> None:
        self.name = name
        self.process = sandbox.server(name, account=ourselves())
        self.port = sandbox.port(name)
        self.rest_port = sandbox.port(f"{name}-rest")
        self.page_port = sandbox.port(f"{name}-page")

    @property
    def ports(self) -> dict[str, int]:
        """By what they are reserved as."""
        return {self.name: self.port, f"{self.name}-rest": self.rest_port, f"{self.name}-page": self.page_port}

    @property
    def page(self) -> str:
        """Its page."""
        return f"http://{LOOPBACK}:{self.page_port}"

    def state(self) -> dict[str, Any] | None:
        """Give what its page tells; None when it does not answer."""
        try:
            with urllib.request.urlopen(f"http://{LOOPBACK}:{self.page_port}/json/", timeout=5) as answer:
                found: dict[str, Any] = json.load(answer)
        except (OSError, ValueError, urllib.error.URLError):
            return None
        return found


class SparkCluster:
    """A standalone cluster, started or not.

    Whoever constructs it again with the same sandbox and name, in this process or a later one, has the same cluster.

    :param name: unique among the sandbox's Spark clusters
    :param masters: how many; all but one stand by
    :param workers: how many
    :param cores: of each worker; a driver takes one
    :param memory: of each worker, in MiB
    """

    def __init__(
        self,
        sandbox: Sandbox,
        name: str = "main",
        *,
        masters: int = 1,
        workers: int = 1,
        cores: int = 4,
        memory: int = 3072,
    ) -> None:
        self.sandbox = sandbox
        self.label = f"spark-{name}"
        self.cores = cores
        self.memory = memory
        self.masters = [Master(sandbox, self.label if n == 1 else f"{self.label}-{n}") for n in range(1, masters + 1)]
        self.workers = [
            sandbox.server(f"{self.label}-worker-{number}", account=ourselves()) for number in range(1, workers + 1)
        ]

    @cached_property
    def installation(self) -> Installation:
        """Spark and the job's jars, fetched when they are not there."""
        return Installation.on(Shelf.of(self.sandbox.home))

    @property
    def master(self) -> ServerProcess:
        """The first master's process."""
        return self.masters[0].process

    @property
    def url(self) -> str:
        """What workers and applications are told."""
        return "spark://" + ",".join(f"{LOOPBACK}:{master.port}" for master in self.masters)

    @property
    def running(self) -> bool:
        """Whether all masters and all workers run now."""
        return all(one.process.running for one in self.masters) and all(worker.running for worker in self.workers)

    def connection(self) -> Connection:
        """How Mainstay reaches it."""
        extra = {
            "master": self.url,
            "page": ",".join(master.page for master in self.masters),
            "project": str(Path(__file__).resolve().parents[4]),
        }
        hosts = ",".join(f"{LOOPBACK}:{master.rest_port}" for master in self.masters)
        return Connection(host=hosts, port=self.masters[0].rest_port, extra=extra)

    def start(self, *, timeout: float = 90.0) -> Self:
        """Start what does not run, and wait until the master that leads has all workers.

        :raises Contended: somebody else holds a port
        :raises Unreachable: a process ended or did not answer in time; the hint shows its log
        """
        if len(self.masters) > 1:
            self._keeper.start(self._keeping)
            self._keeper.wait_ready(lambda: not is_free(self.sandbox.port(self._keeper.name)), timeout=timeout)
        for master in self.masters:
            master.process.start(lambda one=master: self._master(one))  # type: ignore[misc]
        self.master.wait_ready(lambda: bool(self.state()), timeout=timeout)
        for worker in self.workers:
            worker.start(lambda name=worker.name: self._worker(name))  # type: ignore[misc]
        self.master.wait_ready(self._complete, timeout=timeout)
        return self

    def stop(self) -> None:
        """Stop all, workers first; what runs on them ends with them."""
        for worker in self.workers:
            worker.stop()
        for master in self.masters:
            master.process.stop()
        if len(self.masters) > 1:
            self._keeper.stop()

    def leader(self) -> Master:
        """Give the master that leads.

        :raises Unreachable: none does
        """
        for master in self.masters:
            if (master.state() or {}).get("status") == "ALIVE":
                return master
        raise Unreachable("no Spark master leads", hint=f"see {self.master.log}")

    def state(self) -> dict[str, Any]:
        """Give what the page of the master that leads tells.

        :raises Unreachable: none does
        """
        return self.leader().state() or {}

    def _complete(self) -> bool:
        alive = [worker for worker in self.state()["workers"] if worker["state"] == "ALIVE"]
        return len(alive) >= len(self.workers)

    @property
    def _keeper(self) -> ServerProcess:
        return self.sandbox.server(f"{self.label}-keeper", account=ourselves())

    def _keeping(self) -> ServerSpec:
        directory = self.sandbox.directory(self._keeper.name, account=ourselves())
        port = self.sandbox.port(self._keeper.name)
        told = {
            "dataDir": directory / "data",
            "clientPort": port,
            "clientPortAddress": LOOPBACK,
            "tickTime": 1000,
            "admin.enableServer": "false",
        }
        settings = directory / "zoo.cfg"
        settings.write_text("".join(f"{key}={value}\n" for key, value in told.items()))
        return ServerSpec(
            command=[
                self.installation.home / "bin" / "spark-class",
                "org.apache.zookeeper.server.ZooKeeperServerMain",
                settings,
            ],
            directory=directory,
            environment={**self.installation.environment(), "SPARK_DRIVER_MEMORY": _HEAP},
            ports={self._keeper.name: port},
        )

    def _master(self, master: Master) -> ServerSpec:
        directory = self.sandbox.directory(master.name, account=ourselves())
        # From its files, passwords of jobs among them, a master that died knows its workers and drivers again.
        recovery = {"recoveryMode": "FILESYSTEM", "recoveryDirectory": str(directory / "recovery")}
        if len(self.masters) > 1:
            keeper = f"{LOOPBACK}:{self.sandbox.port(self._keeper.name)}"
            recovery = {"recoveryMode": "ZOOKEEPER", "zookeeper.url": keeper, "zookeeper.dir": f"/{self.label}"}
        options = {
            "master.rest.enabled": "true",
            "master.rest.port": str(master.rest_port),
            "master.rest.host": LOOPBACK,
            **{f"deploy.{key}": value for key, value in recovery.items()},
        }
        return ServerSpec(
            command=[
                *(self.installation.home / "bin" / "spark-class", "org.apache.spark.deploy.master.Master"),
                *("--host", LOOPBACK, "--port", str(master.port), "--webui-port", str(master.page_port)),
            ],
            directory=directory,
            environment={
                **self.installation.environment(),
                "SPARK_DAEMON_MEMORY": _HEAP,
                "SPARK_DAEMON_JAVA_OPTS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
                "SPARK_MASTER_OPTS": " ".join(f"-Dspark.{key}={value}" for key, value in options.items()),
            },
            ports=master.ports,
        )

    def _worker(self, name: str) -> ServerSpec:
        directory = self.sandbox.directory(name, account=ourselves())
        return ServerSpec(
            command=[
                *(self.installation.home / "bin" / "spark-class", "org.apache.spark.deploy.worker.Worker"),
                *("--host", LOOPBACK, "--cores", str(self.cores), "--memory", f"{self.memory}m", "--webui-port", "0"),
                *("--work-dir", directory / "work", self.url),
            ],
            directory=directory,
            environment={
                **self.installation.environment(),
                "SPARK_DAEMON_MEMORY": _HEAP,
                "SPARK_DAEMON_JAVA_OPTS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
            },
        )
