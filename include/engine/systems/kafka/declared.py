"""What a cluster was told to be: topics with their configurations, ACLs, quotas, SCRAM users.  Read, compared, put back."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from msgspec import Struct

from include.engine.errors import MainstayError, PermanentError, Unauthorized, Unsupported
from include.engine.systems.kafka.client import Admin, ConfigEntry, TopicPlan


class Acl(Struct, frozen=True, order=True):
    """One access rule, in Kafka's own words."""

    resource_type: str
    resource: str
    pattern: str
    principal: str
    host: str
    operation: str
    permission: str


class Quota(Struct, frozen=True):
    """What an entity may use."""

    entity: dict[str, str | None]
    limits: dict[str, float]


class Declared(Struct, frozen=True, kw_only=True):
    """Everything besides topics that a person would have to type again.  SCRAM users by name: Kafka gives out no secret."""

    acls: tuple[Acl, ...] = ()
    quotas: tuple[Quota, ...] = ()
    scram_users: tuple[str, ...] = ()
    not_read: tuple[str, ...] = ()  # what could not be asked for, and why


def topic_configs(admin: Admin, names: Collection[str]) -> dict[str, dict[str, ConfigEntry]]:
    """Give the values of each topic that are not the defaults, with their source."""
    from kafka.admin import ConfigResource, ConfigResourceType

    if not names:
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in sorted(names)]
    found = admin.ask("topic configurations", lambda: admin.client.describe_configs(resources))
    return {
        topic: {key: ConfigEntry(entry["value"], entry["config_source"]) for key, entry in values.items()}
        for topic, values in found.get("topic", {}).items()
    }


def effective_configs(admin: Admin, names: Collection[str], keys: Collection[str]) -> dict[str, dict[str, str]]:
    """Give the values of *keys* that hold for each topic, defaults too."""
    from kafka.admin import ConfigResource, ConfigResourceType

    if not names:
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name, configs=dict.fromkeys(keys)) for name in sorted(names)]
    found = admin.ask("topic configurations", lambda: admin.client.describe_configs(resources, config_filter="all"))
    return {
        topic: {key: entry["value"] or "" for key, entry in values.items()}
        for topic, values in found.get("topic", {}).items()
    }


def topic_defaults(admin: Admin) -> dict[str, str]:
    """Give what holds for a topic that says nothing of its own about how long its records stay, from the brokers' settings.

    Kafka's own week where this user may not read those.
    """
    from kafka.admin import ConfigResource, ConfigResourceType

    broker = str(admin.brokers()[0].id)
    units = {"log.retention.ms": 1, "log.retention.minutes": 60_000, "log.retention.hours": 3_600_000}
    keys = dict.fromkeys([*units, "log.retention.bytes", "log.cleanup.policy"])
    resource = ConfigResource(ConfigResourceType.BROKER, broker, configs=keys)
    try:
        found = admin.ask("a broker's settings", lambda: admin.client.describe_configs([resource], config_filter="all"))
    except Unauthorized:
        return {"retention.ms": str(7 * 86_400_000)}
    values = {key: entry["value"] for key, entry in found.get("broker", {}).get(broker, {}).items() if entry["value"]}
    times = [
        str(int(values[key]) * unit) if int(values[key]) > 0 else "-1" for key, unit in units.items() if key in values
    ]
    return {
        topic: value
        for topic, value in (
            ("retention.ms", times[0] if times else None),  # Kafka's own order: the finer unit wins
            ("retention.bytes", values.get("log.retention.bytes")),
            ("cleanup.policy", values.get("log.cleanup.policy")),
        )
        if value is not None
    }


def own_configs(configs: Mapping[str, ConfigEntry]) -> dict[str, str]:
    """Keep what was set on the topic itself; the broker's defaults belong to the broker."""
    return {
        key: entry.value
        for key, entry in configs.items()
        if entry.source == "DYNAMIC_TOPIC_CONFIG" and entry.value is not None
    }


def create_topics(admin: Admin, plans: Sequence[TopicPlan]) -> None:
    """Create topics and wait until every partition has a leader.

    :raises Refused: when one exists
    """
    if not plans:
        return
    wanted = {
        plan.name: {
            "num_partitions": plan.partitions,
            "replication_factor": plan.factor,
            "configs": dict(plan.configs),
        }
        for plan in plans
    }
    admin.ask("new topics", lambda: admin.client.create_topics(wanted))
    admin.ask("new topics", lambda: admin.client.wait_for_topics(list(wanted), timeout_ms=30_000))


