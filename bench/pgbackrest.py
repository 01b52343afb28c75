"""pgBackRest as one more side of ``bench.postgres``, where it is installed: its own repository, on the same disk as the others'.

Releases before 2.58 speak to a store over TLS only, so it gets an object store of its own kind behind TLS; that one's CPU is
counted like the other store's.  Its WAL goes by ``archive_command`` and only while it is measured.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from bench.measure import Figures, run
from include.engine.sandbox.accounts import own
from include.engine.sandbox.home import Sandbox
from include.engine.sandbox.process import ServerSpec
from include.engine.systems.object_store.server import ObjectStoreServer
from include.engine.systems.postgres.server import PostgresServer

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

STANZA = "bench"
BUCKET = "pgbackrest"
_KNOWS = ((2, 58, 18), (2, 54, 17), (2, 48, 16))  # from which minor release on which version of PostgreSQL


def release() -> tuple[int, int] | None:
    """Give the release that is installed; nothing when none is."""
    program = shutil.which("pgbackrest")
    if program is None:
        return None
    found = re.search(
        r"(\d+)\.(\d+)", subprocess.run([program, "version"], check=True, capture_output=True, text=True).stdout
    )
    return (int(found[1]), int(found[2])) if found else None


def newest_major(found: tuple[int, int]) -> int:
    """Give the newest PostgreSQL that a release knows, as far as that matters here."""
    return next((major for one, minor, major in _KNOWS if found >= (one, minor)), 15)


class TlsStore(ObjectStoreServer):
    """An object store with a certificate that it signed itself."""

    @property
    def endpoint(self) -> str:
        return f"https://{self.host}:{self.port}"

    def client(self) -> S3Client:
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            verify=str(self._files[0]),
            config=Config(s3={"addressing_style": "path"}),
        )

    @property
    def _files(self) -> tuple[Path, Path]:
        folder = self.sandbox.directory(self.label)
        return folder / "certificate.pem", folder / "key.pem"

    def _spec(self) -> ServerSpec:
        certificate, key = self._files
        if not certificate.exists():
            options = ["-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
            options += ["-addext", "subjectAltName=IP:127.0.0.1"]
            command: list[str | Path] = ["openssl", "req", "-x509", *options, "-keyout", key, "-out", certificate]
            subprocess.run(command, check=True, capture_output=True)
            for file in (certificate, key):
                own(file, self.sandbox.account, mode=0o600)
        spec = super()._spec()
        program, *rest = spec.command
        return ServerSpec(
            command=[program, "--cert", certificate, "--key", key, *rest],
            directory=spec.directory,
            environment=spec.environment,
            ports=spec.ports,
            grace=spec.grace,
        )


class PgBackRest:
    """Its configuration, its repository, and what is measured of it."""

    def __init__(self, sandbox: Sandbox, database: PostgresServer) -> None:
        self.sandbox, self.database = sandbox, database
        self.store = TlsStore(sandbox, BUCKET)
        self.folder = sandbox.directory(BUCKET)
        self.configuration = self.folder / "pgbackrest.conf"

    def start(self) -> Self:
        """Start the store, write the configuration and make the stanza."""
        self.store.start().create_bucket(BUCKET)
        own(self.folder, self.sandbox.account, mode=0o700)
        self.configuration.write_text(self._configured())
        own(self.configuration, self.sandbox.account, mode=0o600)
        environment = {**os.environ, **self._environment}
        subprocess.run(self._command("stanza-create"), check=True, env=environment, cwd="/")
        return self

    def backup(self, servers: Sequence[int], scratch: Path) -> Figures:
        """Take a full backup, with its own archiving switched on for as long as it takes."""
        self._archive_by(shlex.join([*self._program, "archive-push", "%p"]))
        try:
            command = self._command("--type=full", "backup")
            before = self._stored()
            figures = run(
                command, servers=[*servers, *self.pids], scratch=scratch, env=self._environment, cwd=Path("/")
            )
        finally:
            self._archive_by("/bin/true")
        return Figures(**{**figures.__dict__, "stored": self._stored() - before})

    def restore(self, target: Path) -> Figures:
        """Restore the newest backup, start it and wait until it takes writes; then stop it."""
        tools, port = self.database.binaries, self.database.port + 2
        start = (
            f"{tools.tool('pg_ctl')} -D {target} -w -s -t 600 -l {target}/log -o '-p {port} -c archive_mode=off "
            f"-c listen_addresses=127.0.0.1 -c unix_socket_directories={target}'"
        )
        restore = shlex.join(
            [*self._program, f"--pg1-path={target}", "--type=immediate", "--target-action=promote", "restore"]
        )
        asked = f"{tools.tool('psql')} -h {target} -p {port} -U postgres -Atc 'select pg_is_in_recovery()' postgres"
        script = (
            f"set -e; mkdir -m 700 {target}; {restore}; {start} start; "
            f'until [ "$({asked})" = f ]; do sleep 0.05; done; {start} -m fast stop'
        )
        target.parent.chmod(0o777)
        figures = run(
            [*self._as_account, "sh", "-c", script],
            servers=self.pids,
            env=self._environment | self.database.binaries.environment,
            cwd=Path("/"),
        )
        subprocess.run(["rm", "-rf", target], check=True)
        return figures

    @property
    def pids(self) -> list[int]:
        return [one.identity.pid for one in self.sandbox.running() if one.name == self.store.label]

    @property
    def _environment(self) -> dict[str, str]:
        return {"PGPASSWORD": self.database.password}

    @property
    def _program(self) -> list[str]:
        return ["pgbackrest", f"--config={self.configuration}", f"--stanza={STANZA}"]

    @property
    def _as_account(self) -> list[str]:
        return ["runuser", "-u", self.sandbox.account.name, "--"] if self.sandbox.account.popen else []

    def _command(self, *arguments: str) -> list[str]:
        return [*self._as_account, *self._program, *arguments]

    def _archive_by(self, command: str) -> None:
        with self.database.connect() as connection:
            connection.execute(f"alter system set archive_command = '{command}'")
            connection.execute("select pg_reload_conf()")

    def _stored(self) -> int:
        pages = self.store.client().get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        return sum(item["Size"] for page in pages for item in page.get("Contents", []))

    def _configured(self) -> str:
        return f"""[global]
repo1-type=s3
repo1-path=/repository
repo1-s3-bucket={BUCKET}
repo1-s3-endpoint=127.0.0.1
repo1-storage-port={self.store.port}
repo1-storage-verify-tls=n
repo1-s3-uri-style=path
repo1-s3-region={self.store.region}
repo1-s3-key={self.store.access_key}
repo1-s3-key-secret={self.store.secret_key}
repo1-retention-full=9
compress-type=zst
compress-level=1
process-max=2
start-fast=y
lock-path={self.folder}/lock
log-path={self.folder}/log
log-level-file=off
log-level-console=error

[{STANZA}]
pg1-path={self.database.data_directory}
pg1-port={self.database.port}
pg1-socket-path={self.database.socket_directory}
pg1-user=postgres
"""
