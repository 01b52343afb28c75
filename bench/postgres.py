"""PostgreSQL: backup and restore, Mainstay beside the guide's way and beside the floor that physics sets.

The data is pgbench at a scale, which compresses well, plus rows that do not compress. All sides work on the same server and the
same store, in turn, for several rounds. ``python -m bench.postgres --help`` lists the options.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

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
        self.scratch = sandbox.directory("scratch")
        self.database = PostgresServer(sandbox, "bench", durable=True, settings={"max_wal_size": "4GB"}).start()
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
        self.data = 0

    @property
    def servers(self) -> list[int]:
        processes = (self.database.pid, self.store.pid)
        return [pid for pid in processes if pid is not None]

    def fill(self) -> None:
        self.database.run("pgbench", "-i", "-q", "-s", str(self.options.scale), "postgres")
        with self.database.connect() as connection:
            connection.execute("create table noise (id bigint primary key, bytes bytea)")
            connection.execute("alter table noise alter bytes set storage external")
            rows = self.options.noise_mb * 1_000_000 // NOISE_ROW
            parts = " || ".join(f"sha512(convert_to(i::text || '-{part}', 'UTF8'))" for part in range(NOISE_ROW // 64))
            connection.execute(f"insert into noise select i, {parts} from generate_series(1, {rows}) i")  # type: ignore[arg-type]
        with self.database.connect() as connection:
            connection.autocommit = True
            connection.execute("vacuum (freeze, analyze)")
            connection.execute("checkpoint")
        self.data = disk_used(self.database.data_directory)

    def round(self, number: int) -> None:
        mainstay = f"s3://bench/mainstay-{number}"
        guide = f"s3://bench/guide-{number}"
        # The order turns, so that a warm cache favours nobody.
        sides = [lambda: self._mainstay(mainstay), lambda: self._guide(guide), self._floor]
        for index in [(number + step) % len(sides) for step in range(len(sides))]:
            self.backups[index].rounds.append(sides[index]())
        self.restores[0].rounds.append(self._restore_mainstay(mainstay))
        self.restores[1].rounds.append(self._restore_guide(guide))

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
        os.chmod(target, 0o777)
        connection = f"host=127.0.0.1 port={self.database.port} user=mainstay"
        script = (
            f"set -e; {self.database.binaries.path('pg_basebackup')} -d '{connection}' -D {target}/base -Ft -z -Xs -c fast; "
            f"{self.aws} s3 sync --quiet --endpoint-url {self.store.endpoint} {target} {url}"
        )
        figures = run(["sh", "-c", script], servers=self.servers, scratch=self.scratch, env=self._environment())
        empty(target)
        return self._with_stored(figures, url)

    def _floor(self) -> Figures:
        script = f"tar -C {self.database.data_directory} -cf - . | zstd -1 -T2 -q > /dev/null || true"
        return run(["sh", "-c", script], servers=[], scratch=self.scratch)

    def _restore_mainstay(self, url: str) -> Figures:
        target = self.scratch / "restored"
        command = ["-m", "bench.give_back", "postgres/bench", url, str(target)]
        figures = run([sys.executable, *command], servers=[self.store.pid or 0], env=self._environment(), cwd=PROJECT)
        subprocess.run(["rm", "-rf", target], check=True)
        return figures

    def _restore_guide(self, url: str) -> Figures:
        archive, target = empty(self.scratch / "archive"), self.scratch / "from-archive"
        subprocess.run(["rm", "-rf", target], check=True)
        binaries = self.database.binaries
        port = self.database.port + 1
        script = (
            f"set -e; {self.aws} s3 sync --quiet --endpoint-url {self.store.endpoint} {url} {archive}; "
            f"mkdir -m 700 -p {target}; tar -C {target} -xzf {archive}/base/base.tar.gz; "
            f"tar -C {target}/pg_wal -xzf {archive}/base/pg_wal.tar.gz; sync; "
            f"{binaries.path('pg_ctl')} -D {target} -w -s -l {target}/log "
            f"-o '-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={target}' start; "
            f"{binaries.path('pg_ctl')} -D {target} -w -s -m fast stop"
        )
        for folder in (archive, target.parent):
            os.chmod(folder, 0o777)
        figures = run(
            ["sh", "-c", script],
            servers=[self.store.pid or 0],
            env=self._environment() | {"HOME": str(archive), **dict(binaries.environment)},
            user=self.user,
            scratch=None,
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

    def report(self) -> dict[str, object]:
        def told(side: Side) -> dict[str, object]:
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


def _table(report: dict[str, object]) -> str:
    lines = [
        f"PostgreSQL {report['postgres']}, {int(str(report['data_bytes'])) / 1e9:.2f} GB in the data directory "
        f"(pgbench scale {report['scale']} and {report['noise_mb']} MB that do not compress), store: {report['object_store']}; "
        f"{report['machine']}; {report['at']}. Medians of the rounds.",
    ]
    for verb in ("backup", "restore"):
        sides = report[verb]
        assert isinstance(sides, list)
        first = sides[0]
        lines += [
            "",
            f"| {verb} | wall s | CPU s | stored MB | peak scratch MB | peak RSS MB | wall vs Mainstay | CPU vs Mainstay |",
        ]
        lines += ["|---|---|---|---|---|---|---|---|"]
        for side in sides:
            lines.append(
                f"| {side['name'].replace('|', chr(92) + '|')} | {side['wall']:.1f} | {side['cpu']:.1f} | {side['stored'] / 1e6:.0f} | "
                f"{side['scratch'] / 1e6:.0f} | {side['rss'] / 1e6:.0f} | {side['wall'] / first['wall']:.2f}x | "
                f"{side['cpu'] / first['cpu']:.2f}x |"
            )
    return "\n".join(lines) + "\n"


def _machine() -> str:
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 1e6
    return f"{os.cpu_count()} cores, {memory:.0f} GB, {platform.system()} {platform.release().split('-')[0]}, Python {platform.python_version()}"


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
    parser.add_argument("--out", type=Path, default=PROJECT / ".mainstay" / "bench")
    return parser.parse_args()


if __name__ == "__main__":
    main()
