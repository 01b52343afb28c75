"""Clusters that a restore starts itself: one that stays, in a directory; one that is thrown away, for a drill."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from include.engine.errors import Misconfigured, Refused
from include.engine.model import Target
from include.engine.sandbox.accounts import ourselves, private_directory, server_account
from include.engine.sandbox.home import Home
from include.engine.systems.kafka.server import KafkaCluster

_PROJECT = Path(__file__).resolve().parents[4]


def admit_directory(path: str) -> None:
    """Refuse a directory that holds something which is not an earlier attempt at the same.

    :raises Refused: when it is not empty
    """
    place = Path(path)
    if not path:
        raise Misconfigured("the destination names no directory", hint="give an empty directory with --to")
    if place.exists() and any(place.iterdir()) and not (place / "sandboxes").is_dir():
        raise Refused(f"{path} is not empty", hint="give an empty directory, or one where this restore was begun")


def new_cluster(path: Path, name: str) -> KafkaCluster:
    """Give a cluster of one broker, not started, whose data lie below *path*; it stays when we end.

    Called again with the same directory it is the same cluster, so a restore that died goes on.

    :raises Misconfigured: when the account that runs servers cannot enter the directory
    """
    account = server_account()
    path = path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    if not account.reaches(path.parent):
        raise Misconfigured(
            f"{account.name}, who runs the broker, cannot enter {path.parent}",
            hint="choose a directory outside /root, or open the way to it with chmod o+x",
        )
    home = Home(root=private_directory(path, owner=ourselves(), mode=0o711), account=account)
    return KafkaCluster(home.sandbox("kafka"), name, quick=False)


def lasting_cluster(target: Target, backup: str) -> KafkaCluster:
    """Give a cluster of one broker, not started, in a sandbox that stays; called again, it is the same one."""
    name = f"restore-kafka-{target.name[:24]}-{backup.lower()}"
    return KafkaCluster(Home.of(_PROJECT).sandbox(name), target.name)


@contextmanager
def sandbox_cluster(target: Target) -> Iterator[KafkaCluster]:
    """Start a cluster of one broker that is destroyed at the end, whatever happens."""
    with Home.of(_PROJECT).for_drill(target.name) as sandbox:
        yield KafkaCluster(sandbox, "drill").start()
