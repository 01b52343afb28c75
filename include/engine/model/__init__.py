"""The frozen values that everything else talks about.  No I/O, no clock, no client library.

What is written to the bucket is a ``Struct`` of this package, encoded as JSON by :func:`encode` and read back strictly by
:func:`decode`.  Times are aware and in UTC.  Sizes are bytes, durations are seconds.
"""

from __future__ import annotations

from include.engine.model.documents import MANIFEST_VERSION, Document, JsonValue, decode, encode
from include.engine.model.loads import GeneratorLimit, LoadInterval, LoadResult, LoadStep, Spread
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
from include.engine.model.proofs import DrillReport, Verification
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
)
from include.engine.model.verdicts import Check, Verdict, worst

__all__ = [
    "FREEZE_ORDER",
    "MANIFEST_VERSION",
    "Check",
    "Consistency",
    "Coverage",
    "Cut",
    "Destination",
    "DestinationKind",
    "Document",
    "DrillReport",
    "Encryption",
    "Entry",
    "Flow",
    "Freeze",
    "Frozen",
    "GeneratorLimit",
    "JsonValue",
    "Kind",
    "LoadInterval",
    "LoadResult",
    "LoadStep",
    "Manifest",
    "Moved",
    "Part",
    "PointKind",
    "Position",
    "Reading",
    "Reconciled",
    "RecoveryPoint",
    "RestorePlan",
    "RestoreRecord",
    "Restored",
    "SetManifest",
    "SetPlan",
    "SetRestored",
    "SourceIdentity",
    "Spread",
    "Stage",
    "System",
    "Target",
    "Verdict",
    "Verification",
    "backup_id",
    "backup_time",
    "decode",
    "encode",
    "worst",
]
