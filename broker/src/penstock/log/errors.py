"""What can be wrong with a data folder, each with the sentence for whoever has to mend it."""

from __future__ import annotations


class LogDamagedError(Exception):
    """The log does not read back what was written; the broker refuses to start on it. Names file and position."""


class DataFolderError(Exception):
    """The data folder cannot be used: locked by another broker, of another cluster, or of a newer format."""


class ReleaseTooOldError(DataFolderError):
    """The shard uses what this release does not know: what the broker holds is whole, and a newer release reads it."""


class DiskFullError(Exception):
    """There is no segment left that this kind of entry may use."""


class EntriesRefusedError(Exception):
    """Entries that another replica sent cannot be appended: they are damaged, or do not follow the log's last entry."""


class EntriesGoneError(Exception):
    """Entries that were to be read were truncated meanwhile."""
