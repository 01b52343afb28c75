"""The frozen values that everything else talks about.  No I/O, no clock, no client library.

What is written to the bucket is a ``Struct`` of this package, encoded as JSON by :func:`encode` and read back strictly by
:func:`decode`.  Times are aware and in UTC.  Sizes are bytes, durations are seconds.
"""

from __future__ import annotations

from include.engine.model.documents import MANIFEST_VERSION, Document, JsonValue, decode, encode
from include.engine.model.loads import GeneratorLimit, LoadInterval, LoadResult, LoadStep, Spread
from include.engine.model.manifests import (
    Cut,
    Encryption,
    Entry,
    Freeze,
    Kind,
    Manifest,
    Part,
    SetManifest,
    SourceIdentity,
)
from include.engine.model.names import FREEZE_ORDER, System, Target, backup_id, backup_time
from include.engine.model.proofs import DrillReport, Verification
from include.engine.model.readings import Reading
from include.engine.model.restores import (
    Destination,
    DestinationKind,
    PointKind,
    RecoveryPoint,
    Restored,
    RestorePlan,
    RestoreRecord,
    Stage,
)
from include.engine.model.verdicts import Check, Verdict, worst

__all__ = [
    "FREEZE_ORDER",
    "MANIFEST_VERSION",
    "Check",
    "Cut",
    "Destination",
    "DestinationKind",
    "Document",
    "DrillReport",
    "Encryption",
    "Entry",
    "Freeze",
    "GeneratorLimit",
    "JsonValue",
    "Kind",
    "LoadInterval",
    "LoadResult",
    "LoadStep",
    "Manifest",
    "Part",
    "PointKind",
    "Reading",
    "RecoveryPoint",
    "RestorePlan",
    "RestoreRecord",
    "Restored",
    "SetManifest",
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
