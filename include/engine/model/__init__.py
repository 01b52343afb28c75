"""The frozen values that everything else talks about.  No I/O, no clock, no client library.

What is written to the bucket is a ``Struct`` of this package, encoded as JSON by :func:`encode` and read back strictly by
:func:`decode`.  Times are aware and in UTC.  Sizes are bytes, durations are seconds.
"""

from __future__ import annotations

from include.engine.model.archives import ArchiveReach, RecoverableWindow
from include.engine.model.checklists import Chapter, ChecklistReport, Item, Plot, SignOff, Table
from include.engine.model.documents import MANIFEST_VERSION, Document, JsonValue, decode, encode
from include.engine.model.loads import CrossCheck, GeneratorLimit, LoadInterval, LoadResult, LoadStep, Spread
from include.engine.model.manifests import (
    Consistency,
    Coverage,
    Cut,
    Encryption,
    Entry,
    Flow,
    Freeze,
    Frozen,
    Kind,
    Manifest,
    Part,
    Reconciled,
    SetManifest,
    SourceIdentity,
)
from include.engine.model.names import FREEZE_ORDER, System, Target, backup_id, backup_time
from include.engine.model.proofs import Drilled, DrillReport, ReadBack, Verification
from include.engine.model.readings import Reading
from include.engine.model.restores import (
    Destination,
    DestinationKind,
    Moved,
    PointKind,
    Position,
    RecoveryPoint,
    Restored,
    RestorePlan,
    RestoreRecord,
    SetPlan,
    SetRestored,
    Stage,
    time_of_waves,
    waves,
)
from include.engine.model.verdicts import Check, Verdict, worst

__all__ = [
    "FREEZE_ORDER",
    "MANIFEST_VERSION",
    "ArchiveReach",
    "Chapter",
    "Check",
    "ChecklistReport",
    "Consistency",
    "Coverage",
    "CrossCheck",
    "Cut",
    "Destination",
    "DestinationKind",
    "Document",
    "DrillReport",
    "Drilled",
    "Encryption",
    "Entry",
    "Flow",
    "Freeze",
    "Frozen",
    "GeneratorLimit",
    "Item",
    "JsonValue",
    "Kind",
    "LoadInterval",
    "LoadResult",
    "LoadStep",
    "Manifest",
    "Moved",
    "Part",
    "Plot",
    "PointKind",
    "Position",
    "ReadBack",
    "Reading",
    "Reconciled",
    "RecoverableWindow",
    "RecoveryPoint",
    "RestorePlan",
    "RestoreRecord",
    "Restored",
    "SetManifest",
    "SetPlan",
    "SetRestored",
    "SignOff",
    "SourceIdentity",
    "Spread",
    "Stage",
    "System",
    "Table",
    "Target",
    "Verdict",
    "Verification",
    "backup_id",
    "backup_time",
    "decode",
    "encode",
    "time_of_waves",
    "waves",
    "worst",
]
