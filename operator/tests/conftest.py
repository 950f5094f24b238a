"""Fixtures shared by the operator's tests."""

from kube_apiserver import kube_apiserver, pytest_collection_finish

__all__ = ["kube_apiserver", "pytest_collection_finish"]
