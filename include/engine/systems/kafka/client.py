"""Asks a cluster and changes it: metadata, offsets, groups, configurations.  Pure Python, so nothing here can crash a process.

Records move through librdkafka, in a child process (``isolation``); everything else goes through kafka-python, because one
call of the usual admin client segfaults when a coordinator is not ready.

::

    with open_admin(connection) as admin:
        ends = admin.offsets(partitions, LATEST)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

from msgspec import Struct

from include.engine.contracts import Connection
from include.engine.errors import Unreachable
from include.engine.systems.kafka.access import kafka_python_settings
from include.engine.systems.kafka.refusals import listening, no_bootstrap, told

LATEST, EARLIEST, NEWEST = -1, -2, -3  # ListOffsets' own numbers; NEWEST is the offset of the greatest timestamp
_PATIENCE = 30.0  # seconds that a question may be repeated: an election takes up to ten
_REQUEST_MS = 30_000  # that one request may take, at most: less for who has less time
_SETUP_MS = {"ms": _REQUEST_MS // 3, "max_ms": _REQUEST_MS}  # likewise, the making of a connection; more after failures
_WITHOUT_MEMBERS = ("", "Unknown", "Empty", "Dead")  # states of groups
Answer = TypeVar("Answer")


class TP(NamedTuple):
    """A topic-partition."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


class Broker(Struct, frozen=True):
    """A registered broker."""

    id: int
    host: str
    port: int
    fenced: bool = False


class PartitionState(Struct, frozen=True):
    """Who leads a partition and who has it."""

    index: int
    leader: int
    replicas: tuple[int, ...]
    isr: tuple[int, ...]


class TopicState(Struct, frozen=True):
    """A topic as the cluster describes it."""

    name: str
    id: str
    internal: bool
    partitions: tuple[PartitionState, ...]

    @property
    def factor(self) -> int:
        """Its replication factor: the least of its partitions'."""
        return min((len(partition.replicas) for partition in self.partitions), default=0)


class ConfigEntry(Struct, frozen=True):
    """One configuration value that is not the default, and where it comes from."""

    value: str | None
    source: str


class TopicPlan(Struct, frozen=True, kw_only=True):
    """A topic to create."""

    name: str
    partitions: int
    factor: int
    configs: Mapping[str, str] = {}


class Admin:
    """An open admin connection.  Every method raises Mainstay's errors only, and repeats what a retry can mend."""

    def __init__(self, client: Any, *, patience: float = _PATIENCE) -> None:
        self.client = client
        self._patience = patience

    def cluster_id(self) -> str:
        """Give the id that tells this cluster from all others."""
        return str(self.ask("the cluster's id", self.client.describe_cluster)["cluster_id"])

    def brokers(self) -> list[Broker]:
        """Give the registered brokers."""
        found = self.ask("the brokers", self.client.describe_cluster)["brokers"]
        return [Broker(b["broker_id"], b["host"], b["port"], bool(b.get("is_fenced"))) for b in found]

    def version(self) -> str:
        """Give the broker's version, as far as its protocol tells it."""
        return ".".join(map(str, self.client._manager.broker_version))  # noqa: SLF001 - it has no public name

    def topics(self, names: Collection[str] | None = None) -> dict[str, TopicState]:
        """Describe topics, all when *names* is None.  Those that do not exist are left out."""
        if names is not None and not names:
            return {}
        found = self.ask("the topics", lambda: self.client.describe_topics(None if names is None else sorted(names)))
        return {topic["name"]: _topic(topic) for topic in found if topic["error_code"] == 0}

    def offsets(self, partitions: Iterable[TP], when: int, *, committed: bool = True) -> dict[TP, int]:
        """Give each partition's offset at *when*: ``EARLIEST``, ``LATEST``, ``NEWEST`` or a timestamp in milliseconds.

        :param committed: do not look past the first open transaction
        :raises NotFound: when a partition does not exist
        """
        return {tp: at for tp, (at, _) in self.offsets_and_epochs(partitions, when, committed=committed).items()}

    def offsets_and_epochs(
        self, partitions: Iterable[TP], when: int, *, committed: bool = True
    ) -> dict[TP, tuple[int, int]]:
        """Give each partition's offset at *when* and the epoch of the leader that tells it (-1 when it tells none)."""
        from kafka import TopicPartition

        wanted = {TopicPartition(*tp): when for tp in partitions}
        if not wanted:
            return {}
        isolation = 1 if committed else 0
        found = self.ask("offsets", lambda: self.client.list_partition_offsets(wanted, isolation_level=isolation))
        return {
            TP(tp.topic, tp.partition): (at.offset, -1 if at.leader_epoch is None else at.leader_epoch)
            for tp, at in found.items()
        }

    def groups(self) -> dict[str, str]:
        """Give every group with its type: consumer, classic, share or streams."""
        found = self.ask("the groups", self.client.list_groups)
        return {_field(g, "group_id"): str(_field(g, "group_type") or "classic").lower() for g in found}

    def active_groups(self) -> set[str]:
        """Name the groups that have members, or are about to; of brokers that tell no state (before 2.6), none."""
        found = self.ask("the groups", self.client.list_groups)
        return {_field(g, "group_id") for g in found if str(_field(g, "group_state") or "") not in _WITHOUT_MEMBERS}

    def describe_groups(self, names: Collection[str]) -> dict[str, dict[str, Any]]:
        """Describe groups: state and members."""
        if not names:
            return {}
        return dict(self.ask("the groups", lambda: self.client.describe_groups(sorted(names))))

    def committed(self, groups: Collection[str]) -> dict[str, dict[TP, tuple[int, str]]]:
        """Give what each group has committed: offset and metadata by partition.  A group that is not known has nothing."""
        if not groups:
            return {}
        specs = dict.fromkeys(sorted(groups))
        found = self.ask("the groups' offsets", lambda: self.client.list_group_offsets(dict(specs)))
        return {
            group: {
                TP(tp.topic, tp.partition): (at.offset, at.metadata or "")
                for tp, at in offsets.items()
                if at.offset >= 0
            }
            for group, offsets in found.items()
        }

    def commit(self, group: str, offsets: Mapping[TP, tuple[int, str]]) -> None:
        """Set a group's positions, and read them back.

        :raises Contended: when the group has members: their own commits would overwrite ours
        """
        from kafka import TopicPartition
        from kafka.structs import OffsetAndMetadata

        wanted = {TopicPartition(*tp): OffsetAndMetadata(offset, note, -1) for tp, (offset, note) in offsets.items()}
        if not wanted:
            return

        def attempt() -> None:
            for tp, error in self.client.alter_group_offsets(group, wanted).items():
                if error.__name__ != "NoError":
                    raise error(f"group {group}, {tp.topic}-{tp.partition}")

        self.ask(f"the positions of the group {group}", attempt)
        # An offset commit was once seen to return without an error while nothing was stored.
        stored = self.committed([group]).get(group, {})
        wrong = [str(tp) for tp, position in offsets.items() if stored.get(tp) != tuple(position)]
        if wrong:
            raise Unreachable(
                f"the group {group} does not have the positions that were just committed: {', '.join(wrong[:5])}",
                hint="a coordinator moved or a consumer of the group runs; stop its consumers and run it again",
            )

    def delete_groups(self, groups: Collection[str]) -> None:
        """Remove groups; those that are not there are no error."""
        from kafka import errors as theirs

        def attempt() -> None:
            for group, said in self.client.delete_groups(sorted(groups)).items():
                if said not in ("OK", "GroupIdNotFoundError"):
                    raise getattr(theirs, said, theirs.KafkaError)(f"the group {group} was not deleted ({said})")

        if groups:
            self.ask("the deletion of groups", attempt)

    def ask(self, what: str, question: Callable[[], Answer]) -> Answer:
        """Ask, and ask again while the cluster says that it is not ready, until patience ends."""
        deadline = time.monotonic() + self._patience
        pause = 0.05
        while True:
            try:
                with told(what):
                    return question()
            except Unreachable:
                if time.monotonic() >= deadline:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, 1.0)


