"""Penstock: a message broker for Kubernetes."""

__version__ = "0.1.0"
