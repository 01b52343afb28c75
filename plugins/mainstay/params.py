"""The fields of the DAGs' forms, each with a title, a description and what it may hold."""

from __future__ import annotations

from collections.abc import Sequence

from airflow.sdk import Param

from include.engine.inventory import Inventory
from include.engine.model import DestinationKind, System

MINIMUM_REASON = 10  # as the engine demands; not imported from there, because a form must not load the store's clients
UNREMEMBERED = "mainstay_unremembered"  # in a context: changes that no history could take, for who tells them
SET = "set"  # instead of a target
SET_ID = r"^\d{8}T\d{6}Z$"


def targets(known: Sequence[str]) -> Param:
    """Choose any of the targets; none means all."""
    return Param(
        [],
        type="array",
        items={"type": "string", "enum": list(known)},
        examples=list(known),
        title="Targets",
        description_md="What to back up. **Leave it empty for all**: only a set over all targets restores the pipeline.",
    )


def target(known: Sequence[str]) -> Param:
    """Choose one target, or a set."""
    return Param(
        known[0],
        type="string",
        enum=[*known, SET],
        values_display={SET: "the whole set: all targets together"},
        title="Target",
        description_md="What to restore: one target, as the inventory names it, or all parts of a set under one approval.",
    )


def one_or_all(known: Sequence[str], *, title: str, description: str) -> Param:
    """Choose one of what is known, or leave it empty."""
    return Param(None, type=["null", "string"], enum=[None, *known], title=title, description_md=description)


def maybe_target(known: Sequence[str]) -> Param:
    """Choose one target, or all parts of the set."""
    return one_or_all(known, title="Target", description="Drill one target only. Empty: all parts of the set.")


def full() -> Param:
    """Ask for a full backup."""
    return Param(
        False,
        type="boolean",
        title="Full",
        description_md="Take full backups, also where an incremental one would do.",
    )


def set_id() -> Param:
    """Name a set, or leave it to the newest."""
    return Param(
        None,
        type=["null", "string"],
        pattern=SET_ID,
        title="Set",
        description_md="A backup set such as *20261123T020000Z*. Empty: the newest.",
    )


def backup() -> Param:
    """Name a backup, or leave it to the newest that reaches the point."""
    return Param(
        None,
        type=["null", "string"],
        pattern=SET_ID,
        title="Backup or set",
        description_md="The backup or set to start from, such as *20261123T020000Z*: a backup has the name of its set. "
        "Empty: the newest that reaches the point; of sets, the newest.",
    )


def point() -> Param:
    """Say where a restore stops."""
    return Param(
        "latest",
        type="string",
        minLength=1,
        examples=["latest", "backup", "2026-11-23T02:00:00Z", "position:0/3000060", "name:before_migration"],
        title="Point",
        description_md="Where to stop: *latest* (all that was archived), *backup* (the end of the backup itself), a time "
        "with its zone (*2026-11-23T02:00:00Z*), *position:LSN* or *name:RESTORE_POINT*.",
    )


def destination() -> Param:
    """Say what kind of place a restore goes to."""
    return Param(
        str(DestinationKind.DIRECTORY),
        type="string",
        enum=[str(kind) for kind in DestinationKind],
        title="Destination",
        values_display={
            str(DestinationKind.SANDBOX): "sandbox: a throw-away server on the worker",
            str(DestinationKind.DIRECTORY): "directory: an empty one on the worker",
            str(DestinationKind.SERVER): "server: of the inventory, or a running cluster",
        },
        description_md="Where the data goes. Never the server that it came from, unless you type its name below.",
    )


def path() -> Param:
    """Name the directory."""
    return Param(
        None,
        type=["null", "string"],
        pattern="^/.+",
        title="Directory",
        description_md="Absolute path on the worker, for the destination *directory*. It must be empty or not exist. "
        "Of a set, every part without a server gets a folder of its own in it.",
    )


