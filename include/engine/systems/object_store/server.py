"""A real S3 server in a sandbox: on loopback, with generated keys, throw-away.

::

    objects = ObjectStoreServer(sandbox).start()
    objects.create_bucket("backups", object_lock=True)
    objects.client().put_object(Bucket="backups", Key="k", Body=b"v")      # boto3
    S3Store("backups", config=objects.obstore_config(), client_options={"allow_http": True})
    objects.stop()
"""

from __future__ import annotations

import http.client
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

from include.engine.errors import Unreachable
from include.engine.sandbox.distributions import Shelf
from include.engine.sandbox.home import Sandbox
from include.engine.sandbox.ports import LOOPBACK
from include.engine.sandbox.process import ServerProcess, ServerSpec
from include.engine.systems.object_store.implementations import IMPLEMENTATIONS, REGION, Instance, choose

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class ObjectStoreServer:
    """One S3 server, started or not; versitygw, or SeaweedFS where there is no Go to build that.

    Whoever constructs it again with the same sandbox and name, in this process or a later one, has the same server.

    :param name: unique among the sandbox's object stores
    :param port: TCP port on 127.0.0.1, unless ``$MAINSTAY_PORT_OBJECT_STORE_<NAME>`` says otherwise; a free one that
        stays the same when neither is given
    """

    host = LOOPBACK
    region = REGION

    def __init__(self, sandbox: Sandbox, name: str = "main", *, port: int | None = None) -> None:
        self.sandbox = sandbox
        self.name = name
        self.label = f"object-store-{name}"
        self.port = sandbox.port(self.label, port)

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"http://{self.host}:{self.port}"

    @property
    def access_key(self) -> str:
        """The id of its one key, which may do everything."""
        return self.sandbox.secret(f"{self.label}-access-key")

    @property
    def secret_key(self) -> str:
        """The secret of its one key."""
        return self.sandbox.secret(f"{self.label}-secret-key")

    @cached_property
    def implementation(self) -> str:
        """``versitygw`` or ``seaweedfs``."""
        return choose(self.sandbox.directory(self.label), Shelf.of(self.sandbox.home))

    @property
    def running(self) -> bool:
        """Whether it runs now."""
        return self._process.running

    @property
    def log(self) -> Path:
        """The file with its log."""
        return self._process.log

    def start(self, *, timeout: float = 60.0) -> Self:
        """Start it unless it runs, and wait until it answers.

        :param timeout: seconds until it answers; building it, minutes at worst, is not counted
        :raises Contended: somebody else holds the port
        :raises Unreachable: it ended or did not answer in time; the hint shows its log
        """
        self._process.start(self._spec)
        self._process.wait_ready(self._answers, timeout=timeout)
        return self

    def stop(self) -> None:
        """Stop it; no process of it is left, and what it stored stays."""
        self._process.stop()

    def kill(self) -> None:
        """SIGKILL all its processes at once."""
        self._process.kill()

    def restart(self) -> Self:
        """Stop and start it."""
        self.stop()
        return self.start()

    def client(self) -> S3Client:
        """A new boto3 client; its errors are botocore's."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 3, "mode": "standard"}),
        )

    def obstore_config(self) -> dict[str, str]:
        """The ``config`` of an ``obstore.store.S3Store`` for it, with the secret: do not log it.

        The endpoint is plain HTTP, so the store also needs ``client_options={"allow_http": True}``.
        """
        return {
            "aws_endpoint": self.endpoint,
            "aws_region": self.region,
            "aws_access_key_id": self.access_key,
            "aws_secret_access_key": self.secret_key,
        }

    def create_bucket(self, name: str, *, object_lock: bool = False) -> str:
        """Create the bucket *name* unless it is there, and return its name.

        :param object_lock: let its objects be locked; only possible when it is created, and turns versioning on
        """
        client = self.client()
        if name not in {bucket.get("Name") for bucket in client.list_buckets().get("Buckets", [])}:
            client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=object_lock)
        return name

    @property
    def _process(self) -> ServerProcess:
        return self.sandbox.server(self.label)

    def _spec(self) -> ServerSpec:
        """Make what the server needs, and say how to run it."""
        implementation = IMPLEMENTATIONS[self.implementation]
        program = Shelf.of(self.sandbox.home).obtain(implementation.program)
        instance = Instance(
            sandbox=self.sandbox,
            label=self.label,
            directory=self.sandbox.directory(self.label),
            port=self.port,
            access_key=self.access_key,
            secret_key=self.secret_key,
        )
        return implementation.spec(program, instance)

    def _answers(self) -> bool:
        """Whether it lists buckets: SeaweedFS opens the port long before its parts have found each other."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self.client().list_buckets()
        except (BotoCoreError, ClientError, http.client.HTTPException) as error:
            raise Unreachable(f"{self.endpoint} did not list buckets: {error}", hint=f"Read {self.log}") from error
        return True
