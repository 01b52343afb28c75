"""Evidence: a drill's report, signed, for somebody who has neither the bucket nor a reason to trust us.

The signature is over the canonical form of the evidence, so the file may be laid out for people.  The page carries the same
document inside it, and is checked by being written again from it: a page that says something else is no evidence.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection

import msgspec

from include.engine.contracts import Clock
from include.engine.errors import Corrupt, MainstayError, NotFound
from include.engine.model import Check, DrillReport, SetManifest, Verdict, decode, encode
from include.engine.model.evidence import Evidence, Proved, SignedEvidence
from include.engine.store.signing import SigningKey, is_signed, sign
from include.engine.verbs.evidence_page import embedded, page
from include.engine.verbs.pipeline import Pipeline


def make(pipeline: Pipeline, report: DrillReport, key: SigningKey, *, clock: Clock) -> SignedEvidence:
    """Put together what *report* proves, and sign it."""
    catalog = pipeline.catalog
    sealed = catalog.find_set(report.set_id) if report.set_id else None
    evidence = Evidence(
        pipeline=sealed.pipeline if sealed else pipeline.name,
        made=clock(),
        parts=tuple(_parts(pipeline, report, sealed)),
        consistency=sealed.consistency if sealed else None,
        drill=report,
    )
    return SignedEvidence(key=key.public, signature=sign(canonical(evidence), key), evidence=evidence)


def record(pipeline: Pipeline, signed: SignedEvidence) -> tuple[str, str]:
    """Store evidence beside the drills, once; give the keys of the document and of the page."""
    stem = f"evidence/{signed.evidence.drill.id}"
    pipeline.catalog.bucket.create(f"{stem}.json", encode(signed))
    pipeline.catalog.bucket.create(f"{stem}.html", page(signed).encode())
    return f"{stem}.json", f"{stem}.html"


def drill_of(pipeline: Pipeline, drill_id: str | None) -> DrillReport:
    """Give a drill's report, the newest one by default.

    :raises NotFound: when there is none
    """
    drills = [report for report in pipeline.catalog.drills() if drill_id in (None, report.id)]
    if not drills:
        what = f"drill {drill_id}" if drill_id else "drill"
        raise NotFound(f"there is no {what}", hint="`./mainstay drill` makes one")
    return drills[-1]


def read(text: bytes, *, where: str) -> tuple[SignedEvidence, bool]:
    """Read evidence from its document or from its page; say also whether the page is what the document says.

    :raises Corrupt: when it is neither
    """
    if text.lstrip()[:1] != b"<":
        return decode(text, SignedEvidence, where=where), True
    inside = embedded(text)
    if inside is None:
        raise Corrupt(f"{where} is a page without evidence in it", hint="ask for the file as it was made")
    signed = decode(inside, SignedEvidence, where=where)
    return signed, page(signed).encode() == text


def judge(signed: SignedEvidence, *, page_agrees: bool, trusted: Collection[str]) -> tuple[Check, ...]:
    """Say whether evidence can be believed.  Needs nothing but the file and the keys that somebody trusts.

    :param trusted: public keys; without any, whoever signed it stays unknown
    """
    try:
        good = signed.algorithm == "ed25519" and is_signed(canonical(signed.evidence), signed.signature, signed.key)
    except MainstayError:
        good = False
    checks = [
        Check(name="signature", verdict=Verdict.PASS, detail=f"signed with {signed.key}")
        if good
        else Check(name="signature", verdict=Verdict.FAIL, detail="this is not what was signed, or not with that key")
    ]
    if not page_agrees:
        checks.append(Check(name="page", verdict=Verdict.FAIL, detail="the page does not say what was signed"))
    if not trusted:
        unknown = "nobody said whose key that is: give the public key that you were told with --key"
        checks.append(Check(name="signer", verdict=Verdict.UNVERIFIED, detail=unknown))
    else:
        known = signed.key in trusted
        detail = "the key is one that you trust" if known else f"{signed.key} is no key that you trust"
        checks.append(Check(name="signer", verdict=Verdict.PASS if known else Verdict.FAIL, detail=detail))
    return tuple(checks)


def canonical(evidence: Evidence) -> bytes:
    """Give the one form of evidence that is signed."""
    return json.dumps(msgspec.to_builtins(evidence, str_keys=True), sort_keys=True, separators=(",", ":")).encode()


def _parts(pipeline: Pipeline, report: DrillReport, sealed: SetManifest | None) -> list[Proved]:
    catalog = pipeline.catalog
    if report.target is not None and report.backup is not None:
        wanted = [(report.target, report.backup)]
    else:
        wanted = [(part.target, part.backup) for part in sealed.parts] if sealed else []
    found = []
    for target, backup in wanted:
        key = catalog.manifest_key(target, backup)
        digest = hashlib.sha256(catalog.bucket.read(key)).hexdigest()
        found.append(Proved(target=target, backup=backup, manifest=key, sha256=digest))
    return found