def delete_topics(admin: Admin, names: Collection[str]) -> None:
    """Delete topics."""
    if names:
        admin.ask("the deletion of topics", lambda: admin.client.delete_topics(sorted(names)))


def change_configs(admin: Admin, topic: str, *, set_: Mapping[str, str], reset: Collection[str] = ()) -> None:
    """Set some values of a topic and give others back to the defaults."""
    from kafka.admin import AlterConfigOp, ConfigResource, ConfigResourceType

    changes: dict[str, Any] = {key: (AlterConfigOp.SET, value) for key, value in set_.items()}
    changes |= dict.fromkeys(reset, (AlterConfigOp.DELETE, None))
    if not changes:
        return
    resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs=changes)
    answer = admin.ask(
        f"the configuration of {topic}", lambda: admin.client.alter_configs([resource], raise_on_unknown=False)
    )
    said = str(answer.get("topic", {}).get(topic, "OK"))
    if "Error" in said:
        raise PermanentError(f"Kafka refused the configuration of {topic}: {said}", hint="see the broker's log")


def read_declared(admin: Admin) -> Declared:
    """Read ACLs, quotas and SCRAM users.  What this user may not read is named, not left out in silence."""
    not_read: list[str] = []

    def tried(what: str, read: Any) -> Any:
        try:
            return tuple(read(admin))
        except (Unauthorized, Unsupported) as error:
            not_read.append(f"{what}: {error.message}")
        except MainstayError as error:
            if "SecurityDisabled" not in str(error):
                raise
        return ()

    acls = tried("ACLs", _acls)
    quotas = tried("quotas", _quotas)
    users = tried("SCRAM users", _scram_users)
    return Declared(acls=acls, quotas=quotas, scram_users=users, not_read=tuple(not_read))


def create_acls(admin: Admin, acls: Sequence[Acl]) -> None:
    """Create access rules; those that exist stay as they are."""
    from kafka import admin as theirs

    if not acls:
        return
    wanted = [
        theirs.ACL(
            rule.principal,
            rule.host,
            theirs.ACLOperation[rule.operation],
            theirs.ACLPermissionType[rule.permission],
            theirs.ResourcePattern(
                theirs.ResourceType[rule.resource_type], rule.resource, theirs.ACLResourcePatternType[rule.pattern]
            ),
        )
        for rule in acls
    ]
    answer = admin.ask("access rules", lambda: admin.client.create_acls(wanted))
    if answer["failed"]:
        raise PermanentError(f"Kafka refused access rules: {answer['failed'][:3]}", hint="see the broker's log")


def _acls(admin: Admin) -> list[Acl]:
    from kafka import admin as theirs

    everything = theirs.ACLFilter(
        None,
        None,
        theirs.ACLOperation.ANY,
        theirs.ACLPermissionType.ANY,
        theirs.ResourcePatternFilter(theirs.ResourceType.ANY, None, theirs.ACLResourcePatternType.ANY),
    )
    found, _ = admin.ask("ACLs", lambda: admin.client.describe_acls(everything))
    return sorted(
        Acl(
            rule.resource_pattern.resource_type.name,
            rule.resource_pattern.resource_name,
            rule.resource_pattern.pattern_type.name,
            rule.principal,
            rule.host,
            rule.operation.name,
            rule.permission_type.name,
        )
        for rule in found
    )


def _quotas(admin: Admin) -> list[Quota]:
    from kafka.protocol.admin import DescribeClientQuotasRequest

    manager = admin.client._manager  # noqa: SLF001 - kafka-python has the request and no method for it
    request = DescribeClientQuotasRequest(components=[], strict=False)
    answer = admin.ask("quotas", lambda: manager.run(manager.send, request))
    return [
        Quota({part.entity_type: part.entity_name for part in entry.entity}, {v.key: v.value for v in entry.values})
        for entry in answer.entries or []
    ]


def _scram_users(admin: Admin) -> list[str]:
    return sorted(admin.ask("SCRAM users", admin.client.describe_user_scram_credentials))
