"""What the DAGs and the shell use: the engine, its configuration, the runbooks."""
