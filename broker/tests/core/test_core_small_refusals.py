"""Mistakes that people make with one setting, and what they are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.config.broker_config import ConfigError, load_config


def test_a_shard_uid_that_is_none_is_refused_with_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "broker.yaml"
    file.write_text("shard.uid: seven\n")
    with pytest.raises(ConfigError, match=r"shard\.uid is a UUID such as"):
        load_config(tmp_path / "data", config_file=file)
