#!/bin/bash
# The WAL archiver in a container that has PostgreSQL's programs: installs what requirements.txt names once, then runs it.  The
# engine needs a few of these only; that it is the same list as Airflow's keeps their versions the same.
set -eu
if [ ! -x /var/lib/mainstay/venv/bin/python ]; then
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends python3 python3-venv
    python3 -m venv /var/lib/mainstay/venv
    /var/lib/mainstay/venv/bin/pip install -q -r /mainstay/requirements.txt
fi
export MAINSTAY_PYTHON=/var/lib/mainstay/venv/bin/python MAINSTAY_HOME=/var/lib/mainstay/home
exec /mainstay/mainstay wal-archive postgres/main --spool /var/lib/mainstay/wal
