"""What was observed, as plain data: Kubernetes objects and brokers' answers, each with what is not known."""
