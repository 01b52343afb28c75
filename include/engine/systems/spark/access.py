"""How the job and we log in to Kafka and Cassandra, from the inventory's connections.

The connection to Kafka holds librdkafka's names, as Airflow's does.  The job speaks Kafka's own client in Java, we the one in
Python: each has other names for the same things.
"""

from __future__ import annotations

from typing import Any

from include.engine.contracts import Connection
from include.engine.errors import Misconfigured

_JAAS = {
    "PLAIN": "org.apache.kafka.common.security.plain.PlainLoginModule",
    "SCRAM-SHA-256": "org.apache.kafka.common.security.scram.ScramLoginModule",
    "SCRAM-SHA-512": "org.apache.kafka.common.security.scram.ScramLoginModule",
}
DEFAULT_CASSANDRA_PORT = 9042


class _Login:
    """What a connection to Kafka says, completed."""

    def __init__(self, connection: Connection) -> None:
        extra = connection.extra
        self.servers = extra.get("bootstrap.servers") or _hosts(connection)
        self.user = extra.get("sasl.username") or connection.login
        self.password = extra.get("sasl.password") or connection.password
        self.mechanism = extra.get("sasl.mechanism") or extra.get("sasl.mechanisms") or "SCRAM-SHA-512"
        self.protocol = (extra.get("security.protocol") or ("SASL_SSL" if self.user else "PLAINTEXT")).upper()
        self.authority = extra.get("ssl.ca.location", "")
        self.checks_name = extra.get("ssl.endpoint.identification.algorithm", "https").lower() not in ("", "none")


def java_properties(connection: Connection) -> dict[str, str]:
    """Give the properties of Kafka's Java clients.  A password is among them.

    :raises Misconfigured: when the connection names no server, or a mechanism that the job does not know
    """
    login = _Login(connection)
    properties = {"bootstrap.servers": login.servers, "security.protocol": login.protocol}
    if login.protocol.startswith("SASL"):
        module = _JAAS.get(login.mechanism)
        if module is None:
            raise Misconfigured(
                f"the stream cannot log in to Kafka by {login.mechanism}", hint=f"it knows {', '.join(_JAAS)}"
            )
        user, password = _quoted(login.user), _quoted(login.password)
        properties["sasl.mechanism"] = login.mechanism
        properties["sasl.jaas.config"] = f"{module} required username={user} password={password};"
    if login.protocol.endswith("SSL"):
        if login.authority:
            properties |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": login.authority}
        if not login.checks_name:
            properties["ssl.endpoint.identification.algorithm"] = ""
    return properties


def python_settings(connection: Connection) -> dict[str, Any]:
    """Give the settings of the Python client.  A password is among them.

    :raises Misconfigured: when the connection names no server
    """
    login = _Login(connection)
    settings: dict[str, Any] = {"bootstrap_servers": login.servers.split(","), "security_protocol": login.protocol}
    if login.protocol.startswith("SASL"):
        settings |= {
            "sasl_mechanism": login.mechanism,
            "sasl_plain_username": login.user,
            "sasl_plain_password": login.password,
        }
    if login.protocol.endswith("SSL"):
        settings |= {"ssl_cafile": login.authority or None, "ssl_check_hostname": login.checks_name}
    return settings


def librdkafka_settings(connection: Connection) -> dict[str, str]:
    """Give the settings of librdkafka.  A password is among them.

    :raises Misconfigured: when the connection names no server
    """
    login = _Login(connection)
    settings = {"bootstrap.servers": login.servers, "security.protocol": login.protocol}
    if login.protocol.startswith("SASL"):
        settings |= {
            "sasl.mechanism": login.mechanism,
            "sasl.username": login.user,
            "sasl.password": login.password,
        }
    if login.protocol.endswith("SSL"):
        settings["ssl.endpoint.identification.algorithm"] = "https" if login.checks_name else "none"
        if login.authority:
            settings["ssl.ca.location"] = login.authority
    return settings


def cassandra(connection: Connection) -> dict[str, Any]:
    """Give where Cassandra is and how to log in, for the job's document.  A password is in it."""
    options = {
        "login": connection.login,
        "password": connection.password,
        "datacenter": connection.extra.get("datacenter", ""),
        "truststore": connection.extra.get("tls_ca_file", ""),
    }
    hosts = [host.strip() for host in connection.host.split(",") if host.strip()]
    if not hosts:
        raise Misconfigured("the Cassandra connection names no host", hint="give hosts, with commas between them")
    return {"hosts": hosts, "port": connection.port or DEFAULT_CASSANDRA_PORT, "options": options}


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _hosts(connection: Connection) -> str:
    if not connection.host:
        raise Misconfigured(
            "the Kafka connection names no server", hint='give host and port, or {"bootstrap.servers": "a:9092,b:9092"}'
        )
    port = connection.port or 9092
    return ",".join(host if ":" in host else f"{host}:{port}" for host in connection.host.split(","))
