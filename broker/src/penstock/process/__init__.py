"""Putting the broker's parts together and running them as one process."""
