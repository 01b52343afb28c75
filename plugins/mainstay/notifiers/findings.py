"""Tells people what changed, each receiver once per change, by the inventory's section ``notify``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseNotifier

from include.engine.watching import NotifyKind
from mainstay.hooks.mainstay import AirflowConnections, MainstayHook
from mainstay.links import runbook
from mainstay.params import UNREMEMBERED

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.engine.health.findings import Change
    from include.engine.verbs.sweep import Watch

_PATIENCE = 20.0  # seconds that a receiver may take


class FindingsNotifier(BaseNotifier):
    """Tell one receiver what it was not told yet.

    As a callback of any task, or by the sweep's own task.  What could not be sent is told by the next sweep.

    :param receiver: its name in the inventory's section ``notify``
    """

    template_fields = ("receiver",)

    def __init__(self, *, receiver: str, context: Context | None = None) -> None:
        super().__init__(context)
        self.receiver = receiver

    def notify(self, context: Context) -> None:
        """Send.

        :raises Unreachable: when the receiver did not take it
        """
        import msgspec

        from include.engine.health import messages
        from include.engine.health.findings import Change

        watch = MainstayHook().watch()
        untold = msgspec.convert(context.get(UNREMEMBERED) or [], list[Change])
        if untold:
            theirs = messages.for_whom(MainstayHook().inventory.notify[self.receiver], dict(enumerate(untold)))
            if theirs:
                self._send(watch, list(theirs.values()))
        else:
            self.tell(watch)

    def tell(self, watch: Watch) -> int:
        """Send what the history says that the receiver was not told, and give how many changes that were."""
        from datetime import UTC, datetime

        from include.engine.health import messages

        section = MainstayHook().inventory.notify[self.receiver]
        history = watch.remembered()
        claimed = history.claim(self.receiver, datetime.now(UTC))
        theirs = messages.for_whom(section, claimed)
        try:
            if theirs:
                self._send(watch, list(theirs.values()))
        except Exception:
            history.give_back(self.receiver, list(claimed))
            raise
        history.told(self.receiver, list(claimed), datetime.now(UTC))
        return len(theirs)

    def _send(self, watch: Watch, changes: list[Change]) -> None:
        from include.engine.health import messages
        from include.engine.health.judging import BUILT_IN
        from include.engine.systems.messaging import sending

        inventory = MainstayHook().inventory
        section = inventory.notify[self.receiver]
        connection = AirflowConnections().get(section.connection)
        rules = {**BUILT_IN, **watch.book.rules}
        texts = [
            messages.text(one, rules.get(one.finding.rule), runbook, pipeline=inventory.pipeline) for one in changes
        ]
        if section.kind is NotifyKind.SMTP:
            subject, body = messages.mail(changes, texts, pipeline=inventory.pipeline)
            sending.send_mail(section, connection, subject, body, timeout=_PATIENCE)
        elif section.kind is NotifyKind.SLACK:
            sending.send_slack(connection, messages.slack(texts), timeout=_PATIENCE)
        else:
            events = [
                messages.pagerduty(one, full, runbook, key=connection.password, pipeline=inventory.pipeline)
                for one, full in zip(changes, texts, strict=True)
            ]
            sending.send_events(connection, events, timeout=_PATIENCE)
