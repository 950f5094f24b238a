"""Queue groups keep their promises whatever happens in whatever order."""

from __future__ import annotations

from hypothesis import settings as hypothesis_settings

from delivery_life import QueueLife

TestQueueLife = QueueLife.TestCase
TestQueueLife.settings = hypothesis_settings(max_examples=100, stateful_step_count=40, deadline=None)
