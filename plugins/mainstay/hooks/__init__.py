"""From a connection's name to an engine object: the only place that reads Airflow's connections."""
