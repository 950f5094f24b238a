"""The operator: from resources to running brokers, on Kubernetes or as local processes."""
