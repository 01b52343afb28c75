"""What runs inside Spark: the streaming job.  It imports pyspark and nothing of the engine."""
