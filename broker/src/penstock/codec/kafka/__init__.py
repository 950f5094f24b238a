"""The Kafka wire protocol: frames, headers, and the generated messages."""
