"""Where a command finds its pipeline: the inventory, or a bucket alone.

::

    @app.command()
    @finds_pipeline
    def catalog(whence: Whence, target: ...) -> None:      # gets --inventory, --bucket, --endpoint … as options
        pipeline = whence.pipeline()
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from include.engine.contracts import Connection, Connections
from include.engine.errors import Misconfigured, NotFound

if TYPE_CHECKING:
    from include.engine.inventory import Inventory
    from include.engine.verbs.pipeline import Pipeline


@dataclass(frozen=True, kw_only=True)
class Whence:
    """What the shared options said.  Each field is one option."""

    inventory_file: Annotated[
        Path | None,
        typer.Option(
            "--inventory",
            help="the inventory, when it is not include/config/inventory.yaml",
            envvar="MAINSTAY_INVENTORY",
        ),
    ] = None
    bucket: Annotated[
        str | None,
        typer.Option(
            "--bucket", help="work from this bucket alone, without an inventory: s3://bucket/prefix, file:///…"
        ),
    ] = None
    endpoint: Annotated[
        str | None,
        typer.Option("--endpoint", help="with --bucket: URL of an S3 server other than AWS", envvar="AWS_ENDPOINT_URL"),
    ] = None
    region: Annotated[
        str | None, typer.Option("--region", help="with --bucket: region of the bucket", envvar="AWS_REGION")
    ] = None
    store_connection: Annotated[
        str | None,
        typer.Option(
            "--store-connection",
            help="with --bucket: take key pair and endpoint from AIRFLOW_CONN_<NAME> instead of AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY",
        ),
    ] = None
    identity_file: Annotated[
        Path | None,
        typer.Option("--identity-file", help="with --bucket: file with the age secret key of an encrypted backup"),
    ] = None

    def pipeline(self) -> Pipeline:
        """Open the pipeline.

        :raises NotFound: when there is no inventory
        :raises Misconfigured: when the inventory or a connection is wrong
        """
        from include.engine import wiring

        if self.bucket:
            return wiring.open_bucket(self.bucket, self.store(), identities=self._identities())
        self._nothing_without_bucket()
        return wiring.open_pipeline(self.inventory(), self._connections)

    def log_in_ahead(self, names: Sequence[str]) -> None:
        """Begin to log in to the servers of some targets, of all when none is named (see :mod:`include.engine.logins`)."""
        from include.engine import logins

        if not self.bucket:
            logins.begin(self.path, self._connections, names)

    def inventory(self) -> Inventory:
        """Read the inventory.

        :raises NotFound: when there is none
        :raises Misconfigured: with all its mistakes
        """
        from include.engine import wiring

        return wiring.load_inventory(self.path)

    @property
    def path(self) -> Path:
        """Where the inventory is looked for: said, else the demo's, which knows where its servers are, else the repository's."""
        if self.inventory_file:
            return self.inventory_file
        from include.engine import wiring
        from include.engine.cli.demo_place import existing_inventory

        return existing_inventory() or wiring.inventory_path()

    def store(self) -> Connection | None:
        """Give how to log in to the bucket; nothing for the platform's own credentials.

        :raises Misconfigured: when the named connection is not defined
        """
        from include.engine import wiring

        if self.store_connection:
            return wiring.EnvironmentConnections().get(self.store_connection)
        key = os.environ.get("AWS_ACCESS_KEY_ID", "")
        if not (key or self.endpoint or self.region):
            return None  # the platform's own credentials: an instance profile, a service account
        extra = {
            "endpoint_url": self.endpoint or "",
            "region_name": self.region or "us-east-1",
            "session_token": os.environ.get("AWS_SESSION_TOKEN", ""),
        }
        return Connection(
            login=key,
            password=os.environ.get("AWS_SECRET_ACCESS_KEY", ""),
            extra={name: value for name, value in extra.items() if value},
        )

    @cached_property
    def _connections(self) -> Connections:
        from include.engine.cli.connections import ShellConnections

        return ShellConnections(self.path)

    def _identities(self) -> tuple[str, ...]:
        if self.identity_file is None:
            return ()
        from include.engine.store.encryption import identities_in

        try:
            text = self.identity_file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise NotFound(
                f"{self.identity_file} cannot be read: {type(error).__name__}",
                hint="give the file that `./mainstay key new` wrote",
            ) from error
        return identities_in(text)

    def _nothing_without_bucket(self) -> None:
        # --endpoint and --region may come from the environment for other tools, and mean nothing here.
        given = [
            name
            for name, value in (("--store-connection", self.store_connection), ("--identity-file", self.identity_file))
            if value is not None
        ]
        if given:
            raise Misconfigured(
                f"without --bucket there is no use for {' and '.join(given)}",
                hint="the inventory names its own connections",
            )


def finds_pipeline(command: Callable[..., None]) -> Callable[..., None]:
    """Give *command*, whose first parameter is a :class:`Whence`, the shared options in its place."""
    shared = get_type_hints(Whence, include_extras=True)
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]

    @wraps(command)
    def called(**options: Any) -> None:
        whence = Whence(**{name: options.pop(name) for name in shared})
        command(whence, **options)

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        *(parameter.replace(kind=keyword) for parameter in own),
        *(inspect.Parameter(name, keyword, default=None, annotation=hint) for name, hint in shared.items()),
    ]
    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return called


def notice(text: str) -> None:
    """Say on standard error what a person should know about where this comes from."""
    print(text, file=sys.stderr, flush=True)
