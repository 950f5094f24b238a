"""What can be wrong with a data folder, each with the sentence for whoever has to mend it."""

from __future__ import annotations


class LogDamagedError(Exception):
    """The log does not read back what was written; the broker refuses to start on it. Names file and position."""


class DataFolderError(Exception):
    """The data folder cannot be used: locked by another broker, of another cluster, or of a newer format."""


class DiskFullError(Exception):
    """There is no segment left that this kind of entry may use."""