@contextmanager
def open_admin(connection: Connection, *, patience: float = _PATIENCE) -> Iterator[Admin]:
    """Open an admin connection.

    :param patience: seconds to wait for a first answer, and for each later one
    :raises Unreachable: when no server answers
    :raises Unauthorized: when the credentials or the certificate are not accepted
    """
    client = _connected(kafka_python_settings(connection), patience)
    try:
        yield Admin(client, patience=patience)
    finally:
        client.close()


def _connected(settings: dict[str, Any], patience: float) -> Any:
    from kafka import KafkaAdminClient
    from kafka.errors import KafkaError
    from kafka.net.compat import KafkaNetClient

    made: list[Any] = []
    milliseconds = int(patience * 1000)
    times = {"bootstrap_timeout_ms": milliseconds, "request_timeout_ms": min(milliseconds, _REQUEST_MS)}
    setup = {f"socket_connection_setup_timeout_{kind}": min(milliseconds, most) for kind, most in _SETUP_MS.items()}

    def remembered(**config: Any) -> Any:
        made.append(KafkaNetClient(**config, **setup))  # the admin client itself does not know these
        return made[0]

    with listening() as said:
        try:
            return KafkaAdminClient(kafka_client=remembered, **times, **settings)
        except (KafkaError, OSError) as error:
            # What failed to open is nobody's to close, and its thread would run on.  Others log beside us: only its lines count.
            lines = said.of(_ended(made))
            sasl = settings["security_protocol"].startswith("SASL")
            raise no_bootstrap(",".join(settings["bootstrap_servers"]), lines, error, sasl=sasl) from error


def _ended(made: Sequence[Any]) -> int | None:
    """End a client's thread, and give which one it was."""
    if not made:
        return None
    net = made[0]._manager._net  # noqa: SLF001 - it has no public name
    thread = net._io_thread  # noqa: SLF001
    made[0].close()
    net.stop()
    return thread.ident if thread is not None else None


def _topic(found: Mapping[str, Any]) -> TopicState:
    partitions = tuple(
        PartitionState(p["partition_index"], p["leader_id"], tuple(p["replica_nodes"]), tuple(p["isr_nodes"]))
        for p in sorted(found["partitions"], key=lambda p: int(p["partition_index"]))
    )
    return TopicState(found["name"], str(found["topic_id"]), bool(found["is_internal"]), partitions)


def _field(found: Any, name: str) -> Any:
    return found.get(name) if isinstance(found, dict) else getattr(found, name, None)
