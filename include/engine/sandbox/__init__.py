"""Real servers as throw-away processes: the demo, the tests and the drills run on the same code.

Below ``systems`` and above ``store``; it knows processes, ports, accounts and directories, but no system.

::

    with Home.of(PROJECT).sandbox("drill-20261123") as sandbox:     # destroyed at the end, servers first
        postgres = PostgresServer(sandbox, "main", major=17)        # include.engine.systems.postgres.server
        postgres.start()                                            # initdb on the first start, then reuse
        with postgres.connect() as connection:
            connection.execute("select version()")
"""
