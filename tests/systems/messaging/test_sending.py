"""Mail, chat and incidents, against receivers that really receive: what arrives, and what happens when they refuse."""

from __future__ import annotations

import json
import smtplib
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import msgspec
import pytest

from include.engine.contracts import Connection
from include.engine.errors import Misconfigured, Unauthorized, Unreachable
from include.engine.health import messages
from include.engine.health.findings import Change
from include.engine.systems.messaging import sending
from include.engine.watching import NotifySection
from tests.health.making import Life
from tests.systems.http.serving import certificate, serving

RUNBOOK = "http://airflow/mainstay/runbooks/"


class Mailbox(socketserver.ThreadingTCPServer):
    """A mail server: enough of RFC 5321 for one that sends."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, *, refuse: str = "", certificate: Path | None = None, from_the_start: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), Talk)
        self.refuse = refuse
        self.mails: list[bytes] = []
        self.sealed: list[bool] = []  # whether the words of each mail's sender could be read by others
        self.tls: ssl.SSLContext | None = None
        if certificate is not None:
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls.load_cert_chain(certificate)
            if from_the_start:
                self.socket = self.tls.wrap_socket(self.socket, server_side=True)

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class Talk(socketserver.StreamRequestHandler):
    server: Mailbox

    def handle(self) -> None:
        self._say("220 here")
        while line := self.rfile.readline():
            word = line.split(b" ")[0].strip().upper().decode()
            if word == "QUIT":
                self._say("221 bye")
                return
            if word == self.server.refuse:
                self._say("535 no")
            elif word == "EHLO":
                offers = "" if self.server.tls is None or self._sealed else "\r\n250-STARTTLS"
                self._say(f"250-here{offers}\r\n250 AUTH PLAIN")
            elif word == "STARTTLS" and self.server.tls is not None:
                self._say("220 go on")
                self.request = self.server.tls.wrap_socket(self.request, server_side=True)
                self.rfile, self.wfile = self.request.makefile("rb"), self.request.makefile("wb", 0)
            elif word == "AUTH":
                self._say("235 welcome")
            elif word == "DATA":
                self._say("354 go on")
                self.server.sealed.append(self._sealed)
                self.server.mails.append(b"".join(iter(self.rfile.readline, b".\r\n")))
                self._say("250 taken")
            else:
                self._say("250 well")

    @property
    def _sealed(self) -> bool:
        return isinstance(self.request, ssl.SSLSocket)

    def _say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


@contextmanager
def mailbox(**options: Any) -> Iterator[Mailbox]:
    with Mailbox(**options) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield server
        server.shutdown()


def section(kind: str, **more: Any) -> NotifySection:
    return NotifySection.model_validate({"kind": kind, "connection": "x", "to": ["ops@example.org"], **more})


def changes() -> list[Change]:
    """A finding that opens, and one that closes."""
    life = Life()
    opened = life.load(10)
    life.load(1)
    life.load(1)
    closed = life.load(1)
    return [*opened.changes, *closed.changes]


def texts(found: list[Change]) -> list[str]:
    rule = Life().rules.rules["load"]
    return [messages.text(one, rule, lambda slug: RUNBOOK + slug, pipeline="shop") for one in found]


def test_the_message_says_what_since_when_how_bad_what_to_do_and_where_to_look() -> None:
    (opened, closed) = texts(changes())
    assert opened == (
        "NEW critical box/one load: 10 (limit 9)\n"
        "what:     too much is asked of it\n"
        "where:    shop, box/one\n"
        "since:    2026-11-23 02:00:00Z\n"
        "how bad:  page; the worst was 10\n"
        "do:       ask less of it, or give it more\n"
        "costs:    nothing\n"
        f"runbook:  {RUNBOOK}system-down"
    )
    assert closed.startswith("OVER")
    assert "do:" not in closed


def test_a_mail_arrives_with_all_changes_in_it() -> None:
    found = changes()
    subject, body = messages.mail(found, texts(found), pipeline="shop")
    with mailbox() as server:
        known = Connection(host="127.0.0.1", port=server.server_address[1], login="mainstay", password="s3cr3t")
        sending.send_mail(section("smtp"), known, subject, body, timeout=10)
        (raw,) = server.mails
    mail = message_from_bytes(raw, policy=policy.default)
    assert mail["To"] == "ops@example.org"
    assert mail["Subject"] == "[shop] NEW critical box/one load: 10 (limit 9) and 1 more"
    assert "OVER critical box/one load" in mail.get_content()


@pytest.mark.parametrize("from_the_start", [True, False], ids=["TLS", "STARTTLS"])
def test_a_mail_goes_sealed_to_a_server_that_can_and_whose_certificate_is_known(
    from_the_start: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = certificate(tmp_path / "mail.pem", days=9)
    with mailbox(certificate=shown, from_the_start=from_the_start) as server:
        if from_the_start:
            monkeypatch.setattr(sending, "_TLS_FROM_THE_START", server.port)  # the real one is root's
        known = Connection(host="127.0.0.1", port=server.port, login="mainstay", password="s3cr3t")
        trusting = msgspec.structs.replace(known, extra={"ca_file": str(shown)})
        sending.send_mail(section("smtp"), trusting, "s", "b", timeout=10)
        assert server.sealed == [True]
        with pytest.raises(Unreachable, match="certificate verify failed"):
            sending.send_mail(section("smtp"), known, "s", "b", timeout=10)
    assert len(server.mails) == 1


def test_a_mail_server_that_refuses_the_login_is_named_without_the_password() -> None:
    with mailbox(refuse="AUTH") as server:
        known = Connection(host="127.0.0.1", port=server.server_address[1], login="mainstay", password="s3cr3t-one")
        with pytest.raises(Unauthorized) as caught:
            sending.send_mail(section("smtp"), known, "s", "b", timeout=10)
    assert "s3cr3t" not in str(caught.value)
    assert isinstance(caught.value.__cause__, smtplib.SMTPAuthenticationError)


def test_a_mail_that_is_not_taken_is_told() -> None:
    with mailbox(refuse="DATA") as server:
        known = Connection(host="127.0.0.1", port=server.server_address[1])
        with pytest.raises(Unreachable, match="did not take the mail"):
            sending.send_mail(section("smtp"), known, "s", "b", timeout=10)
    with pytest.raises(Misconfigured, match="nobody is named"):
        sending.send_mail(section("smtp", to=[]), Connection(host="127.0.0.1", port=1), "s", "b", timeout=1)


def test_a_webhook_gets_text_in_which_nothing_is_a_mention() -> None:
    with serving() as server:
        known = Connection(password=f"http://127.0.0.1:{server.port}/services/T0/B0/secret")
        sending.send_slack(known, messages.slack(["<!channel> & <http://x|y>"]), timeout=10)
        (path, headers, body) = server.seen[-1]
    assert path == "/services/T0/B0/secret"
    assert headers["Content-Type"] == "application/json"
    assert json.loads(body) == {"text": "```&lt;!channel&gt; &amp; &lt;http://x|y&gt;```"}


def test_a_webhook_that_fails_is_told_without_its_address() -> None:
    with serving() as server:
        server.status = 500
        known = Connection(password=f"http://127.0.0.1:{server.port}/services/T0/secret")
        with pytest.raises(Unreachable, match="answered 500") as caught:
            sending.send_slack(known, {"text": "x"}, timeout=10)
        assert "T0" not in str(caught.value)
    with pytest.raises(Unreachable, match="did not answer") as gone:
        sending.send_slack(Connection(password="http://127.0.0.1:1/services/T0/secret"), {"text": "x"}, timeout=2)
    assert "T0" not in str(gone.value)


def test_an_incident_opens_and_is_resolved_under_the_same_key() -> None:
    found = changes()
    with serving() as server:
        known = Connection(host=f"http://127.0.0.1:{server.port}/v2/enqueue", password="routing-key")
        events = [
            messages.pagerduty(one, full, lambda slug: RUNBOOK + slug, key=known.password, pipeline="shop")
            for one, full in zip(found, texts(found), strict=True)
        ]
        sending.send_events(known, events, timeout=10)
        opened, closed = (json.loads(body) for _, _, body in server.seen)
    assert (opened["event_action"], closed["event_action"]) == ("trigger", "resolve")
    assert opened["dedup_key"] == closed["dedup_key"] == "mainstay|shop|load|box/one|"
    assert opened["payload"]["severity"] == "critical"
    assert opened["links"] == [{"href": RUNBOOK + "system-down", "text": "runbook"}]
    assert "payload" not in closed


def test_incidents_with_long_names_and_those_of_two_pipelines_are_told_apart() -> None:
    def keys(pipeline: str, *labels: str) -> set[str]:
        change = changes()[0]
        found = [
            msgspec.structs.replace(change, finding=msgspec.structs.replace(change.finding, key=f"gap|{label}"))
            for label in labels
        ]
        told = [messages.pagerduty(one, "", lambda slug: slug, key="k", pipeline=pipeline) for one in found]
        return {one["dedup_key"] for one in told}

    long = keys("shop", *(f"{'topic ' * 60}{number}" for number in range(3)))
    assert len(long) == 3
    assert max(map(len, long)) <= 255
    assert not keys("shop", "a") & keys("bank", "a")


@pytest.mark.parametrize(
    ("filters", "told"),
    [
        ({}, 2),
        ({"severities": ["page"]}, 2),
        ({"severities": ["this-week"]}, 0),
        ({"teams": ["ops"]}, 2),
        ({"teams": ["other"]}, 0),
    ],
)
def test_who_is_told_goes_by_severity_and_team(filters: dict[str, Any], told: int) -> None:
    numbered = dict(enumerate(changes()))
    assert len(messages.for_whom(section("smtp", **filters), numbered)) == told
