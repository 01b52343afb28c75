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
    from include.engine.health.history import History
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
        """Send what the history says that the receiver was not told, and give how many changes that were.

        Also what the one that took over for a while has found: when it could tell nobody, the better one does not know of it.
        """
        from include.engine.errors import MainstayError

        histories = [watch.remembered()]
        try:
            aside = watch.left_behind()
        except MainstayError:
            aside = None  # the next sweep looks again
        if aside is not None and aside.where != histories[0].where:
            histories.insert(0, aside)
        return sum(self._tell_of(history, watch) for history in histories)

    def _tell_of(self, history: History, watch: Watch) -> int:
        from datetime import UTC, datetime

        from include.engine.health import messages

        section = MainstayHook().inventory.notify[self.receiver]
        claimed = history.claim(self.receiver, datetime.now(UTC))
        theirs = messages.for_whom(section, claimed)
        # Events go one by one, and a service that has had enough takes the rest later: what it took is not sent again.
        alone = section.kind is NotifyKind.PAGERDUTY
        pieces = [[number] for number in theirs] if alone else [list(theirs)] if theirs else []
        left = list(claimed)
        try:
            for piece in pieces:
                self._send(watch, [theirs[number] for number in piece])
                history.told(self.receiver, piece, datetime.now(UTC))
                left = [number for number in left if number not in piece]
        except Exception:
            history.give_back(self.receiver, left)
            raise
        history.told(self.receiver, left, datetime.now(UTC))
        return len(theirs)

    def _send(self, watch: Watch, changes: list[Change]) -> None:
        from include.engine.health import messages
        from include.engine.health.built_in import BUILT_IN
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
