"""``./mainstay demo``, ``up``, ``down``, ``status`` and ``env``: the whole pipeline on one machine."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from include.engine.cli import figures
from include.engine.cli.clock import now
from include.engine.cli.output import Json, emit_json, leave, show, table
from include.engine.cli.steps import Steps
from include.engine.cli.whence import Whence, finds_pipeline
from include.engine.errors import Misconfigured, NotFound

if TYPE_CHECKING:
    from include.engine.cli.demo_sandbox import DemoSandbox

_WITH_STREAM = typer.Option("--stream/--no-stream", help="run the streaming job; without it, the demo is without Spark")
_WITH_AIRFLOW = typer.Option("--airflow/--no-airflow", help="also start Airflow; the other verbs work without it")


def up(
    with_airflow: Annotated[bool, _WITH_AIRFLOW] = True,
    with_stream: Annotated[bool, _WITH_STREAM] = True,
    cassandra_nodes: Annotated[
        int | None, typer.Option("--cassandra-nodes", help="1, or 3 with a rack and a copy each: 1 when it is new")
    ] = None,
    kafka_brokers: Annotated[
        int | None, typer.Option("--kafka-brokers", help="1, or 3 with a replica on each: 1 when it is new")
    ] = None,
) -> None:
    """Start the demo: object store, PostgreSQL and a standby, Kafka and a copy, Cassandra, Spark, Airflow.  Twice does no harm."""
    demo = _sandbox(cassandra_nodes, kafka_brokers)
    steps = Steps()
    steps.title("Starting the demo")
    demo.up(steps, with_airflow=with_airflow, with_stream=with_stream)
    steps.title(f"Up after {figures.duration(steps.seconds)}.")
    show(*_next_steps(demo, with_airflow=with_airflow))


def _sandbox(cassandra_nodes: int | None, kafka_brokers: int | None) -> DemoSandbox:
    """Give the demo with as many nodes and brokers as were asked for.

    :raises NotFound: when a program that its servers need is not installed
    :raises Misconfigured: when a demo is there that has another number of them
    """
    from include.engine.cli.demo_sandbox import DemoSandbox
    from include.engine.cli.prerequisites import require

    require()
    for option, asked in (("--cassandra-nodes", cassandra_nodes), ("--kafka-brokers", kafka_brokers)):
        if asked not in (None, 1, 3):
            raise Misconfigured(f"{option} {asked}: the demo has 1 or 3", hint="give 1 or 3")
    demo = DemoSandbox(cassandra_nodes=cassandra_nodes or 1, kafka_brokers=kafka_brokers or 1)
    for asked, size, what in (
        (cassandra_nodes, demo.clusters.cassandra.size, "Cassandra node(s)"),
        (kafka_brokers, len(demo.clusters.kafka.nodes), "Kafka broker(s)"),
    ):
        if asked not in (None, size):
            raise Misconfigured(
                f"the demo was made with {size} {what}", hint="`./mainstay down --wipe` first, then up again"
            )
    return demo


def down(
    wipe: Annotated[
        bool, typer.Option("--wipe", help="also delete all that the demo has written, backups too")
    ] = False,
) -> None:
    """Stop the demo; no process of it is left.  Its data stays, unless --wipe is given."""
    from include.engine.cli.demo_sandbox import existing

    demo = existing()
    if demo is None:
        show("There is no demo: nothing to stop.")
        return
    steps = Steps()
    with steps.step("Stopping the demo"):
        stopped = demo.down(wipe=wipe)
        swept = demo.sandbox.home.sweep()
    show(f"Stopped {', '.join(stopped)}." if stopped else "Nothing ran.")
    if swept:
        show(f"Removed what a killed drill or test has left: {', '.join(swept)}.")
    if wipe:
        show("Deleted all of its data.")


@finds_pipeline
def status(
    whence: Whence,
    *,
    target: Annotated[
        str, typer.Argument(metavar="[TARGET]", help="<system>/<name>: read this target's probes instead")
    ] = "",
    as_json: Json = False,
) -> None:
    """Ask every server of the demo how it is; or, with a target, read all of its probes.

    The exit code is 0 when all are well, and 3 when a number of the target could not be read.
    """
    if target:
        _readings(whence, target, as_json=as_json)
        return
    from include.engine.cli.demo_sandbox import existing
    from include.engine.cli.status import look

    demo = existing()
    found = look(demo) if demo is not None else []
    if as_json:
        emit_json({"servers": found, "healthy": bool(found) and all(server.healthy for server in found)})
    elif demo is None:
        show("There is no demo: `./mainstay up` starts one, `./mainstay demo` shows it.")
    else:
        at = now()
        rows = [
            (
                server.name,
                server.pid or "",
                server.port or "",
                figures.age(server.since, at) if server.since else "",
                "yes" if server.healthy else "NO",
                server.seen,
            )
            for server in found
        ]
        show(table(("server", ">pid", ">port", ">up for", "healthy", "seen"), rows))
    if not found or not all(server.healthy for server in found):
        raise typer.Exit(1)


def _readings(whence: Whence, name: str, *, as_json: bool) -> None:
    from include.engine import wiring
    from include.engine.cli import readings
    from include.engine.cli.connections import ShellConnections
    from include.engine.errors import Unsupported
    from include.engine.model import Target

    target = Target.parse(name)
    probes = wiring.open_probes(whence.inventory(), ShellConnections(whence.path), target)
    if not probes:
        raise Unsupported(f"{target} cannot be read yet: its system brings no probes", hint="read another target")
    looked = readings.look(probes, now)
    verdict = readings.verdict(looked)
    if as_json:
        emit_json({"target": str(target), "verdict": str(verdict), "probes": looked})
    else:
        rows = readings.rows(looked)
        show(table(("probe", "reading", ">value", "of"), rows, title=f"{target}: {len(rows)} readings"))
    leave(verdict)


def env() -> None:
    """Print the variables of the demo for a shell, secrets included: eval "$(./mainstay env)"."""
    from include.engine.cli.demo_sandbox import existing

    demo = existing()
    if demo is None:
        raise NotFound("there is no demo", hint="`./mainstay up` starts one")
    for name, value in demo.environment().items():
        typer.echo(f"export {name}={shlex.quote(value)}")


def demo(
    keep_up: Annotated[
        bool, typer.Option("--keep/--down", help="leave everything running at the end, or stop it")
    ] = True,
) -> None:
    """Show what Mainstay does: start everything, back up, restore in a drill, put load on it, and say what was proved.

    The exit code is the drill's verdict.
    """
    from include.engine.cli.demo_load_tour import report_loads
    from include.engine.cli.demo_tour import report, tour

    sandbox = _sandbox(None, None)
    steps = Steps()
    steps.title("Starting the demo")
    sandbox.up(steps)
    seen = tour(sandbox, steps)
    report_loads(seen.loads)
    report(seen, seconds=steps.seconds)
    if keep_up:
        show(*_next_steps(sandbox, with_airflow=True))
    else:
        sandbox.down()
    leave(seen.verdict)


def _next_steps(demo: DemoSandbox, *, with_airflow: bool) -> list[str]:
    lines = ["", "Next:"]
    if with_airflow:
        password = demo.airflow.password("admin")
        lines.append(f"  {demo.airflow.url}   Airflow; log in as admin with {password}")
    return [
        *lines,
        "  ./mainstay status                        how every server is",
        "  ./mainstay backup                        a set, without Airflow",
        "  ./mainstay catalog                       what is in the bucket",
        "  ./mainstay restore postgres/main --to-sandbox --dry-run",
        "  ./mainstay down                          stop everything, keep the data",
    ]
