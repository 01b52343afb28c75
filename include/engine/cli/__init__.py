"""The same verbs from a shell, and what people need around them: the demo, the tests, the checks.

Airflow may be dead when this is needed, so nothing here or below knows it, and a restore asks for the bucket only.
Every command prints tables for people, or one JSON document with ``--json``; progress and notices go to standard error.
Exit codes: 0 pass, 1 fail or error, 2 a command line that cannot be understood, 3 unverified.
"""
