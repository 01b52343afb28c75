"""Who may do what, and how much of it: access rules and quotas, chosen from a backup, put back, and read back."""

from __future__ import annotations

import time
from collections.abc import Mapping

from msgspec import Struct, structs

from include.engine.errors import PermanentError
from include.engine.systems.kafka.client import Admin
from include.engine.systems.kafka.declared import Acl, Declared, Quota, create_acls, read_declared

_KNOWN = 5.0  # seconds until a broker tells what the controller has acknowledged; a check says what is missing then


class Grants(Struct, frozen=True, kw_only=True):
    """What a restore puts back besides topics and groups."""

    acls: tuple[Acl, ...] = ()
    quotas: tuple[Quota, ...] = ()

    def __str__(self) -> str:
        return f"{len(self.acls)} access rules and {len(self.quotas)} quotas"


def chosen(declared: Declared, names: Mapping[str, str], *, whole: bool) -> Grants:
    """Choose what goes with the topics that are restored.  Pure.

    Rules for one topic follow it to its new name.  Of a selection only those are chosen: rules with a prefix, for groups and for
    the cluster, and quotas, say something about more than the selection.

    :param names: the restored topics, with the names that they get
    :param whole: all topics of the backup are restored
    """
    rules = []
    for rule in declared.acls:
        if rule.resource_type == "TOPIC" and rule.pattern == "LITERAL" and rule.resource in names:
            rules.append(structs.replace(rule, resource=names[rule.resource]))
        elif whole:
            rules.append(rule)
    return Grants(acls=tuple(rules), quotas=declared.quotas if whole else ())


def warnings(declared: Declared, grants: Grants | None) -> list[str]:
    """Say what a person has to put back by hand.  Pure."""
    found = []
    acls = len(declared.acls) - (len(grants.acls) if grants else 0)
    quotas = len(declared.quotas) - (len(grants.quotas) if grants else 0)
    if acls or quotas:
        found.append(
            f"not put back: {acls} access rules and {quotas} quotas: see --access; topics.json of the backup lists them"
        )
    if declared.scram_users:
        found.append(
            f"{len(declared.scram_users)} SCRAM users must be created again, with new passwords, which Kafka gives to no "
            f"backup: {', '.join(declared.scram_users)}"
        )
    return found


def apply(admin: Admin, grants: Grants) -> None:
    """Put them back.  What is there already stays; a limit that is there is replaced.

    The controller acknowledges before every broker knows: waits a little for the one that is asked.

    :raises PermanentError: when the cluster refuses one
    """
    create_acls(admin, grants.acls)
    _set_quotas(admin, grants)
    deadline = time.monotonic() + _KNOWN
    while differences(admin, grants) and time.monotonic() < deadline:
        time.sleep(0.1)


def differences(admin: Admin, grants: Grants) -> list[str]:
    """Name what the cluster does not have of them, as it tells now."""
    found = read_declared(admin)
    missing = [
        f"{rule.permission} {rule.operation} on {rule.resource_type} {rule.resource} for {rule.principal} is missing"
        for rule in sorted(set(grants.acls) - set(found.acls))
    ]
    limits = {_entity(quota): quota.limits for quota in found.quotas}
    missing += [
        f"the quota {key} of {dict(_entity(quota))} is {limits.get(_entity(quota), {}).get(key)} instead of {value}"
        for quota in grants.quotas
        for key, value in quota.limits.items()
        if limits.get(_entity(quota), {}).get(key) != value
    ]
    return [*found.not_read, *missing]


def _set_quotas(admin: Admin, grants: Grants) -> None:
    from kafka.protocol.admin import AlterClientQuotasRequest

    if not grants.quotas:
        return
    entry = AlterClientQuotasRequest.EntryData
    wanted = [
        entry(
            entity=[entry.EntityData(entity_type=kind, entity_name=name) for kind, name in quota.entity.items()],
            ops=[entry.OpData(key=key, value=value, remove=False) for key, value in quota.limits.items()],
        )
        for quota in grants.quotas
    ]
    manager = admin.client._manager  # noqa: SLF001 - kafka-python has the request and no method for it
    request = AlterClientQuotasRequest(entries=wanted, validate_only=False)
    answer = admin.ask("quotas", lambda: manager.run(manager.send, request))
    refused = [str(one.error_message or one.error_code) for one in answer.entries if one.error_code]
    if refused:
        raise PermanentError(f"Kafka refused {len(refused)} quotas: {refused[0]}", hint="see the broker's log")


def _entity(quota: Quota) -> tuple[tuple[str, str | None], ...]:
    return tuple(sorted(quota.entity.items()))
