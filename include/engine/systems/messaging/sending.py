"""Sends messages: mail by SMTP, chat by a webhook, incidents by an events API.  Their addresses are secrets."""

from __future__ import annotations

import json
import smtplib
import ssl
from collections.abc import Mapping, Sequence
from email.message import EmailMessage
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from include.engine.contracts import Connection
from include.engine.errors import Misconfigured, Unauthorized, Unreachable
from include.engine.watching import NotifySection

_EVENTS = "https://events.pagerduty.com/v2/enqueue"
_SUBMISSION, _TLS_FROM_THE_START = 587, 465


def send_mail(section: NotifySection, connection: Connection, subject: str, body: str, *, timeout: float) -> None:
    """Send one mail.  TLS from the start on port 465, and STARTTLS wherever the server offers it.

    :raises Misconfigured: when nobody is to get it
    :raises Unauthorized: when the server refuses the login
    :raises Unreachable: when it does not take the mail
    """
    if not section.to:
        raise Misconfigured("nobody is named to get the mail", hint="name them in notify.<name>.to of the inventory")
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = section.sender, ", ".join(section.to), subject
    message.set_content(body)
    port = connection.port or _SUBMISSION
    trust = ssl.create_default_context(cafile=connection.extra.get("ca_file") or None)
    try:
        client = (
            smtplib.SMTP_SSL(connection.host, port, timeout=timeout, context=trust)
            if port == _TLS_FROM_THE_START
            else smtplib.SMTP(connection.host, port, timeout=timeout)
        )
        with client:
            client.ehlo()
            if port != _TLS_FROM_THE_START and client.has_extn("starttls"):
                client.starttls(context=trust)
            if connection.login:
                client.login(connection.login, connection.password)
            client.send_message(message)
    except smtplib.SMTPAuthenticationError as error:
        raise Unauthorized(
            f"the mail server {connection.host} refuses the login", hint="check its connection"
        ) from error
    except (OSError, smtplib.SMTPException) as error:
        raise Unreachable(
            f"the mail server {connection.host}:{port} did not take the mail: {type(error).__name__}: {error}",
            hint="check its connection; the next sweep tries again",
        ) from error


def send_slack(connection: Connection, message: Mapping[str, Any], *, timeout: float) -> None:
    """Post one message to a webhook; its URL is the connection's password, since whoever has it may post.

    :raises Unreachable: when it was not taken
    """
    if not connection.password.startswith(("https://", "http://")):
        raise Misconfigured("the webhook has no URL", hint="put the webhook's URL into the password of its connection")
    _post(connection.password, message, what="the webhook", timeout=timeout)


def send_events(connection: Connection, events: Sequence[Mapping[str, Any]], *, timeout: float) -> None:
    """Send events, one request each.

    :raises Unreachable: when one was not taken
    """
    url = connection.host if "://" in connection.host else _EVENTS
    for event in events:
        _post(url, event, what="the events API", timeout=timeout)


def _post(url: str, document: Mapping[str, Any], *, what: str, timeout: float) -> None:
    request = Request(  # noqa: S310 - the operator's own URL
        url, data=json.dumps(document).encode(), headers={"Content-Type": "application/json"}, method="POST"
    )
    try:
        with urlopen(request, timeout=timeout) as response:  # noqa: S310
            response.read()
    except HTTPError as error:
        raise Unreachable(
            f"{what} answered {error.code}", hint="check its connection; the next sweep tries again"
        ) from None
    except (URLError, OSError, ValueError) as error:
        reason = type(getattr(error, "reason", error)).__name__
        # Without the client's words: they may quote the URL, which is the secret.
        raise Unreachable(
            f"{what} did not answer: {reason}", hint="check its connection; the next sweep tries again"
        ) from None
