"""Apache Airflow: a real one in a sandbox, and the client that asks it over REST.  Started as processes, never imported."""
