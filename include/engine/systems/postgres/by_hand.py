"""Writes the text that tells how to restore a backup when there is no Mainstay: stock tools, every command filled in.

The blocks marked ``sh`` can be run one after the other as they stand; a test does exactly that.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from include.engine.errors import Incomplete
from include.engine.model import Entry, Manifest
from include.engine.systems.postgres.chain import chain_of
from include.engine.systems.postgres.detail import PostgresDetail
from include.engine.systems.postgres.wal_objects import wal_folder

_UNPACKERS = {"zstd": "zstd -dc", "gzip": "gzip -dc", "lz4": "lz4 -dc", "none": "cat"}

_BEGIN = """# Restore {target}, backup {id}, by hand

PostgreSQL {version}, {kind} backup, consistent from {consistent} on (log position {stop_lsn}).
You need: the bucket, PostgreSQL {major} (its `bin` on the PATH), `tar`, `zstd`{more}, and about {gib:.1f} GiB of disk.
Work as the user who will run the server, never as root.

## 1. Get the files

```text
{download}
```

Say where they are, and where the new data directory goes (it must not exist yet):

```sh
set -eu
: "${{BUCKET:=$HOME/bucket}}"      # the folder that holds {target}
: "${{DATA:=$HOME/restored}}"      # the new data directory
: "${{PORT:=5432}}"                # of the restored server
: "${{KEY:=$HOME/age-key.txt}}"    # the age secret key, for encrypted backups
export BUCKET DATA KEY
unseal() {{ case "$1" in *.age) age -d -i "$KEY" "$1" ;; *) cat "$1" ;; esac; }}
```

## 2. Check that they are what was written

```sh
cd "$BUCKET"
sha256sum --check --quiet <<'END'
{sums}
END
```
"""

_WAL = """
## {step}. Recover

This fetches the log, segment by segment; the last one may be there in part.

```sh
cat > "$DATA/fetch-wal" <<'END'
#!/bin/sh
# $1: the file that PostgreSQL wants; $2: where to.  Exit 1: there is none.  200: it is damaged, stop.
folder="$BUCKET/{folder}/$(printf %.8s "$1")"
unseal() {{ case "$1" in *.age) age -d -i "$KEY" "$1" ;; *) cat "$1" ;; esac; }}
found=$(ls "$folder/$1.zst" "$folder/$1.zst.age" 2>/dev/null | head -n 1)
if [ -z "$found" ]; then
    part=$(ls "$folder" 2>/dev/null | grep "^$1[.]partial-" | awk '{{ print length($0) " " $0 }}' | sort -k1,1n -k2,2 | tail -n 1)
    [ -n "$part" ] || exit 1
    found="$folder/${{part#* }}"
fi
unseal "$found" > "$DATA/wal.packed" && zstd -dcq < "$DATA/wal.packed" > "$DATA/wal.draft" || exit 200
case "$1" in *.history) ;; *) truncate -s {segment} "$DATA/wal.draft" || exit 200 ;; esac
rm -f "$DATA/wal.packed"
mv "$DATA/wal.draft" "$2" || exit 200
END
chmod 700 "$DATA/fetch-wal"
cat >> "$DATA/postgresql.auto.conf" <<END
restore_command = '"$DATA/fetch-wal" %f %p'
recovery_target_timeline = 'latest'
recovery_target_action = 'promote'
archive_mode = off
primary_conninfo = ''
primary_slot_name = ''
synchronous_standby_names = ''
END
rm -f "$DATA/standby.signal"
touch "$DATA/recovery.signal"
```

To stop at a point instead of the newest one, add **one** of these to `postgresql.auto.conf` now:
`recovery_target_time = '2026-11-23 02:00:00+00'`, `recovery_target_lsn = '{stop_lsn}'`, `recovery_target_name = '…'`.

```sh
pg_ctl -D "$DATA" -l "$DATA.log" -w -t 864000 -o "-c port=$PORT -c listen_addresses=127.0.0.1{socket}" start
until pg_controldata "$DATA" | grep -q 'cluster state: *in production'; do
    pg_ctl -D "$DATA" status > /dev/null || {{ tail -n 20 "$DATA.log"; exit 1; }}
    sleep 1
done
```

It serves now.  Compare with what the backup was taken of: system identifier {identity}.

```sh
pg_controldata "$DATA" | grep 'system identifier' | grep {identity}
rm -f "$DATA/fetch-wal"
```

