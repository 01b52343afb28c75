"""Which topics a mirror has, which connectors it needs, and what would have to change for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from include.engine.errors import Misconfigured
from include.engine.loading.naming import OF_A_TEST
from include.engine.systems.kafka.client import Admin
from include.engine.systems.kafka.cut import covered
from include.engine.systems.kafka.settings import Mirror, matches

_MM2 = "org.apache.kafka.connect.mirror"
_BYTES = "org.apache.kafka.connect.converters.ByteArrayConverter"
_NEVER_MIRRORED = (r"mm2.*\.internal", r".*\.replica", "__.*")  # MirrorMaker 2's own default
_SECRET = ("password", "jaas", "secret", "keystore.key")
_JAAS = {
    "PLAIN": "org.apache.kafka.common.security.plain.PlainLoginModule",
    "SCRAM-SHA-256": "org.apache.kafka.common.security.scram.ScramLoginModule",
    "SCRAM-SHA-512": "org.apache.kafka.common.security.scram.ScramLoginModule",
}
_LARGEST = 64 << 20  # bytes of a record
HEARTBEATS = "heartbeats"  # MirrorMaker 2's own name of the topic
Config = Mapping[str, str]


class Change(Struct, frozen=True, kw_only=True):
    """What would happen to one connector.  Secrets are not in the values."""

    kind: str  # create, update or delete
    connector: str
    keys: dict[str, tuple[str | None, str | None]] = {}  # before and after

    def __str__(self) -> str:
        if self.kind != "update":
            return f"{self.kind} {self.connector}"
        shown = ", ".join(f"{key}: {before} -> {after}" for key, (before, after) in sorted(self.keys.items()))
        return f"update {self.connector}: {shown}"


def connector_name(name: str) -> str:
    """Name a mirror's source connector."""
    return f"mainstay-{name}-source"


def is_of(name: str, connector: str) -> bool:
    """Say whether a connector is, or once was, a part of the mirror *name*: `dr` begins the names of `dr-2`'s connectors, too."""
    part = connector.removeprefix(f"mainstay-{name}-")
    return part != connector and "-" not in part


def heartbeat_name(name: str) -> str:
    """Name the connector that shows that a mirror's workers live when nothing is there to copy."""
    return f"mainstay-{name}-heartbeat"


def notes_of(mirror: Mirror) -> str:
    """Name the topic on the target in which MirrorMaker 2 notes which offset of the source has become which of the copy."""
    return f"mm2-offset-syncs.{mirror.source_alias}.internal"


def mirrored(admin: Admin, mirror: Mirror) -> dict[str, int]:
    """Give the source's topics that *mirror* covers, with their partitions; never what MirrorMaker 2 takes for its own."""
    found = covered(admin, lambda topic: matches(mirror.topics, topic))
    return {name: len(topic.partitions) for name, topic in found.items() if not _is_its_own(name)}


def left_out(admin: Admin, mirror: Mirror) -> list[str]:
    """Name the topics that *mirror* asks for and MirrorMaker 2 does not copy, because of their names."""
    return sorted(name for name in covered(admin, lambda topic: matches(mirror.topics, topic)) if _is_its_own(name))


def _is_its_own(name: str) -> bool:
    return name == HEARTBEATS or name.startswith("mm2-") or name.endswith((".internal", ".replica", "-internal"))


def desired(name: str, mirror: Mirror, source: Config, target: Config) -> dict[str, dict[str, str]]:
    """Give the connectors that a mirror consists of.

    One copies, one sends heartbeats.  Groups are translated exactly when it counts, by us: a checkpoint connector would later
    put them back to its own coarse positions.

    :param source: how to connect to the source, in librdkafka's words
    :param target: likewise
    """
    config = {
        "connector.class": f"{_MM2}.MirrorSourceConnector",
        "tasks.max": str(mirror.tasks),
        "topics": ",".join(mirror.topics),
        "topics.exclude": ",".join((*_NEVER_MIRRORED, OF_A_TEST)),
        "replication.factor": str(mirror.replication_factor),
        "offset-syncs.topic.replication.factor": str(mirror.replication_factor),
        "source.consumer.isolation.level": "read_committed",
        "source.consumer.auto.offset.reset": "earliest",
        "exactly.once.support": "required",
        "transaction.boundary": "poll",
        # A worker that dies leaves its transaction open, and nobody can read how far it was until that has timed out.
        "producer.override.transaction.timeout.ms": "10000",
        # The target's own limits decide what is too large, not the client's default of 1 MiB.
        "producer.override.max.request.size": str(_LARGEST),
        "producer.override.buffer.memory": str(2 * _LARGEST),
        "offset-syncs.topic.location": "target",
        "offset.lag.max": "100",
        "sync.topic.acls.enabled": "false",
        "heartbeats.replication.enabled": "false",
        "refresh.topics.interval.seconds": "10",
        "sync.topic.configs.interval.seconds": "30",
    }
    shared = {
        "source.cluster.alias": mirror.source_alias,
        "target.cluster.alias": mirror.target_alias,
        "replication.policy.class": f"{_MM2}.IdentityReplicationPolicy",
        **{f"{part}.converter": _BYTES for part in ("key", "value", "header")},
    }
    for prefix, access in (("source", source), ("target", target)):
        shared |= {f"{prefix}.cluster.{key}": value for key, value in java_settings(access).items()}
    if mirror.source_servers:
        shared["source.cluster.bootstrap.servers"] = mirror.source_servers
    beating = {
        "connector.class": f"{_MM2}.MirrorHeartbeatConnector",
        "tasks.max": "1",
        "heartbeats.topic.replication.factor": str(mirror.replication_factor),
        "emit.heartbeats.interval.seconds": "5",
    }
    return {connector_name(name): shared | config, heartbeat_name(name): shared | beating}


