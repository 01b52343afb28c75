"""A probe that a rule file declares with a URL: a number in what it answers."""

from __future__ import annotations

from collections.abc import Sequence

from include.engine.contracts import Clock
from include.engine.errors import Corrupt
from include.engine.health.declared import reading_in
from include.engine.health.rules import CustomProbe
from include.engine.model import Reading
from include.engine.probing import Probe
from include.engine.systems.http.asking import ask


class UrlProbe:
    """Asks one URL (see ``probing.Probe``)."""

    def __init__(self, declared: CustomProbe) -> None:
        self.name = declared.name
        self.metrics: Sequence[str] = (declared.metric,)
        self.source = f"the URL of {declared.name}"
        self._declared = declared

    def read(self, clock: Clock, *, timeout: float) -> Sequence[Reading]:
        """Read it (see ``probing.Probe``).

        :raises Corrupt: when the answer is not 200, or holds no number
        """
        answer = ask(self._declared.url or "", timeout=timeout)
        if answer.status != 200:
            raise Corrupt(f"the probe {self.name} was answered {answer.status}", hint="check its URL")
        return [reading_in(self._declared, answer.body, clock())]


def open_declared(declared: CustomProbe) -> Probe:
    """Give the probe that a rule file declares."""
    return UrlProbe(declared)
