"""The seven items before a deployment, each with a verdict and its evidence; the seventh is a person's name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from include.engine.errors import MainstayError
from include.engine.model import Chapter, Item, SetManifest, Verdict
from include.engine.store.proven import LastWords
from include.engine.store.sets import newest_set
from include.engine.verbs.checklist import Inspection, within
from include.engine.verbs.proofs import LOOKED_BACK, whole

_MONITORED = timedelta(minutes=20)
_TIME_ZONES = timedelta(hours=14)  # that a day may begin before it does in Greenwich
_LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")


def security(seen: Inspection) -> Chapter:
    """The audit that people made, and what can be seen from here."""
    audit = seen.inventory.deployment.security_audit
    if audit is None:
        detail = "the inventory names no audit (deployment.security_audit)"
        first = Item(name="audit", verdict=Verdict.UNVERIFIED, detail=detail)
    else:
        passed = datetime(audit.passed.year, audit.passed.month, audit.passed.day, tzinfo=UTC)
        local = "://" not in audit.document
        there = not local or (seen.project / audit.document).is_file()
        counts = within(passed, audit.valid_for, seen.now)
        yet = passed - seen.now <= _TIME_ZONES
        verdict = Verdict.PASS if there and counts and yet else Verdict.FAIL
        why = "" if there else "; its document is not there"
        old = "" if counts else f"; it counts for {audit.valid_for.days} days only"
        when = "" if yet else "; that day is to come"
        first = Item(name="audit", verdict=verdict, detail=f"passed on {audit.passed} by {audit.by}{why}{old}{when}")
    sealed = [target for target in seen.inventory.targets if seen.inventory.encryption_of(target).recipients]
    locked = seen.inventory.store.lock is not None
    plain = sorted(str(target) for target in set(seen.inventory.targets) - set(sealed))
    evidence = (
        f"encrypted in the client: {', '.join(map(str, sorted(sealed))) or 'nothing'}",
        f"in the clear: {', '.join(plain) or 'nothing'}",
        f"object lock: {'yes' if locked else 'no'}",
    )
    lacks = [*(["encrypted in the client"] if plain else []), *([] if locked else ["locked against deletion"])]
    proved = "encrypted in the client, and locked against deletion"
    second = Item(
        name="backups",
        verdict=Verdict.UNVERIFIED if lacks else Verdict.PASS,
        detail=f"not all are {', nor '.join(lacks)}; what the store does by itself cannot be seen from here"
        if lacks
        else proved,
        evidence=evidence,
    )
    return Chapter(title="", items=(first, second))


def backups(seen: Inspection) -> Chapter:
    """Every target has a backup that was read back, nothing is left out, and retention is declared."""
    items = []
    words = LastWords(seen.pipeline.catalog)
    for target in seen.pipeline.targets:
        found = seen.pipeline.catalog.survey(target, newest=LOOKED_BACK).manifests
        last = words.of(target, found[-1].id) if found else None
        if not found:
            verdict, detail = Verdict.FAIL, "it has no backup at all"
        elif last is None:
            verdict, detail = Verdict.UNVERIFIED, f"{found[-1].id} was never read back"
        else:
            verdict, detail = last.verdict, f"{found[-1].id} was read back on {last.at:%Y-%m-%d}"
        items.append(Item(name=str(target), verdict=verdict, detail=detail))
    newest = newest_set(seen.pipeline.catalog)
    items += [fits(newest)] if newest else [Item(name="set", verdict=Verdict.FAIL, detail="there is no set at all")]
    items.append(_without_findings(seen, "coverage", "coverage.", "all that is live is covered"))
    keeps = seen.inventory.retention.model_dump(exclude_defaults=True)
    detail = f"keeps {', '.join(sorted(keeps))}" if keeps else "nothing is declared, so everything is kept"
    items.append(Item(name="retention", verdict=Verdict.PASS if keeps else Verdict.UNVERIFIED, detail=detail))
    return Chapter(title="", items=tuple(items))


def fits(newest: SetManifest) -> Item:
    """Whether the parts of a set fit together: backups that are good one by one may give no pipeline."""
    wrong = tuple(f"{one.verdict} {one.name}: {one.detail}" for one in newest.checks if one.verdict is not Verdict.PASS)
    detail = (
        f"{len(wrong)} of its {len(newest.checks)} checks did not pass"
        if wrong
        else f"{len(newest.checks)} checks passed"
    )
    return Item(name="parts fit together", verdict=newest.verdict, detail=f"{newest.id}: {detail}", evidence=wrong)


def monitoring(seen: Inspection) -> Chapter:
    """The sweep runs by itself, people are told, and nothing is unread."""
    unread = [one for one in seen.report.findings if one.verdict is Verdict.UNVERIFIED]
    told = seen.inventory.notify
    return Chapter(
        title="",
        items=(
            _swept(seen),
            Item(
                name="unread",
                verdict=Verdict.UNVERIFIED if unread else Verdict.PASS,
                detail=f"{len(unread)} numbers could not be read" if unread else "every number could be read",
                evidence=tuple(f"{one.subject}: {one.detail}" for one in unread),
            ),
            Item(
                name="people are told",
                verdict=Verdict.PASS if told else Verdict.FAIL,
                detail=f"by {', '.join(sorted(told))}" if told else "the inventory names nobody (notify)",
            ),
        ),
    )


def _swept(seen: Inspection) -> Item:
    """Whether somebody else has swept lately: what this checklist has read itself proves nothing about tomorrow."""
    last = seen.history.last_sweep()
    paused = any(
        one.metric == "airflow.dag.paused" and one.labels.get("dag") == "sweep" and one.value
        for look in seen.report.looks
        for one in look.readings
    )
    if last is None:
        detail = f"{seen.history.where} knows of none"
    else:
        detail = f"the last was at {last.at:%Y-%m-%d %H:%M:%SZ}: {last.readings} readings in {last.seconds:.1f} s"
    runs = last is not None and within(last.at, _MONITORED, seen.now) and not paused
    evidence = [] if runs else ["everything must have been swept within 20 minutes, by the DAG sweep or from a shell"]
    evidence += ["the DAG sweep is paused"] if paused else []
    return Item(name="sweep", verdict=Verdict.PASS if runs else Verdict.FAIL, detail=detail, evidence=tuple(evidence))


def recovery(seen: Inspection) -> Chapter:
    """A recovery plan is a drill of everything that has passed lately."""
    limit = seen.inventory.deployment.drill_within
    drills = [drill for drill in seen.pipeline.catalog.drills() if whole(drill, seen.pipeline.targets)]
    passed = [drill for drill in drills if drill.verdict is Verdict.PASS]
    if not passed:
        detail = "no drill of the whole pipeline has ever passed"
        return Chapter(title="", items=(Item(name="drill", verdict=Verdict.FAIL, detail=detail),))
    last = passed[-1]
    if drills[-1].verdict is not Verdict.PASS:  # what came back last week does not today
        detail = f"the newest, {drills[-1].id}, is {drills[-1].verdict}; {last.id} has passed before it"
        return Chapter(title="", items=(Item(name="drill", verdict=drills[-1].verdict, detail=detail),))
    counts = within(last.finished, limit, seen.now)
    measured = tuple(
        f"{name} {achieved:.0f} s of {promised:.0f} s"
        for name, achieved, promised in (
            ("RPO", last.rpo_seconds, last.rpo_objective),
            ("RTO", last.rto_seconds, last.rto_objective),
        )
        if achieved is not None and promised is not None
    )
    detail = f"{last.id} passed{'' if counts else f', but more than {limit.days} days ago'}"
    verdict = Verdict.PASS if counts else Verdict.FAIL
    return Chapter(title="", items=(Item(name="drill", verdict=verdict, detail=detail, evidence=measured),))


def load(seen: Inspection) -> Chapter:
    """A load test that has passed lately, from the bucket."""
    limit = seen.inventory.deployment.load_test_within
    reports = [found.key for found in seen.pipeline.catalog.bucket.list("loads") if found.key.endswith(".json")]
    ended: dict[str, tuple[datetime, Verdict, str]] = {}  # of every profile, the newest
    looks = 0  # brief loads: they only see whether all of it works
    for key in sorted(reports):
        try:
            document: Any = msgspec.json.decode(seen.pipeline.catalog.bucket.read(key))
            profile = str(document.get("profile"))
            if profile.endswith("-brief"):
                looks += 1
                continue
            found = (datetime.fromisoformat(document["finished"]), Verdict(document["verdict"]), key)
            ended[profile] = max(found, ended.get(profile, found))
        except (MainstayError, msgspec.MsgspecError, KeyError, ValueError, AttributeError):
            continue  # what cannot be read proves nothing
    asked = len(reports) - looks
    passed = [(at, key) for at, verdict, key in ended.values() if verdict is Verdict.PASS]
    open_ = tuple(
        f"{profile}: {verdict} on {at:%Y-%m-%d}"
        for profile, (at, verdict, _) in sorted(ended.items())
        if verdict is not Verdict.PASS and within(at, limit, seen.now)
    )
    if not asked:
        also = f"; {looks} brief load(s) only saw whether all of it works" if looks else ""
        item = Item(name="load test", verdict=Verdict.UNVERIFIED, detail=f"none was ever recorded{also}")
    elif not passed:
        item = Item(name="load test", verdict=Verdict.FAIL, detail=f"none of {asked} has passed")
    elif open_:  # that another system bears its load says nothing about this one
        item = Item(name="load test", verdict=Verdict.FAIL, detail="not all passed last", evidence=open_)
    else:
        at, key = max(passed)
        counts = within(at, limit, seen.now)
        detail = f"passed on {at:%Y-%m-%d}{'' if counts else f', more than {limit.days} days ago'}"
        item = Item(name="load test", verdict=Verdict.PASS if counts else Verdict.FAIL, detail=detail, evidence=(key,))
    return Chapter(title="", items=(item,))


def documents(seen: Inspection) -> Chapter:
    """Documents and runbooks are there, and their links lead somewhere."""
    wanted = [seen.project / path for path in seen.inventory.deployment.documents]
    runbooks = {seen.project / "include" / "runbooks" / f"{rule.runbook}.md" for rule in seen.watch.book.rules.values()}
    missing = sorted(str(path.relative_to(seen.project)) for path in {*wanted, *runbooks} if not path.is_file())
    broken = sorted(
        f"{page.relative_to(seen.project)}: {link}"
        for page in {*wanted, *runbooks}
        if page.is_file() and page.suffix == ".md"
        for link in _LINK.findall(page.read_text(encoding="utf-8"))
        if not (page.parent / link).exists()
    )
    return Chapter(
        title="",
        items=(
            Item(
                name="documents and runbooks",
                verdict=Verdict.FAIL if missing else Verdict.PASS,
                detail=f"{len(missing)} are missing"
                if missing
                else f"{len(wanted)} documents, {len(runbooks)} runbooks",
                evidence=tuple(missing),
            ),
            Item(
                name="links",
                verdict=Verdict.FAIL if broken else Verdict.PASS,
                detail=f"{len(broken)} lead nowhere" if broken else "all lead somewhere",
                evidence=tuple(broken),
            ),
        ),
    )


def _without_findings(seen: Inspection, name: str, prefix: str, fine: str) -> Item:
    from include.engine.verbs.checklist import judged

    return judged(name, seen.findings(prefix), fine=fine, read=seen.read(prefix))


PREDEPLOYMENT: Mapping[str, Callable[[Inspection], Chapter]] = {
    "Security audit": security,
    "Backup strategy": backups,
    "Monitoring and alerting": monitoring,
    "Recovery plan": recovery,
    "Load test": load,
    "Documents and runbooks": documents,
}
