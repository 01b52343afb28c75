"""Spark: the streaming job from Kafka to Cassandra, how it is kept running, and its checkpoint as a target."""
