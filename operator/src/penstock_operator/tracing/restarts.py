"""Which pass restarted which pod, until the pod that comes instead is there to say so.

A pod that is evicted takes its annotations along, and what is in its StatefulSet's template would restart others. So the
next pod is marked when it is seen. An operator that ends meanwhile leaves it unmarked; nothing else depends on it.
"""

from __future__ import annotations

from typing import Final

RESTARTS_MAX: Final = 1000  # under way at once; the oldest is forgotten for one more


class Restarts:
    """See the module."""

    def __init__(self) -> None:
        self._under_way: dict[tuple[str, str], tuple[str, str]] = {}  # namespace, pod -> uid, traceparent

    def began(self, namespace: str, pod: str, uid: str, traceparent: str) -> None:
        """The pod with this uid was told to end by the pass with this `traceparent`."""
        self._under_way.pop((namespace, pod), None)
        while len(self._under_way) >= RESTARTS_MAX:
            del self._under_way[next(iter(self._under_way))]
        self._under_way[namespace, pod] = uid, traceparent

    def came_back(self, namespace: str, uids: dict[str, str]) -> dict[str, str]:
        """Pods that were restarted, of those that there are now (name -> uid), with what restarted them; each once."""
        back = {}
        for pod, uid in uids.items():
            found = self._under_way.get((namespace, pod))
            if found is not None and found[0] != uid:
                back[pod] = found[1]
                del self._under_way[namespace, pod]
        return back