def places(inventory: Inventory) -> list[str]:
    """Name the servers of the inventory and the connections of its clusters.  PostgreSQL has none: it gets a server of its own."""
    clusters = {one.connection for target, one in inventory.targets.items() if target.system is not System.POSTGRES}
    return sorted(name for name in {*inventory.servers, *clusters} if name)


def server(known: Sequence[str]) -> Param:
    """Name the server."""
    return Param(
        None,
        type=["null", "string"],
        pattern=r"^[\w./:,=\- ]+$",
        examples=list(known),
        title="Server",
        description_md="For the destination *server*: a name in the inventory's section *servers*, or the **connection** of a "
        "running cluster (Kafka and Cassandra are restored into those). Of a set, one per part, with its name before it: "
        "*postgres/main:spare, kafka/main:kafka_spare*.",
    )


def only() -> Param:
    """Restore parts only."""
    return Param(
        None,
        type=["null", "array"],
        items={"type": "string"},
        title="Only",
        description_md="Topics, keyspaces or tables (*keyspace.table*) to restore, one a line; empty for all. Of a set, "
        "*TARGET* or *TARGET:PART*.",
    )


def rename() -> Param:
    """Restore under other names."""
    return Param(
        None,
        type=["null", "array"],
        items={"type": "string", "pattern": "^[^=]+=[^=]+$"},
        title="Rename",
        description_md="Topics or keyspaces that come back under another name, *OLD=NEW*, one a line. Of a set, "
        "*TARGET:OLD=NEW*.",
    )


def access() -> Param:
    """Put back who may do what."""
    return Param(
        None,
        type=["null", "boolean"],
        title="Access",
        description_md="Put access rules and quotas of Kafka back. Empty: only into a server that the restore itself starts.",
    )


def append() -> Param:
    """Add to what is there."""
    return Param(
        False,
        type="boolean",
        title="Append",
        description_md="Add to topics and tables that hold something, instead of refusing them.",
    )


def confirm() -> Param:
    """Type the name of what may be overwritten."""
    return Param(
        None,
        type=["null", "string"],
        title="Overwrite",
        description_md="Only when the destination holds data that may be lost: type its name, as the plan's refusal says it. "
        "Several names are separated by commas.",
    )


def reason() -> Param:
    """Say why."""
    return Param(
        type="string",
        minLength=MINIMUM_REASON,
        title="Reason",
        description_md=f"Why this is done, in at least {MINIMUM_REASON} characters. It is recorded.",
    )


def dry_run(*, default: bool = True) -> Param:
    """Stop before anything is changed."""
    return Param(
        default,
        type="boolean",
        title="Dry run",
        description_md="Say what would be done, and stop before anything is changed.",
    )


def days(default: int, what: str) -> Param:
    """Give an age in days."""
    return Param(
        default,
        type="integer",
        minimum=1,
        maximum=3650,
        title=f"Days to keep {what}",
        description_md=f"Older {what} are deleted.",
    )


def mirror(known: Sequence[str]) -> Param:
    """Choose a mirror."""
    return Param(
        known[0],
        type="string",
        enum=list(known),
        title="Mirror",
        description_md="The mirror, as the inventory declares it: *system/name/mirror*.",
    )


def maybe_mirror(known: Sequence[str]) -> Param:
    """Choose one mirror, or leave it at each of them."""
    return one_or_all(
        known,
        title="Mirror",
        description="One mirror only, as the inventory declares it: *system/name/mirror*. Empty: each of them.",
    )


def copy_on() -> Param:
    """Type the mirror's name to let a stopped one go on."""
    return Param(
        None,
        type=["null", "string"],
        title="Copy on",
        description_md="Only when the mirror was **stopped**, as a fail-over does, and the source is in charge again: type the "
        "mirror's name. It then writes over what is new on the copy.",
    )


def note() -> Param:
    """Say something with an answer."""
    return Param(
        "", type="string", title="Note", description_md="What whoever reads the report should know. It is kept."
    )
