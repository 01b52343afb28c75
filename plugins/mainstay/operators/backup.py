"""The steps of a backup: freeze, copy, verify, seal, release.  Each finds what an earlier attempt has done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from include.engine.cli import figures
from include.engine.errors import Corrupt, Unreachable
from include.engine.model import Manifest, Target, Verdict, Verification, worst
from mainstay.assets import BACKUPS, backups_of, sets_of
from mainstay.operators.judge import LONGEST_DETAIL, MOST_TOLD, require_checks, told
from mainstay.operators.step import Step, Summary, clock, run_name

if TYPE_CHECKING:
    from airflow.sdk import Context


class FreezeOperator(Step):
    """Fix the cut of the run's set, and give the targets that were frozen, to map the copies over.

    A retry keeps the cut and the targets of the first attempt.  Reads the param ``targets``: none means all.
    """

    def __init__(self, *, runbook: str = "backup-failed", **kwargs: Any) -> None:
        super().__init__(runbook=runbook, **kwargs)

    def execute(self, context: Context) -> list[str]:
        """Freeze."""
        from include.engine.verbs import backup

        set_id = run_name(context)
        self.report = f"sets/{set_id}"
        chosen = self.pipeline.choose(context["params"]["targets"])
        frozen = backup.freeze(self.pipeline, set_id, chosen, clock=clock)
        for name, cut in frozen.cuts.items():
            self.log.info("%s is frozen at %s (%s)", name, cut.position, figures.moment(cut.at))
        if frozen.left_out:
            self.log.warning("left out of the set %s: %s", set_id, ", ".join(frozen.left_out))
        return list(frozen.cuts)


class CopyOperator(Step):
    """Take the backup of one frozen target, and commit it.  Reads the param ``full``: no incremental.

    :param target: what to copy (templated; map over it)
    """

    template_fields: Sequence[str] = ("target",)

    def __init__(self, *, target: str, runbook: str = "backup-failed", **kwargs: Any) -> None:
        super().__init__(runbook=runbook, **kwargs)
        self.target = target

    def execute(self, context: Context) -> Summary:
        """Copy."""
        from include.engine.verbs import backup

        set_id, target = run_name(context), Target.parse(self.target)
        self.report = f"sets/{set_id}"
        with self.progress() as progress:
            manifest = backup.copy(
                self.pipeline,
                set_id,
                target,
                progress=progress,
                stop=self.stop,
                clock=clock,
                full=context["params"]["full"],
            )
        for note in manifest.notes:
            self.log.warning("%s %s: %s", target, set_id, note)
        summary = _summary(manifest)
        self.log.info(
            "%s %s: %s backup of %s, %s stored (%s smaller), recoverable from %s to %s",
            target,
            set_id,
            manifest.kind,
            figures.size(manifest.original_bytes),
            figures.size(manifest.bytes),
            figures.ratio(manifest.original_bytes, manifest.bytes),
            figures.moment(manifest.recoverable_from),
            figures.moment(manifest.recoverable_to),
        )
        return summary


class SealOperator(Step):
    """Write the set, when every frozen target has its backup."""

    def __init__(self, *, runbook: str = "backup-failed", **kwargs: Any) -> None:
        super().__init__(runbook=runbook, **kwargs)

    def execute(self, context: Context) -> Summary:
        """Seal."""
        from include.engine.verbs import backup

        sealed = backup.seal(self.pipeline, run_name(context), clock=clock)
        self.report = f"sets/{sealed.id}"
        self.log.info("set %s: %s parts, %s", sealed.id, len(sealed.parts), figures.size(sealed.bytes))
        for line in told(sealed.checks):  # a task of its own fails by them: the copies are good all the same
            self.log.warning("set %s: %s", sealed.id, line)
        return {
            "id": sealed.id,
            "what": f"the parts of the set {sealed.id}",
            "report": self.report,
            "verdict": str(sealed.verdict),
            "problems": told(sealed.checks),
            "waits": [line[:LONGEST_DETAIL] for line in sealed.waits[:MOST_TOLD]],
            "parts": [str(part.target) for part in sealed.parts],
            "left_out": list(sealed.left_out),
            "bytes": sealed.bytes,
            "seconds": (sealed.finished - sealed.started).total_seconds(),
        }


class VerifyOperator(Step):
    """Read the set back, and announce it: an asset event says that a backup was taken and is readable.

    Objects that backups share are not read again when they were read lately (see ``include.engine.store.rereading``).
    """

    def __init__(self, *, runbook: str = "backup-failed", **kwargs: Any) -> None:
        super().__init__(runbook=runbook, **kwargs)

    def execute(self, context: Context) -> Summary:
        """Verify."""
        from include.engine.verbs import verify

        set_id = run_name(context)
        self.report = f"sets/{set_id}"
        require_checks(f"the set {set_id}", verify.check_set(self.pipeline, set_id), runbook=self.runbook)
        with self.progress() as progress:
            found = verify.verify_parts(
                self.pipeline, set_id, progress=progress, stop=self.stop, clock=clock, trust=verify.LATELY
            )
        _require_readable(set_id, found)
        self._announce(context, set_id)
        return {
            "id": set_id,
            "objects": sum(one.objects for one in found),
            "bytes": sum(one.bytes for one in found),
            "trusted_bytes": sum(one.trusted_bytes for one in found),
            "verdict": str(Verdict.PASS),
        }

    def _announce(self, context: Context, set_id: str) -> None:
        catalog = self.pipeline.catalog
        events = context["outlet_events"]
        manifests = [catalog.backup(part.target, part.backup) for part in catalog.set(set_id).parts]
        for manifest in manifests:
            events[BACKUPS].add(backups_of(manifest.target), extra=_summary(manifest))
        # The pipeline can be recovered to where all of its parts can.  Parts that are snapshots stand for moments that are
        # seconds apart: then it is the span of the cut.
        begin, end = sorted(
            (max(one.recoverable_from for one in manifests), min(one.recoverable_to for one in manifests))
        )
        extra: Summary = {
            "id": set_id,
            "bytes": sum(manifest.bytes for manifest in manifests),
            "recoverable_from": begin.isoformat(),
            "recoverable_to": end.isoformat(),
            "targets": [str(manifest.target) for manifest in manifests],
        }
        events[sets_of(self.pipeline.name)].extra = extra


class ReleaseOperator(Step):
    """Clear what the run left on the servers, whatever happened: of all targets that it might have frozen.

    Reads the param ``targets``, as :class:`FreezeOperator` does.
    """

    def __init__(self, *, runbook: str = "backup-failed", **kwargs: Any) -> None:
        super().__init__(runbook=runbook, **kwargs)

    def execute(self, context: Context) -> Summary:
        """Release."""
        from include.engine.verbs import backup

        chosen = self.pipeline.choose(context["params"]["targets"])
        left = backup.release(self.pipeline, run_name(context), chosen)
        return {"released": [str(target) for target in chosen if target not in left]}


def _summary(manifest: Manifest) -> Summary:
    return {
        "id": manifest.id,
        "target": str(manifest.target),
        "kind": str(manifest.kind),
        "bytes": manifest.bytes,
        "original_bytes": manifest.original_bytes,
        "seconds": (manifest.finished - manifest.started).total_seconds(),
        "recoverable_from": manifest.recoverable_from.isoformat(),
        "recoverable_to": manifest.recoverable_to.isoformat(),
    }


def _require_readable(set_id: str, found: Sequence[Verification]) -> None:
    problems = [f"{one.target} {one.backup}: {problem}" for one in found for problem in one.problems]
    text = "; ".join(problems[:10]) or "nothing was read"
    verdict = worst([one.verdict for one in found])
    if verdict is Verdict.FAIL:
        raise Corrupt(
            f"the set {set_id} is not what was written: {text}",
            hint="take another backup now, keep the damaged one for the search: runbook include/runbooks/backup-failed.md",
        )
    if verdict is Verdict.UNVERIFIED:
        raise Unreachable(f"the set {set_id} could not be read back: {text}", hint="look at the object store")
