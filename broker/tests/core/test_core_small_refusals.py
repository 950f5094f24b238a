"""Mistakes that people make with one setting, and what they are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.config.broker_config import ConfigError, load_config
from penstock.process.electing import failover_policy
from penstock.replication.takeover import FailoverPolicy, Replication


def test_a_shard_uid_that_is_none_is_refused_with_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "broker.yaml"
    file.write_text("shard.uid: seven\n")
    with pytest.raises(ConfigError, match=r"shard\.uid is a UUID such as"):
        load_config(tmp_path / "data", config_file=file)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ("mode: MasterSlave", r"set lease\.name in a pod, or lease\.file outside Kubernetes, and not both"),
        ("mode: MasterSlave\nlease.name: a-0\nlease.file: /lease", r"and not both"),
        (
            "mode: MasterSlave\nlease.file: /lease\nlease.duration.ms: 3000",
            r"lease\.renew\.interval\.ms is 2000: set at most half of lease\.duration\.ms \(3000\)",
        ),
        ("mode: MasterSlave\nlease.file: /lease\nlease.duration.ms: 100", r"must be at least 600"),
        (
            "lease.name: a-0",
            r"lease\.name belongs to mode MasterSlave: leave it out, or write mode: MasterSlave",
        ),
        ("failover.max.lag: 5", r"failover\.max\.lag belongs to mode MasterSlave"),
    ],
)
def test_a_lease_that_does_not_fit_is_refused_with_a_sentence(
    tmp_path: Path, settings: str, sentence: str
) -> None:
    file = tmp_path / "broker.yaml"
    file.write_text(settings + "\n")
    with pytest.raises(ConfigError, match=sentence):
        load_config(tmp_path / "data", config_file=file)


def test_all_of_a_lease_is_taken_from_the_file(tmp_path: Path) -> None:
    file = tmp_path / "broker.yaml"
    file.write_text(
        "mode: MasterSlave\nreplication: async\nlease.file: /lease\nlease.duration.ms: 3000\n"
        "lease.renew.interval.ms: 1000\nmin.insync.replicas: 2\nfailover.max.lag: 7\n"
        "failover.allow.data.loss: true\n"
    )
    config = load_config(tmp_path / "data", config_file=file)
    assert failover_policy(config) == FailoverPolicy(
        replication=Replication.ASYNC, min_in_sync=2, max_lag=7, allow_data_loss=True
    )
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
