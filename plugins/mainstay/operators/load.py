"""Load tests: choose, run, and a task that does nothing, for Airflow's own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from include.engine import load_wiring
from mainstay.hooks.mainstay import AirflowConnections, MainstayHook
from mainstay.operators.judge import told
from mainstay.operators.step import Step, Summary, clock

if TYPE_CHECKING:
    from airflow.sdk import Context


class LoadStep(Step):
    """A step of a load test."""

    def __init__(self, *, runbook: str = "load-failed", **kwargs: Any) -> None:
        super().__init__(runbook=runbook, **kwargs)


class ChooseLoadsOperator(LoadStep):
    """Choose what is loaded: what the form says, or every target that the inventory allows, with its system's steady profile.

    Reads the params ``profile``, ``target`` and ``kind``, the end of the profile's name when none is given.  A system that
    has no profile of that kind is left out.  Skipped when the inventory allows none.
    """

    def execute(self, context: Context) -> list[dict[str, str]]:
        """Choose."""
        params = context["params"]
        targets = load_wiring.load_targets(MainstayHook().inventory)
        wanted = [params["target"]] if params["target"] else [name for name, one in targets.items() if one.allowed]
        if params["profile"]:
            system = load_wiring.load_profile(params["profile"]).system
            wanted = wanted if params["target"] else [name for name in wanted if name.partition("/")[0] == system]
        chosen = [
            {"target": name, "profile": params["profile"] or f"{name.partition('/')[0]}-{params['kind']}"}
            for name in wanted
        ]
        if not params["profile"] and not params["target"]:
            known = set(load_wiring.load_profiles())
            chosen = [one for one in chosen if one["profile"] in known]
        if not chosen:
            raise AirflowSkipException(
                "the inventory allows load tests on no such target: `load: {allowed: true}` does"
            )
        return chosen


class LoadTestOperator(LoadStep):
    """Run one load test.  A FAIL is a result: the task after this one judges it.

    Reads the params ``rate``, ``duration``, ``search``, ``baseline`` and ``reason``.

    :param load: ``profile`` and ``target`` (templated)
    """

    template_fields: Sequence[str] = ("load",)

    def __init__(self, *, load: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.load = load

    def execute(self, context: Context) -> Summary:
        """Load."""
        from include.engine.model import backup_id
        from include.engine.store.loads import Loads
        from include.engine.verbs import load as verb

        params, hook, connections = context["params"], MainstayHook(), AirflowConnections()
        target, profile = self.load["target"], load_wiring.load_profile(self.load["profile"])
        # One run may make several tests, one after the other: each has a second of its own for its name.
        position = max(0, int(context["ti"].map_index or 0))
        wish = verb.Wish(
            profile=profile,
            target=target,
            permission=load_wiring.load_targets(hook.inventory)[target],
            rate=params["rate"],
            seconds=params["duration"],
            search=params["search"],
            baseline=params["baseline"],
            reason=params["reason"] or "",
        )
        with self.progress() as progress:
            result = verb.run(
                hook.inventory.pipeline,
                Loads(self.pipeline.catalog.bucket),
                load_wiring.open_load(hook.inventory, connections, target, profile),
                wish,
                id_=backup_id(context["dag_run"].run_after + timedelta(seconds=position)),
                probes=load_wiring.load_probes(hook.inventory, connections, target),
                progress=progress,
                stop=self.stop,
                clock=clock,
            )
        for check in result.checks:
            self.log.info("%s %s: %s", check.verdict, check.name, check.detail)
        return {
            "what": f"load test {result.id}: {result.profile} on {result.target}",
            "id": result.id,
            "verdict": str(result.verdict),
            "problems": told(result.checks),
        }


class NothingOperator(Step):
    """Do nothing: what is measured is everything around it.

    :param number: tells one from the others
    """

    def __init__(self, *, number: int, runbook: str = "load-failed", **kwargs: Any) -> None:
        super().__init__(runbook=runbook, **kwargs)
        self.number = number

    def execute(self, context: Context) -> None:
        """Do nothing."""


class NumbersOperator(LoadStep):
    """Count up to the param ``tasks``: as many mapped tasks follow."""

    def execute(self, context: Context) -> list[int]:
        """Count."""
        return list(range(context["params"]["tasks"]))