def java_settings(access: Config) -> dict[str, str]:
    """Say in the Java client's words how to connect.

    The authority's file is read by the worker, where it must lie under the same path; certificate and key go as their content.

    :raises Misconfigured: when the worker could not log in so, or a file cannot be read
    """
    settings = {"bootstrap.servers": access["bootstrap.servers"]}
    protocol = access.get("security.protocol", "PLAINTEXT").upper()
    if protocol != "PLAINTEXT":
        settings["security.protocol"] = protocol
    if protocol.startswith("SASL"):
        mechanism = access.get("sasl.mechanism", "SCRAM-SHA-512")
        if mechanism not in _JAAS:
            raise Misconfigured(
                f"a mirror cannot log in by {mechanism}", hint=f"sasl.mechanism is one of {', '.join(_JAAS)}"
            )
        user, password = _quoted(access.get("sasl.username", "")), _quoted(access.get("sasl.password", ""))
        settings |= {
            "sasl.mechanism": mechanism,
            "sasl.jaas.config": f"{_JAAS[mechanism]} required username={user} password={password};",
        }
    if not protocol.endswith("SSL"):
        return settings
    if ca := access.get("ssl.ca.location"):
        settings |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": ca}
    if certificate := access.get("ssl.certificate.location"):
        key = access.get("ssl.key.location", certificate)
        settings |= {"ssl.keystore.type": "PEM", "ssl.keystore.certificate.chain": _content(certificate)}
        settings["ssl.keystore.key"] = _content(key)
        if phrase := access.get("ssl.key.password"):
            settings["ssl.key.password"] = phrase
    if (checked := access.get("ssl.endpoint.identification.algorithm")) is not None:
        settings["ssl.endpoint.identification.algorithm"] = "" if checked.lower() == "none" else checked
    return settings


def diff(wanted: Mapping[str, Config], actual: Mapping[str, Config | None]) -> list[Change]:
    """Give what would have to change.  *actual* has every connector that is ours, wanted or not."""
    changes = []
    for name, config in sorted(wanted.items()):
        now = actual.get(name)
        if now is None:
            changes.append(Change(kind="create", connector=name))
            continue
        keys = {
            key: (_shown(key, now.get(key)), _shown(key, config.get(key)))
            for key in {*config, *now} - {"name"}
            if now.get(key) != config.get(key)
        }
        if keys:
            changes.append(Change(kind="update", connector=name, keys=keys))
    return changes + [Change(kind="delete", connector=name) for name in sorted(actual) if name not in wanted]


def cannot_run(source: str, target: str, topics: Sequence[str], others: Mapping[str, Mirror]) -> list[str]:
    """Say why mirroring *topics* between the clusters of these ids would be none.  Pure.

    Ids, not addresses: a cluster has many of those.

    :param others: mirrors of the same source to the same target, by name
    """
    said = [] if topics else ["no topic of the source matches, so it would copy nothing"]
    if source == target:
        said.append(
            f"source and target are one cluster, {source}: with names kept, topics would be copied onto themselves"
        )
    for name, mirror in sorted(others.items()):
        both = [topic for topic in topics if matches(mirror.topics, topic)]
        if both:
            said.append(
                f"the mirror {name} copies {', '.join(both[:5])} to the same cluster: records would be there twice"
            )
    return said


def _shown(key: str, value: str | None) -> str | None:
    if value is not None and any(word in key.lower() for word in _SECRET):
        return "(secret)"
    return value


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _content(path: str) -> str:
    try:
        return Path(path).read_text()
    except (OSError, ValueError) as error:
        raise Misconfigured(
            f"the TLS file {path} of a Kafka connection cannot be read: {error}",
            hint="check ssl.certificate.location and ssl.key.location in the connection's extras",
        ) from error
