"""The Kafka door: a listener for unmodified Kafka clients. It translates and decides nothing about topics or groups."""
