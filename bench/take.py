"""Take one full backup of one target, as ``./mainstay backup`` does, without the reading back: ``python -m bench.take TARGET``.

With ``--again`` it builds on the backups that are there, where the system does that.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime

from bench.quiet import Quiet
from include.engine import wiring
from include.engine.contracts import Stop
from include.engine.model import Target, backup_id
from include.engine.verbs import backup


def now() -> datetime:
    return datetime.now(UTC)


def main() -> None:
    target = Target.parse(sys.argv[1])
    pipeline = wiring.open_pipeline(wiring.load_inventory(), wiring.EnvironmentConnections())
    set_id = backup_id(now())
    backup.freeze(pipeline, set_id, [target], clock=now)
    backup.copy(pipeline, set_id, target, progress=Quiet(), stop=Stop(), clock=now, full="--again" not in sys.argv)
    backup.seal(pipeline, set_id, clock=now)
    backup.release(pipeline, set_id, [target])


if __name__ == "__main__":
    main()
