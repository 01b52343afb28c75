"""The configuration files of one sandboxed node, as text.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml


@dataclass(frozen=True, kw_only=True)
class NodeConfiguration:
    """What one node is to be.

    :param directory: the node's own: configuration, data, commit log and temporary files lie below it
    :param token: its one token, or none to let it choose four
    """

    cluster: str
    directory: Path
    address: str
    rack: str
    native_port: int
    storage_port: int
    seeds: Sequence[str]
    token: int | None = None
    format: str = "big"
    extra: dict[str, object] | None = None

    def cassandra_yaml(self) -> str:
        """The server's own file."""
        ring: dict[str, object] = {"num_tokens": 4}
        if self.token is not None:
            # All nodes of a new ring start at once: nobody has data to stream to anybody.
            ring = {"num_tokens": 1, "initial_token": str(self.token), "auto_bootstrap": False}
        seeds = ",".join(f"{seed}:{self.storage_port}" for seed in self.seeds)
        top = self.directory
        return yaml.safe_dump(
            {
                "cluster_name": self.cluster,
                **ring,
                "partitioner": "org.apache.cassandra.dht.Murmur3Partitioner",
                "seed_provider": [
                    {
                        "class_name": "org.apache.cassandra.locator.SimpleSeedProvider",
                        "parameters": [{"seeds": seeds}],
                    }
                ],
                "listen_address": self.address,
                "rpc_address": self.address,
                "native_transport_port": self.native_port,
                "storage_port": self.storage_port,
                "endpoint_snitch": "GossipingPropertyFileSnitch",
                "authenticator": "PasswordAuthenticator",
                "authorizer": "CassandraAuthorizer",
                "role_manager": "CassandraRoleManager",
                "data_file_directories": [f"{top}/data"],
                "commitlog_directory": f"{top}/commitlog",
                "saved_caches_directory": f"{top}/saved_caches",
                "hints_directory": f"{top}/hints",
                "cdc_raw_directory": f"{top}/cdc_raw",
                "commitlog_sync": "periodic",
                "commitlog_sync_period": "10000ms",
                "commitlog_segment_size": "8MiB",
                "commitlog_total_space": "256MiB",
                "memtable_heap_space": "64MiB",
                "file_cache_size": "32MiB",
                "key_cache_size": "8MiB",
                "concurrent_compactors": 1,
                # A sandbox shares few cores with much else: an answer that is late is still an answer.
                "read_request_timeout": "20s",
                "range_request_timeout": "30s",
                "write_request_timeout": "20s",
                "request_timeout": "30s",
                "truncate_request_timeout": "120s",
                "uuid_sstable_identifiers_enabled": True,
                "storage_compatibility_mode": "NONE",
                "sstable": {"selected_format": self.format},
                "materialized_views_enabled": True,
                "user_defined_functions_enabled": True,
                **(self.extra or {}),
            },
            sort_keys=False,
        )

    def rackdc(self) -> str:
        """Where the node says it stands."""
        return f"dc=dc1\nrack={self.rack}\n"

    def logback(self) -> str:
        """One log on standard output, which the sandbox keeps."""
        return (
            '<configuration><appender name="out" class="ch.qos.logback.core.ConsoleAppender"><encoder>'
            "<pattern>%-5level [%thread] %date{ISO8601} %F:%L - %msg%n</pattern></encoder></appender>"
            '<root level="INFO"><appender-ref ref="out"/></root></configuration>\n'
        )


STORAGE_SERVICE = "org.apache.cassandra.db:type=StorageService"
TAKE_SNAPSHOT = "takeSnapshot(java.lang.String,java.util.Map,[Ljava.lang.String;)"
CLEAR_SNAPSHOT = "clearSnapshot(java.lang.String,[Ljava.lang.String;)"
SNAPSHOT_DETAILS = "getSnapshotDetails(java.util.Map)"


def jolokia_properties(
    *, address: str, port: int, authority: Path, certificate: Path, key: Path, client: str, policy: Path
) -> str:
    """Jolokia's settings: TLS on both sides, one client name, least privilege."""
    return "\n".join(
        [
            f"host={address}",
            f"port={port}",
            "protocol=https",
            f"caCert={authority}",
            f"serverCert={certificate}",
            f"serverKey={key}",
            "useSslClientAuthentication=true",
            f"clientPrincipal=CN={client}",
            f"policyLocation={policy.as_uri()}",
            # The default executor has one thread: a slow snapshot would block every status request.
            "executor=fixed",
            "threadNr=4",
            "discoveryEnabled=false",
            "",
        ]
    )


def jolokia_policy() -> str:
    """What Mainstay may do on a node, and nothing else: take, list and clear snapshots, and look.

    Only ``version`` stands under ``commands``: a command that is listed there is allowed on *every* bean.
    """
    attributes = ("OperationMode", "LiveNodes", "UnreachableNodes", "ReleaseVersion", "AllDataFileLocations")
    operations = (TAKE_SNAPSHOT, CLEAR_SNAPSHOT, SNAPSHOT_DETAILS)
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<restrict>\n'
        "  <http><method>post</method></http>\n"
        "  <commands><command>version</command></commands>\n"
        f"  <allow>\n    <mbean><name>{STORAGE_SERVICE}</name>\n"
        + "".join(f'      <attribute mode="read">{name}</attribute>\n' for name in attributes)
        + "".join(f"      <operation>{name}</operation>\n" for name in operations)
        + "    </mbean>\n"
        "    <mbean><name>org.apache.cassandra.metrics:*</name>\n"
        '      <attribute mode="read">*</attribute>\n    </mbean>\n'
        "    <mbean><name>org.apache.cassandra.net:type=StreamManager</name>\n"
        '      <attribute mode="read">CurrentStreams</attribute>\n    </mbean>\n'
        "  </allow>\n</restrict>\n"
    )
