"""When a member must be taken for somebody who has forgotten what it promised.

A member that acknowledged entries which its disk no longer holds would vote and count for what it does not have. So it
gives up its storage's identity, and comes back as a learner that is sent everything anew. Three things make it so: the
log is damaged below what was durable; the machine went down under `flush: async` without a clean stop, so that what was
acknowledged may never have reached the disk; a sync failed, after which the page cache may show what the disk lacks.
"""

from __future__ import annotations


def why_forgotten(*, running_boot: str, failed_boot: str, boot: str) -> str | None:
    """A sentence, or None for a member that knows what it promised, as far as can be told without reading its log.

    `running_boot` is the machine's boot in which the member last ran under `flush: async` without a clean stop,
    `failed_boot` the one in which a sync failed (both empty for none), `boot` the present one.
    """
    if failed_boot and failed_boot == boot:
        return "a sync of the disk failed before, so what the log shows may not be on it"
    if running_boot and running_boot != boot:
        return "the machine went down under flush.policy async, so acknowledged entries may be missing"
    return None
