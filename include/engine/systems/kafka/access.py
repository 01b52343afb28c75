"""How the two clients log in, from one connection: librdkafka's names are what Airflow's Kafka connection holds too."""

from __future__ import annotations

import ssl
from typing import Any

from include.engine.contracts import Connection
from include.engine.errors import Misconfigured

_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_KNOWN = {
    "bootstrap.servers",
    "security.protocol",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.username",
    "sasl.password",
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.key.location",
    "ssl.key.password",
    "ssl.endpoint.identification.algorithm",
}


def librdkafka_settings(connection: Connection) -> dict[str, str]:
    """Give the settings with which librdkafka connects: the extras, completed by host, login and password.

    Extras that say how a client behaves (``auto.offset.reset``, ``group.id``) are left out: that is ours to decide.

    :raises Misconfigured: when the connection names no server, or a protocol that there is not
    """
    extra = {key: value for key, value in connection.extra.items() if key in _KNOWN}
    settings = {**extra, "bootstrap.servers": extra.get("bootstrap.servers") or _hosts(connection)}
    if "sasl.mechanisms" in settings:
        settings["sasl.mechanism"] = settings.pop("sasl.mechanisms")
    if connection.login:
        settings.setdefault("sasl.username", connection.login)
        settings.setdefault("sasl.password", connection.password)
        settings.setdefault("security.protocol", "SASL_SSL")
    protocol = settings.setdefault("security.protocol", "PLAINTEXT").upper()
    if protocol.startswith("SASL"):
        settings.setdefault("sasl.mechanism", "SCRAM-SHA-512")  # else each client has a default of its own
    if protocol not in _PROTOCOLS:
        raise Misconfigured(
            f"{protocol!r} is not a protocol of Kafka", hint=f"security.protocol is one of {', '.join(_PROTOCOLS)}"
        )
    return settings


def kafka_python_settings(connection: Connection) -> dict[str, Any]:
    """Give the settings with which kafka-python connects.

    :raises Misconfigured: when a certificate or key cannot be read
    """
    plain = librdkafka_settings(connection)
    settings: dict[str, Any] = {
        "bootstrap_servers": plain["bootstrap.servers"].split(","),
        "security_protocol": plain["security.protocol"].upper(),
        "client_id": "mainstay",
    }
    if settings["security_protocol"].startswith("SASL"):
        settings |= {
            "sasl_mechanism": plain.get("sasl.mechanism", "SCRAM-SHA-512"),
            "sasl_plain_username": plain.get("sasl.username", ""),
            "sasl_plain_password": plain.get("sasl.password", ""),
        }
    if settings["security_protocol"].endswith("SSL"):
        settings["ssl_context"] = _ssl_context(plain)
    return settings


def _ssl_context(plain: dict[str, str]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=plain.get("ssl.ca.location"))
        if plain.get("ssl.endpoint.identification.algorithm", "https").lower() in ("", "none"):
            context.check_hostname = False
        if certificate := plain.get("ssl.certificate.location"):
            context.load_cert_chain(certificate, plain.get("ssl.key.location"), plain.get("ssl.key.password"))
    except (OSError, ssl.SSLError) as error:
        raise Misconfigured(
            f"the TLS files of the Kafka connection cannot be read: {error}",
            hint="check ssl.ca.location, ssl.certificate.location and ssl.key.location in the connection's extras",
        ) from error
    return context


def _hosts(connection: Connection) -> str:
    if not connection.host:
        raise Misconfigured(
            "the Kafka connection names no server", hint='give host and port, or {"bootstrap.servers": "a:9092,b:9092"}'
        )
    hosts = connection.host.split(",")
    port = connection.port or 9092
    return ",".join(host if ":" in host else f"{host}:{port}" for host in hosts)
