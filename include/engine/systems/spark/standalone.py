"""A standalone cluster: the driver runs on a worker, submitted over the master's REST interface.

Spark's own `spark-submit --deploy-mode cluster` refuses Python there; a submission whose main class is SparkSubmit itself does
not.  What it is told has to be said twice, as properties of the driver and as arguments of the inner SparkSubmit: without the
second it would run in local mode, on one worker, and look healthy.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from include.engine.contracts import Connection
from include.engine.errors import Misconfigured, PermanentError, Unreachable
from include.engine.streaming import Life
from include.engine.systems.spark.distribution import SPARK_VERSION
from include.engine.systems.spark.submission import SCRIPT, Submission

_RUNNING = {"RUNNING"}
_STARTING = {"SUBMITTED", "RELAUNCHING"}
_GONE_WITHIN = 60.0  # seconds
_POLL = 0.5
_STANDS_BY = "Current state is not alive"  # so Spark begins the refusal of a master that does not lead
_NOBODY = "driver-0"  # asked about to find out who leads


class StandaloneEngine:
    """Runs the job on a standalone cluster.

    Of several masters one leads, and the others stand by: they say so, and know no driver and no application.

    :param connection: hosts and port of the masters' REST interfaces, hosts with commas between them, each with or without a port
        of its own; extras ``master`` (``spark://a:7077,b:7077``), ``page`` (the masters' pages, where applications are found by
        name, with commas between them), ``project`` (where the job's code is on the workers)
    """

    def __init__(self, connection: Connection) -> None:
        port = connection.port or 6066
        hosts = [host if ":" in host else f"{host}:{port}" for host in _parts(connection.host)]
        self._rests = [f"http://{host}/v1/submissions" for host in hosts]
        self._extra = connection.extra
        self._pages = [page.rstrip("/") for page in _parts(self._extra.get("page", ""))]
        if not self._extra.get("master") or not self._extra.get("page"):
            raise Misconfigured(
                "the connection to the Spark cluster names no master",
                hint='give {"master": "spark://host:7077", "page": "http://host:8080"} in its extras',
            )

    def launch(self, submission: Submission) -> str:
        """Submit it (see ``engines.Engine``)."""
        answer = self._ask("create", request(submission, self._extra["master"], self._extra.get("project", "")))
        if not answer.get("success"):
            raise PermanentError(
                f"the Spark master refused {submission.name}: {answer.get('message')}", hint="see the master's log"
            )
        return str(answer["submissionId"])

    def life(self, name: str, handle: str | None) -> Life:
        """Say whether it runs (see ``engines.Engine``)."""
        if handle is None:
            return Life.RUNNING if self._application(name) else Life.ABSENT
        state = str(self._ask(f"status/{handle}").get("driverState", ""))
        if state in _RUNNING:
            return Life.RUNNING
        return Life.STARTING if state in _STARTING else Life.ABSENT

    def end(self, name: str, handle: str | None, *, kill: bool = False) -> None:
        """Kill the driver and wait until master and workers say that it is gone (see ``engines.Engine``)."""
        del kill  # a standalone cluster knows one way
        until = time.monotonic() + _GONE_WITHIN
        if handle is not None:
            self._ask(f"kill/{handle}", {})
        while self.life(name, handle) is not Life.ABSENT or self._application(name):
            if time.monotonic() > until:
                raise Unreachable(
                    f"{name} did not end within {_GONE_WITHIN:.0f} s", hint="end its driver on its worker by hand"
                )
            time.sleep(_POLL)

    def logs(self, name: str, handle: str | None) -> str:
        """Say where the driver's output is (see ``engines.Engine``)."""
        status = self._ask(f"status/{handle}") if handle else {}
        return f"on the worker {status.get('workerHostPort', '?')}, work/{handle or name}/stderr"

    def _application(self, name: str) -> dict[str, Any] | None:
        found = self._leading([f"{page}/json/" for page in self._pages], lambda told: told.get("status") == "ALIVE")[1]
        return next((one for one in found.get("activeapps", []) if one.get("name") == name), None)

    def _ask(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask the master that leads.  What changes something is said once: an answer that is lost may have been a yes."""
        asked = f"status/{_NOBODY}" if body is not None else path
        rest, found = self._leading([f"{one}/{asked}" for one in self._rests], lambda told: _STANDS_BY not in str(told))
        return found if body is None else self._fetch(f"{rest.removesuffix(asked)}{path}", body)

    def _leading(self, urls: Sequence[str], leads: Callable[[Mapping[str, Any]], bool]) -> tuple[str, dict[str, Any]]:
        """Give the URL of the master that leads, and what it answers.

        :raises Unreachable: when none does: nothing is known then, while another one takes over
        """
        wrong = []
        for url in urls:
            try:
                found = self._fetch(url, None)
            except Unreachable as error:
                wrong.append(error.message)
                continue
            if leads(found):
                return url, found
            wrong.append(f"{url} stands by")
        raise Unreachable(f"no Spark master leads: {'; '.join(wrong)}", hint="wait for one to take over, or start one")

    def _fetch(self, url: str, body: dict[str, Any] | None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json;charset=UTF-8"}
        try:
            with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=20) as answer:  # noqa: S310
                found: dict[str, Any] = json.load(answer)
        except urllib.error.HTTPError as error:
            # The master answers questions about drivers that it has forgotten with an error and a document.
            try:
                found = json.load(error)
            except ValueError:
                raise Unreachable(f"{url} answers {error.code}", hint="check the Spark master") from error
        except (OSError, ValueError) as error:
            raise Unreachable(f"the Spark master does not answer: {error}", hint="check the master") from error
        return found


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def request(submission: Submission, master: str, project: str) -> dict[str, Any]:
    """Write the submission as the master's REST interface takes it.  Pure; passwords are in its environment only."""
    properties = dict(submission.properties) | {"spark.app.name": submission.name}
    given = {key: value for key, value in properties.items() if not key.startswith("spark.driver.")}
    flags = [part for key, value in sorted(given.items()) for part in ("--conf", f"{key}={value}")]
    arguments: Sequence[str] = ("--master", master, "--name", submission.name, *flags, f"{project}/{SCRIPT}")
    jars = properties.get("spark.jars", "").replace(",", ":")
    return {
        "action": "CreateSubmissionRequest",
        "appResource": "",
        "mainClass": "org.apache.spark.deploy.SparkSubmit",
        "clientSparkVersion": SPARK_VERSION,
        "environmentVariables": dict(submission.environment),
        "sparkProperties": properties
        | {
            "spark.master": master,
            "spark.submit.deployMode": "cluster",
            "spark.driver.cores": "1",
            "spark.driver.supervise": "false",
            "spark.driver.extraClassPath": jars,
        },
        "appArgs": list(arguments),
    }
