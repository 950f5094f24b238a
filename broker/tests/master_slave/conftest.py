"""The Lease's tests need the API server that the operator's have."""

from kube_apiserver import kube_apiserver, pytest_collection_finish

__all__ = ["kube_apiserver", "pytest_collection_finish"]
