"""Roles and grants as CQL that can be run again.  Passwords are never read: they are set anew after a restore."""

from __future__ import annotations

from include.engine.systems.cassandra.client import Cql, quoted

_KINDS = {"data": ("ALL KEYSPACES", "KEYSPACE", "TABLE"), "roles": ("ALL ROLES", "ROLE", "")}


def read_roles(cql: Cql) -> tuple[str, ...]:
    """Give the statements that make all roles again, without a password, and grant what they were granted.

    :raises Unauthorized: when ours may not read them: that takes a superuser
    """
    roles = cql.rows("SELECT role, can_login, is_superuser, member_of FROM system_auth.roles", consistency="QUORUM")
    grants = cql.rows("SELECT role, resource, permissions FROM system_auth.role_permissions", consistency="QUORUM")
    statements = [
        f"CREATE ROLE IF NOT EXISTS {quoted(row['role'])} WITH SUPERUSER = {str(row['is_superuser']).lower()}"
        f" AND LOGIN = {str(row['can_login']).lower()};"
        for row in sorted(roles, key=lambda row: str(row["role"]))
    ]
    for row in sorted(roles, key=lambda row: str(row["role"])):
        statements += [f"GRANT {quoted(group)} TO {quoted(row['role'])};" for group in sorted(row["member_of"] or ())]
    for row in sorted(grants, key=lambda row: (str(row["role"]), str(row["resource"]))):
        on = resource(str(row["resource"]))
        statements += [
            f"GRANT {permission} ON {on} TO {quoted(row['role'])};"
            if on
            else f"-- {row['role']} also has {permission} on {row['resource']}"
            for permission in sorted(row["permissions"] or ())
        ]
    return tuple(statements)


def resource(path: str) -> str | None:
    """Turn the path of a resource (``data/ks/table``) into CQL; None for a kind that is rare enough to be left to people."""
    kind, *names = path.split("/")
    if kind not in _KINDS or len(names) > 2 or not _KINDS[kind][len(names)]:
        return None
    return " ".join([_KINDS[kind][len(names)], ".".join(map(quoted, names))]).strip()
