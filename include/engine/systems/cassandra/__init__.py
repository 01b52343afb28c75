"""Cassandra: snapshots of all nodes at once, files that leave from the nodes themselves, restores into any topology."""
