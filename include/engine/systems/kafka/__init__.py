"""Apache Kafka: topics to Parquet segments and back, consumer groups exactly, mirrors, probes; and a real one for sandboxes."""
