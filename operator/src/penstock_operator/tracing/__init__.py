"""The operator's own traces: a span per reconcile pass, a child per call to Kubernetes and to brokers."""