Remove the lines that step {step} added to `postgresql.auto.conf` before the server becomes the production one again.
"""


def instructions(manifest: Manifest, others: Sequence[Manifest], *, bucket: str) -> str:
    """Give the Markdown for one backup.

    :param others: further backups of the target, among them those that this one builds on
    :param bucket: URL of the bucket with its prefix
    :raises Incomplete: when a backup that this one builds on is gone
    """
    chain = chain_of(manifest, [*others, manifest])
    if chain is None:
        raise Incomplete(
            f"{manifest.id} builds on a backup that is gone", hint="take a full backup; this one cannot be restored"
        )
    detail = PostgresDetail.of(manifest)
    text = _BEGIN.format(
        target=manifest.target,
        id=manifest.id,
        version=manifest.source.version,
        kind=manifest.kind,
        consistent=manifest.recoverable_from.isoformat(timespec="seconds"),
        stop_lsn=detail.stop_lsn,
        major=detail.server_version_num // 10000,
        more=", `age` and the secret key of " + ", ".join(manifest.encryption.key_ids) if manifest.encryption else "",
        gib=sum(m.original_bytes for m in chain) * (2 if len(chain) > 1 else 1) / 2**30 + 1,
        download=_download(bucket, chain),
        sums="\n".join(f"{entry.sha256}  {entry.key}" for m in chain for entry in m.entries),
    )
    steps = [_unpack(chain)]
    if len(chain) > 1:
        steps.append(_combine(chain))
    steps.append(_verify(detail))
    for number, step in enumerate(steps, start=3):
        text += step.format(step=number)
    return text + _WAL.format(
        step=len(steps) + 3,
        folder=wal_folder(manifest.target),
        segment=detail.wal_segment_bytes,
        stop_lsn=detail.stop_lsn,
        socket=" -c unix_socket_directories='$DATA'",
        identity=manifest.source.identity,
    )


def _download(bucket: str, chain: Sequence[Manifest]) -> str:
    folders = [f"{m.target}/backups/{m.id}" for m in chain] + [wal_folder(chain[-1].target)]
    if not bucket.startswith("s3://"):
        return f"# copy these folders of {bucket} to $BUCKET, with their paths:\n" + "\n".join(folders)
    return "\n".join(
        f'aws s3 cp --recursive {shlex.quote(f"{bucket}/{folder}/")} "$BUCKET/{folder}/"  # --endpoint-url … if not AWS'
        for folder in folders
    )


def _place(manifest: Manifest, chain: Sequence[Manifest]) -> str:
    return "$DATA" if len(chain) == 1 else f"$DATA.parts/{manifest.id}"


def _unpack(chain: Sequence[Manifest]) -> str:
    lines: list[str] = []
    for manifest in chain:
        detail = PostgresDetail.of(manifest)
        entries = {entry.name: entry for entry in manifest.entries}
        place = _place(manifest, chain)
        lines += [f'mkdir -p -m 700 "{place}"', _tar(entries[detail.base], detail, place)]
        lines.append(f'unseal "$BUCKET/{entries[detail.manifest].key}" | zstd -dc > "{place}/backup_manifest"')
        for tablespace in detail.tablespaces:
            folder = f"{place}.tablespaces/{tablespace.oid}"
            lines += [
                f'mkdir -p -m 700 "{folder}"  # was {tablespace.path}',
                _tar(entries[tablespace.archive], detail, folder),
                f'ln -sfn "{folder}" "{place}/pg_tblspc/{tablespace.oid}"',
            ]
    return "\n## {step}. Unpack\n\n```sh\n" + _braces("\n".join(lines)) + "\n```\n"


def _tar(entry: Entry, detail: PostgresDetail, folder: str) -> str:
    return f'unseal "$BUCKET/{entry.key}" | {_UNPACKERS[detail.compression]} | tar -x -p -f - -C "{folder}"'


def _combine(chain: Sequence[Manifest]) -> str:
    last = chain[-1]
    mapping = []
    for tablespace in PostgresDetail.of(last).tablespaces:
        old = f"{_place(last, chain)}.tablespaces/{tablespace.oid}"
        mapping.append(f'-T "{old}"="$DATA.tablespaces/{tablespace.oid}" ')
    parts = " ".join(f'"{_place(manifest, chain)}"' for manifest in chain)
    make = 'mkdir -p -m 700 "$DATA.tablespaces"\n' if mapping else ""
    lines = f'{make}pg_combinebackup {"".join(mapping)}-o "$DATA" {parts}\nrm -rf "$DATA.parts"'
    return (
        "\n## {step}. Combine the full backup and what was taken on top of it\n\n```sh\n" + _braces(lines) + "\n```\n"
    )


def _verify(detail: PostgresDetail) -> str:
    lines = ['pg_verifybackup "$DATA"']
    if detail.tablespaces:
        lines.append(': > "$DATA/tablespace_map"')
        lines += [f'echo "{t.oid} $DATA.tablespaces/{t.oid}" >> "$DATA/tablespace_map"' for t in detail.tablespaces]
    return (
        "\n## {step}. Compare every file with PostgreSQL's own manifest\n\n```sh\n"
        + _braces("\n".join(lines))
        + "\n```\n"
    )


def _braces(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
