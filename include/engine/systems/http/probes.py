"""Reads one HTTP endpoint: whether it answers as declared, how fast, and how long its certificate lasts."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from include.engine.contracts import Clock, Connections
from include.engine.model import Reading
from include.engine.probing import Probe
from include.engine.systems.http.asking import ask
from include.engine.watching import EndpointWatch

_DAY = 86400


class EndpointProbe:
    """Asks the endpoint (see ``probing.Probe``)."""

    name = "answer"

    def __init__(self, watch: EndpointWatch, connections: Connections) -> None:
        self._watch, self._connections = watch, connections
        tls = urlsplit(watch.url).scheme == "https"
        self.source = "the answer of its URL"
        self.metrics: Sequence[str] = (
            "http.up",
            "http.status",
            "http.latency",
            *(("http.certificate.days", "http.certificate.trusted") if tls else ()),
        )

    def read(self, clock: Clock, *, timeout: float) -> Sequence[Reading]:
        """Read it (see ``probing.Probe``)."""
        watch = self._watch
        found = self._connections.get(watch.connection) if watch.connection else None
        login = (found.login, found.password) if found else None
        answer = ask(watch.url, timeout=timeout, login=login, ca=watch.ca)
        now = clock()
        well = answer.status == watch.status and (watch.body is None or watch.body in answer.body)

        def reading(metric: str, value: float, unit: str) -> Reading:
            return Reading(metric=f"http.{metric}", value=float(value), unit=unit, at=now)

        readings = [
            reading("up", well, "1"),
            reading("status", answer.status, "1"),
            reading("latency", answer.seconds, "s"),
        ]
        if answer.expires is not None:
            readings.append(reading("certificate.days", (answer.expires - now).total_seconds() / _DAY, "days"))
            readings.append(reading("certificate.trusted", bool(answer.trusted), "1"))
        return readings


def open_probes(watch: EndpointWatch, connections: Connections) -> Sequence[Probe]:
    """Give the probe of one endpoint."""
    return [EndpointProbe(watch, connections)]
