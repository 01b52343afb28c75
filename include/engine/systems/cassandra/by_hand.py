"""The text that lies in each set: how to restore a Cassandra backup when all that is left is the bucket and stock tools."""

from __future__ import annotations

from collections.abc import Mapping

from include.engine.model import Manifest
from include.engine.systems.cassandra.cut import detail_of


def instructions(manifest: Manifest, *, bucket: str) -> str:
    """Say in Markdown how to restore *manifest*."""
    detail = detail_of(manifest)
    prefix = f"{manifest.target}/backups/{manifest.id}"
    nodes = "\n".join(
        f"| `{node.host_id}` | {node.address} | {node.datacenter} / {node.rack} | {len(node.tokens)} |"
        for node in detail.cut.nodes
    )
    tables = ", ".join(f"`{keyspace}.{table}`" for keyspace, table in detail.cut.schema.tables())
    return _TEXT.format(
        target=manifest.target,
        backup=manifest.id,
        bucket=bucket,
        manifest_key=f"{prefix}/manifest.json",
        at=f"{manifest.cut.at:%Y-%m-%d %H:%M:%S} UTC",
        version=manifest.source.version,
        nodes=nodes,
        tables=tables,
        count=len(manifest.entries),
        size=manifest.bytes,
        roles=_ROLES if detail.cut.roles else _NO_ROLES,
        point=_point_in_time(manifest, detail.cut.table_ids) if detail.cut.archived else "",
    )


def _point_in_time(manifest: Manifest, table_ids: Mapping[str, str]) -> str:
    ids = "\n".join(f"| `{table}` | `{table_id}` |" for table, table_id in sorted(table_ids.items()))
    return _POINT.format(folder=f"{manifest.target}/commitlog", ids=ids)


_TEXT = """\
# {target}, backup {backup}: restore by hand

Taken at {at} of Cassandra {version}: {count} files, {size} bytes, in `{bucket}`.
Tables: {tables}. You need: any S3 client or curl, `jq`, `sha256sum`, `cqlsh`, and Cassandra's own
`sstableloader` (or `nodetool`), of this version or newer.

| node (host id) | address | where | tokens |
| --- | --- | --- | --- |
{nodes}

## 1. Fetch and compare

`{manifest_key}` lists every file: its name, the key of its object, its size and its SHA-256. The names are
`<host id>/<keyspace>/<table>-<id>/<file>`; sstableloader wants `<keyspace>/<table>/<file>`. With `$BUCKET` standing for
`{bucket}` as your client writes it, and `get KEY FILE` for its download command:

```sh
get "{manifest_key}" manifest.json
jq -r '.entries[] | [.sha256, .key, .name] | @tsv' manifest.json | while IFS="$(printf '\\t')" read -r sum key name; do
  file="files/$(printf '%s' "$name" | sed -E 's#^([^/]+)/([^/]+)/([^/]+)-[0-9a-f]{{32}}/#\\1/\\2/\\3/#')"
  mkdir -p "$(dirname "$file")"
  get "$key" "$file"
  echo "$sum  $file" | sha256sum -c --quiet || exit 1
done
```

## 2. Make the tables

`files/schema.cql` has everything: keyspaces, types, functions, tables, then indexes and views. Change the datacenters in
`CREATE KEYSPACE` when the ring is another one. Run it up to the first `CREATE INDEX`, `CREATE CUSTOM INDEX` or
`CREATE MATERIALIZED VIEW`, load the rows, then run the rest. `LOGIN` is a superuser; leave the login out where none is asked for:

```sh
awk '/^CREATE (CUSTOM )?INDEX|^CREATE MATERIALIZED VIEW/ {{ exit }} {{ print }}' files/schema.cql > tables.cql
awk '/^CREATE (CUSTOM )?INDEX|^CREATE MATERIALIZED VIEW/ {{ found = 1 }} found' files/schema.cql > derived.cql
cqlsh HOST -u LOGIN -p PASSWORD -f tables.cql
```

## 3a. Load the rows, into any ring

```sh
for folder in files/*/*/*/; do sstableloader -d HOST -u LOGIN -pw PASSWORD "$folder" || exit 1; done
```

Load the folders of **all** nodes: together they hold every acknowledged write; copies of the same row merge.
`-k OTHER` loads into another keyspace. A table with an SAI index cannot be loaded: that is why indexes come last.

## 3b. Or: into the very ring it came from

When `nodetool ring` shows the same host ids with the same tokens: copy `files/<host id>/` to that node, as `/restore` on the disk
of its data, make it Cassandra's own there (`chown -R cassandra: /restore`), and run on each node:

```sh
for folder in /restore/*/*/; do
  nodetool import "$(basename "$(dirname "$folder")")" "$(basename "$folder")" "$folder" || exit 1
done
```

It moves the files away. Where JMX asks for a login, `nodetool -u LOGIN -pw PASSWORD`.

## 4. Finish

```sh
cqlsh HOST -u LOGIN -p PASSWORD -f derived.cql
```

Compare some counts, then run `nodetool repair -full` once. Rows whose TTL has run out since do not come back.
{roles}
{point}"""

_NO_ROLES = "Roles and passwords are not in this backup: create them anew."
_ROLES = (
    "Roles and grants are in the manifest, passwords are not: `jq -r '.detail.cut.roles[]' manifest.json` prints the CQL;"
    " look through it,\nrun it as a superuser, then give each role its password with `ALTER ROLE`."
)

_POINT = """
## 5. To a point in time

Commit logs were archived: `{folder}/<host id>/CommitLog-….log.<seconds>.<sha256>`, where the seconds (since 1970) say when the
node wrote it last. On one empty Cassandra of the same version that no client uses:

1. Leave "4. Finish" for the end: views learn late of what is replayed. Make the tables with the ids that they had, which is
   all that a commit log knows of them: in `tables.cql`, write `WITH ID = <id> AND` instead of the first `WITH` of each. Then load
   the rows as in 3a or 3b, and stop it with `nodetool drain`.
2. Fetch every node's segments from the last one before this backup on; take the digest and the seconds off their names, and
   compare the digest. Put each node's into a directory of its own that Cassandra can read.
3. Write into `commitlog_archiving.properties`, with your directories and your point, in UTC:
   ```
   restore_command=/bin/cp -f %from %to
   restore_directories=/replay/NODE1,/replay/NODE2
   restore_point_in_time=2026:11:23 04:05:06.000000
   precision=MICROSECONDS
   ```
4. Start it with `-Dcassandra.replayList=KEYSPACE.TABLE,…` for **only** these tables: the logs hold the nodes' system tables, too.
   Its log says how many mutations it replayed. Take the lines out again. `sstableloader` brings the tables elsewhere.

Where two nodes have a segment of the same name, a server would replay one of them only: drain it, and do 3 and 4 again for the
other node.
Keyspaces with `durable_writes = false` have nothing in these logs.

| table | id |
| --- | --- |
{ids}
"""
