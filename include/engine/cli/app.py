"""All commands, by section.  Client libraries, tables and pydantic are imported by the commands that need them:
``./mainstay --help`` answers at once."""

from __future__ import annotations

import typer

from include.engine.cli.backup import backup
from include.engine.cli.boundary import Boundary
from include.engine.cli.catalog import catalog
from include.engine.cli.checklist import checklist
from include.engine.cli.commit_log_archive import commit_log_archive
from include.engine.cli.demo import demo, down, env, status, up
from include.engine.cli.drill import drill
from include.engine.cli.evidence import evidence
from include.engine.cli.inventory import inventory
from include.engine.cli.keys import keys
from include.engine.cli.load import load
from include.engine.cli.mirror import failover, mirror
from include.engine.cli.quality import check, run_tests
from include.engine.cli.restore import restore
from include.engine.cli.retention import expire, keep, retention, unkeep
from include.engine.cli.sandboxes import sandboxes
from include.engine.cli.stream import stream
from include.engine.cli.sweep import sweep
from include.engine.cli.upkeep import upkeep
from include.engine.cli.verify import verify
from include.engine.cli.wal_archive import wal_archive

_DEMO, _VERBS, _KEEPING, _PROJECT = "The demo", "Verbs", "What is kept", "The project"

_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}

app = typer.Typer(
    cls=Boundary,
    help="Restore the pipeline, not a database.",
    epilog="Exit codes: 0 pass, 1 fail or error, 2 not understood, 3 unverified.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
for command in (demo, up, down, status, env):
    app.command(rich_help_panel=_DEMO)(command)
for command in (sweep, checklist, backup, catalog, verify, restore, drill, mirror, failover, stream):
    app.command(rich_help_panel=_VERBS)(command)
app.add_typer(sandboxes, name="sandbox", rich_help_panel=_VERBS)
app.add_typer(load, name="load", rich_help_panel=_VERBS)
app.command("wal-archive", rich_help_panel=_VERBS)(wal_archive)
app.command("commit-log-archive", rich_help_panel=_VERBS)(commit_log_archive)
for command in (retention, expire, keep, unkeep, upkeep):
    app.command(rich_help_panel=_KEEPING)(command)
app.add_typer(keys, name="key", rich_help_panel=_KEEPING)
app.add_typer(evidence, name="evidence", rich_help_panel=_KEEPING)
app.add_typer(inventory, name="inventory", rich_help_panel=_PROJECT)
app.command("test", rich_help_panel=_PROJECT, context_settings=_PASS_ON)(run_tests)
app.command(rich_help_panel=_PROJECT)(check)
