"""Apache Kafka on this machine: its jars, its broker, its tools. Knows no topic and no service."""
