"""PostgreSQL: backup and restore, Mainstay beside the guide's way and beside the floor that physics sets.

The data is pgbench at a scale, which compresses well, plus rows that do not compress. All sides work on the same server and the
same store, in turn, for several rounds. ``python -m bench.postgres --help`` lists the options.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import pgbackrest
from bench.measure import Figures, Side, disk_used, empty, run
from include.engine.sandbox.home import Home, Sandbox
from include.engine.systems.object_store.server import ObjectStoreServer
from include.engine.systems.postgres.server import PostgresServer

PROJECT = Path(__file__).resolve().parent.parent
AWSCLI = "awscli==1.46.3"
NOISE_ROW = 512  # bytes that do not compress


def main() -> None:
    options = _options()
    home = Home.of(PROJECT)
    with home.sandbox(f"bench-{os.getpid()}") as sandbox:
        bench = Bench(sandbox, options)
        bench.fill()
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
            bench.round(number)
        report = bench.report()
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "postgres.json").write_text(json.dumps(report, indent=2) + "\n")
    (options.out / "postgres.md").write_text(_table(report))
    print(_table(report))


class Bench:
    def __init__(self, sandbox: Sandbox, options: argparse.Namespace) -> None:
        self.options = options
        self.sandbox = sandbox
        self.scratch = sandbox.directory("scratch")
        settings = {"max_wal_size": "4GB"} | (
            {"archive_mode": "on", "archive_command": "/bin/true"} if options.pgbackrest else {}
        )
        self.database = PostgresServer(sandbox, "bench", major=options.major, durable=True, settings=settings).start()
        self.store = ObjectStoreServer(sandbox, "bench").start()
        self.store.create_bucket("bench")
        self.password = self.database.create_backup_role()
        self.user = sandbox.account.name if os.geteuid() == 0 else None
        self.aws = _awscli(PROJECT / ".mainstay" / "bench")
        self.backups = [
            Side("mainstay"),
            Side("guide: pg_basebackup -Ft -z -Xs, aws s3 sync"),
            Side("floor: tar | zstd -1"),
        ]
        self.restores = [Side("mainstay"), Side("guide: aws s3 sync, tar -xz")]
        self.pgbackrest: pgbackrest.PgBackRest | None = None
        if options.pgbackrest:
            self.pgbackrest = pgbackrest.PgBackRest(sandbox, self.database).start()
            name = "pgBackRest {}.{}: zst level 1, 2 processes, TLS".format(*options.pgbackrest)
            self.backups.append(Side(name))
            self.restores.append(Side(name))
        self.data = 0

    @property
    def servers(self) -> list[int]:
        return [*self._pids("postgres-bench"), *self._pids("object-store-bench")]

    def _pids(self, label: str) -> list[int]:
        return [record.identity.pid for record in self.sandbox.running() if record.name == label]

    def fill(self) -> None:
        self.database.run("pgbench", "-i", "-q", "-s", str(self.options.scale), "-d", self.database.conninfo())
        with self.database.connect() as connection:
            connection.execute("create table noise (id bigint primary key, bytes bytea)")
            connection.execute("alter table noise alter bytes set storage external")
            rows = self.options.noise_mb * 1_000_000 // NOISE_ROW
            parts = " || ".join(f"sha512(convert_to(i::text || '-{part}', 'UTF8'))" for part in range(NOISE_ROW // 64))
            connection.execute(f"insert into noise select i, {parts} from generate_series(1, {rows}) i")
        with self.database.connect() as connection:
            connection.autocommit = True
            connection.execute("vacuum (freeze, analyze)")
            connection.execute("checkpoint")
        data = self.database.data_directory
        self.data = disk_used(data) - disk_used(data / "pg_wal")

    def round(self, number: int) -> None:
        mainstay = f"s3://bench/mainstay-{number}"
        guide = f"s3://bench/guide-{number}"
        # The order turns, so that a warm cache favours nobody.
        sides = [lambda: self._mainstay(mainstay), lambda: self._guide(guide), self._floor]
        if (rival := self.pgbackrest) is not None:
            sides.append(lambda: rival.backup(self._pids("postgres-bench"), self.scratch))
        for index in [(number + step) % len(sides) for step in range(len(sides))]:
            self.backups[index].rounds.append(sides[index]())
        self.restores[0].rounds.append(self._restore_mainstay(mainstay))
        self.restores[1].rounds.append(self._restore_guide(guide))
        if rival is not None:
            self.restores[2].rounds.append(rival.restore(self.scratch / "from-pgbackrest"))

    def _mainstay(self, url: str) -> Figures:
        inventory = self.scratch / "inventory.yaml"
        inventory.write_text(
            f"version: 1\npipeline: bench\nstore: {{url: {url}, connection: bench_store}}\n"
            "postgres:\n  bench: {connection: bench_postgres}\n"
        )
        figures = run(
            [sys.executable, "-m", "bench.take", "postgres/bench"],
            servers=self.servers,
            scratch=self.scratch,
            env=self._environment() | {"MAINSTAY_INVENTORY": str(inventory)},
            cwd=PROJECT,
        )
        return self._with_stored(figures, url)

    def _guide(self, url: str) -> Figures:
        target = empty(self.scratch / "guide")
        target.chmod(0o777)
        connection = f"host=127.0.0.1 port={self.database.port} user=mainstay"
        script = (
            f"set -e; {self.database.binaries.tool('pg_basebackup')} -d '{connection}' -D {target}/base -Ft -z -Xs -c fast; "
            f"{self.aws} s3 sync --quiet --endpoint-url {self.store.endpoint} {target} {url}"
        )
        figures = run(["sh", "-c", script], servers=self.servers, scratch=self.scratch, env=self._environment())
        empty(target)
        return self._with_stored(figures, url)

    def _floor(self) -> Figures:
        script = (
            f"tar -C {self.database.data_directory} --exclude=./pg_wal -cf - . | zstd -1 -T2 -q > /dev/null || true"
        )
        return run(["sh", "-c", script], servers=[], scratch=self.scratch)

    def _restore_mainstay(self, url: str) -> Figures:
        target = self.scratch / "restored"
        command = ["-m", "bench.give_back", "postgres/bench", url, str(target)]
        figures = run(
            [sys.executable, *command], servers=self._pids("object-store-bench"), env=self._environment(), cwd=PROJECT
        )
        subprocess.run(["rm", "-rf", target], check=True)
        return figures

    def _restore_guide(self, url: str) -> Figures:
        archive, target = empty(self.scratch / "archive"), self.scratch / "from-archive"
        subprocess.run(["rm", "-rf", target], check=True)
        start = (
            f"{self.database.binaries.tool('pg_ctl')} -D {target} -w -s -l {target}/log "
            f"-o '-p {self.database.port + 1} -c listen_addresses=127.0.0.1 -c unix_socket_directories={target}'"
        )
        unpack = (
            f"set -e; mkdir -m 700 {target}; tar -C {target} -xzf {archive}/base/base.tar.gz; "
            f"tar -C {target}/pg_wal -xzf {archive}/base/pg_wal.tar.gz; sync; {start} start; {start} -m fast stop"
        )
        self.scratch.chmod(0o777)
        sync = f"set -e; {self.aws} s3 sync --quiet --endpoint-url {self.store.endpoint} {url} {archive}; chmod -R a+rX {archive}; "
        command = ["runuser", "-u", self.user, "--", "sh", "-c"] if self.user else ["sh", "-c"]
        figures = run(
            ["sh", "-c", f"{sync} {' '.join(command)} {shlex.quote(unpack)}"],
            servers=self._pids("object-store-bench"),
            env=self._environment() | self.database.binaries.environment,
        )
        for folder in (archive, target):
            subprocess.run(["rm", "-rf", folder], check=True)
        return figures

    def _environment(self) -> dict[str, str]:
        store = {
            "login": self.store.access_key,
            "password": self.store.secret_key,
            "extra": {"endpoint_url": self.store.endpoint},
        }
        postgres = {"host": "127.0.0.1", "port": self.database.port, "login": "mainstay", "password": self.password}
        return {
            "PYTHONPATH": str(PROJECT),
            "AIRFLOW_CONN_BENCH_STORE": json.dumps(store),
            "AIRFLOW_CONN_BENCH_POSTGRES": json.dumps(postgres),
            "AWS_ACCESS_KEY_ID": self.store.access_key,
            "AWS_SECRET_ACCESS_KEY": self.store.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "PGPASSWORD": self.password,
        }

    def _with_stored(self, figures: Figures, url: str) -> Figures:
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        pages = self.store.client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        stored = sum(item["Size"] for page in pages for item in page.get("Contents", []))
        return Figures(**{**figures.__dict__, "stored": stored})

    def report(self) -> dict[str, Any]:
        def told(side: Side) -> dict[str, Any]:
            return {"name": side.name, "rounds": [{**one.__dict__, "cpu": one.cpu} for one in side.rounds]} | {
                figure: side.median(figure) for figure in ("wall", "cpu", "rss", "scratch", "stored")
            }

        return {
            "at": datetime.now(UTC).replace(microsecond=0).isoformat(),
            "machine": _machine(),
            "postgres": self.database.binaries.version,
            "object_store": self.store.implementation,
            "data_bytes": self.data,
            "scale": self.options.scale,
            "noise_mb": self.options.noise_mb,
            "backup": [told(side) for side in self.backups],
            "restore": [told(side) for side in self.restores],
        }


def _table(report: dict[str, Any]) -> str:
    lines = [
        (
            f"PostgreSQL {report['postgres']}, {report['data_bytes'] / 1e9:.2f} GB of data and no WAL (pgbench scale "
            f"{report['scale']} and {report['noise_mb']} MB that do not compress), store: {report['object_store']}; "
            f"{report['machine']}; {report['at']}. Medians of {len(report['backup'][0]['rounds'])} rounds."
        )
    ]
    for verb in ("backup", "restore"):
        first, *_ = report[verb]
        lines += [
            "",
            f"| {verb} | wall s | CPU s | stored MB | peak scratch MB | peak RSS MB | wall ratio | CPU ratio |",
        ]
        lines += ["|---|---|---|---|---|---|---|---|"]
        for side in report[verb]:
            cells = [
                side["name"].replace("|", "\\|"),
                *(f"{side[figure]:.1f}" for figure in ("wall", "cpu")),
                *(f"{side[figure] / 1e6:.0f}" for figure in ("stored", "scratch", "rss")),
                *(f"{side[figure] / first[figure]:.2f}x" for figure in ("wall", "cpu")),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _machine() -> str:
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 1e6
    system = f"{platform.system()} {platform.release().split('-')[0]}"
    return f"{os.cpu_count()} cores, {memory:.0f} GB, {system}, Python {platform.python_version()}"


def _awscli(folder: Path) -> Path:
    # In an environment of its own: it pins boto's core and would drag ours back.
    program = folder / "awscli" / "bin" / "aws"
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", folder / "awscli"], check=True)
        subprocess.run([folder / "awscli" / "bin" / "pip", "install", "-q", AWSCLI], check=True)
    return program


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=int, default=130, help="pgbench scale; 130 is 1.95 GB")
    parser.add_argument("--noise-mb", type=int, default=760, help="megabytes that do not compress")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--major", type=int, default=17, help="of PostgreSQL; Debian 12's pgBackRest knows 15 at most")
    parser.add_argument("--no-pgbackrest", action="store_true", help="leave it out though it is installed")
    parser.add_argument("--out", type=Path, default=PROJECT / ".mainstay" / "bench")
    options = parser.parse_args()
    found = None if options.no_pgbackrest else pgbackrest.release()
    if found is not None and pgbackrest.newest_major(found) < options.major:
        known = pgbackrest.newest_major(found)
        print(f"pgBackRest {found[0]}.{found[1]} knows PostgreSQL {known} at most: --major {known}", file=sys.stderr)
        found = None
    options.pgbackrest = found
    return options


if __name__ == "__main__":
    main()
