"""What proves to a third party that a drill took place, and what it found."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from include.engine.model.documents import MANIFEST_VERSION
from include.engine.model.manifests import Consistency
from include.engine.model.names import Target
from include.engine.model.proofs import DrillReport


class Proved(Struct, frozen=True, kw_only=True):
    """One backup that was restored, and the digest of the manifest that names its bytes."""

    target: Target
    backup: str
    manifest: str
    sha256: str


class Evidence(Struct, frozen=True, kw_only=True):
    """What is signed: the drill's report, and what it was of."""

    version: int = MANIFEST_VERSION
    pipeline: str
    made: datetime
    parts: tuple[Proved, ...]
    consistency: Consistency | None
    drill: DrillReport


class SignedEvidence(Struct, frozen=True, kw_only=True):
    """Evidence and its signature over the canonical form: JSON, keys sorted, no white space, ASCII."""

    version: int = MANIFEST_VERSION
    algorithm: str = "ed25519"
    key: str  # the public one
    signature: str
    evidence: Evidence
