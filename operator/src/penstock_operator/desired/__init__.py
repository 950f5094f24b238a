"""From a spec to Kubernetes manifests, as a function: the same spec gives the same bytes."""
