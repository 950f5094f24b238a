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


def test_a_mode_that_nobody_elects_for_is_refused_with_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "broker.yaml"
    file.write_text("mode: MasterSlave\n")
    with pytest.raises(ConfigError, match=r"mode MasterSlave is not built yet"):
        load_config(tmp_path / "data", config_file=file)
    file.write_text("mode: Raft\nreplication: async\n")
    assert load_config(tmp_path / "data", config_file=file).text("replication") == "async"


def test_an_advertised_address_takes_its_host_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "broker.yaml"
    listener = "{name: outside, protocol: kafka, bind: '0.0.0.0:9094', advertise: '$(HOST_IP):30001'}"
    file.write_text(f"listeners: [{listener}]\n")
    for host in ("172.18.0.3", "fd00::3"):
        monkeypatch.setenv("HOST_IP", host)
        (found,) = load_config(tmp_path / "data", config_file=file).listeners
        assert found.advertise == (host, 30_001)
    monkeypatch.delenv("HOST_IP")
    with pytest.raises(ConfigError, match=r"\$\(HOST_IP\):30001 needs the environment variable HOST_IP"):
        load_config(tmp_path / "data", config_file=file)
