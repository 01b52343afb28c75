"""Pods and secrets of one namespace, through ``CoreV1Api``: what is asked, and what its errors mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from msgspec import Struct

from include.engine.errors import PermanentError, Unauthorized, Unreachable

JOB, LAUNCH = "mainstay-job", "mainstay-launch"  # labels
_TIMEOUT = 20  # seconds
_ABSENT, _THERE = 404, 409

Result = TypeVar("Result")


class Pod(Struct, frozen=True, kw_only=True):
    """A pod as the API shows it.

    :param reason: what its container waits for; empty when it waits for nothing
    """

    name: str
    uid: str
    phase: str
    reason: str = ""


class Pods:
    """The pods and secrets of a namespace.

    Every method raises ``Unreachable`` when the API does not answer, and ``Unauthorized`` when it refuses.

    :param core: a ``CoreV1Api``
    """

    def __init__(self, core: Any, namespace: str) -> None:
        self._core = core
        self.namespace = namespace

    def read(self, name: str) -> Pod | None:
        """Give a pod; None when there is none of that name."""
        found = self._asked(lambda: self._core.read_namespaced_pod(name, self.namespace, _request_timeout=_TIMEOUT))
        return None if found is None else _seen(found)

    def of(self, launch: str) -> list[Pod]:
        """Give the driver and the executors of a launch."""
        found = self._asked(
            lambda: self._core.list_namespaced_pod(
                self.namespace, label_selector=f"{LAUNCH}={launch}", _request_timeout=_TIMEOUT
            )
        )
        return [_seen(pod) for pod in found.items] if found else []

    def delete(self, name: str, *, grace: int) -> None:
        """Ask for the end of a pod; nothing happens when it is not there.

        :param grace: seconds until it is killed
        """
        self._asked(
            lambda: self._core.delete_namespaced_pod(
                name, self.namespace, grace_period_seconds=grace, _request_timeout=_TIMEOUT
            )
        )

    def tail(self, name: str, lines: int) -> str:
        """Give the last lines of a pod's log."""
        found = self._asked(
            lambda: self._core.read_namespaced_pod_log(
                name, self.namespace, tail_lines=lines, _request_timeout=_TIMEOUT
            )
        )
        return str(found or "")

    def keep_secret(self, name: str, values: Mapping[str, str], labels: Mapping[str, str]) -> None:
        """Store *values*; one of the same name is replaced."""
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "Opaque",
            "metadata": {"name": name, "labels": dict(labels)},
            "stringData": dict(values),
        }
        self.drop_secret(name)
        self._asked(lambda: self._core.create_namespaced_secret(self.namespace, body, _request_timeout=_TIMEOUT))

    def give_secret(self, name: str, pod: Pod) -> None:
        """Make a secret go when *pod* goes."""
        owner = {"apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": pod.uid}
        body = {"metadata": {"ownerReferences": [owner]}}
        self._asked(lambda: self._core.patch_namespaced_secret(name, self.namespace, body, _request_timeout=_TIMEOUT))

    def drop_secret(self, name: str) -> None:
        """Delete a secret; nothing happens when it is not there."""
        self._asked(lambda: self._core.delete_namespaced_secret(name, self.namespace, _request_timeout=_TIMEOUT))

    def _asked(self, ask: Callable[[], Result]) -> Result | None:
        """Give the answer; None when what was asked about is not there."""
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            return ask()
        except ApiException as error:
            # Its text holds the request's headers and body: neither is told.
            if error.status == _ABSENT:
                return None
            if error.status in (401, 403):
                raise Unauthorized(
                    f"Kubernetes refuses what is asked of the namespace {self.namespace}: {error.reason}",
                    hint="give the connection's account the role of docs/stream.md",
                ) from None
            if error.status and 400 <= error.status < 500 and error.status not in (_THERE, 429):
                raise PermanentError(
                    f"Kubernetes does not understand: {error.status} {error.reason}", hint="see its audit log"
                ) from None
            raise Unreachable(f"Kubernetes answers {error.status} {error.reason}", hint="look again") from None
        except (HTTPError, OSError) as error:
            raise Unreachable(f"Kubernetes does not answer: {type(error).__name__}", hint="check its API") from error


def _seen(pod: Any) -> Pod:
    statuses = (pod.status and pod.status.container_statuses) or []
    waits = [one.state.waiting for one in statuses if one.state and one.state.waiting]
    reason = "; ".join(f"{one.reason}: {one.message or ''}".rstrip(": ") for one in waits)
    return Pod(name=pod.metadata.name, uid=pod.metadata.uid or "", phase=pod.status.phase or "Unknown", reason=reason)
