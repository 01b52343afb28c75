"""The operation of Airflow's load: one question to the API server.  Runs in the generator's processes."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from include.engine.loading.contracts import Done
from include.engine.systems.airflow.client import AirflowClient

_PRIME = 1_000_003


class Question:
    """Asks by GET, each question in a thread: the client waits for its answer.

    :param parameters: ``url``, ``username``, ``password``, ``paths`` with weights, ``connections``
    """

    def __init__(self, parameters: dict[str, Any]) -> None:
        self._client = AirflowClient(parameters["url"], parameters["username"], parameters["password"])
        self._client.bearer()  # once, before the load
        self._paths = [path for path, weight in parameters["paths"].items() for _ in range(weight)]
        self._pool = ThreadPoolExecutor(parameters["connections"], thread_name_prefix="question")
        self._answered = threading.Event()

    def submit(self, index: int, done: Done) -> None:
        """Ask one."""
        self._pool.submit(self._ask, self._paths[index * _PRIME % len(self._paths)], done)

    def poll(self, seconds: float) -> None:
        """Let the threads work."""
        self._answered.wait(seconds)
        self._answered.clear()

    def close(self) -> None:
        """Leave what is not answered."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _ask(self, path: str, done: Done) -> None:
        error = None
        try:
            self._client.get(path)
        except Exception as raised:  # noqa: BLE001 - whatever the client raises, the question was not answered
            error = f"{type(raised).__name__}: {path.partition('?')[0]}"
        done(error, path.partition("?")[0])
        self._answered.set()


def open_operation(parameters: dict[str, Any]) -> Question:
    """Give one, logged in."""
    return Question(parameters)
