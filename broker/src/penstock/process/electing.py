"""Who decides whether this broker leads in mode MasterSlave: the shard's Lease, in a file or in Kubernetes.

Each start of a broker has a holder UUID of its own. It stands in the Lease while this one is master, and where the
configuration names a file for it, there as well: whoever then sees the process end can tell whether it held the Lease.
"""

from __future__ import annotations

import logging
import os
import random
import uuid
from pathlib import Path

from penstock.config.broker_config import BrokerConfig
from penstock.replication.master_contender import Election
from penstock.replication.master_lease import HolderIdentity
from penstock.replication.master_timing import LeaseTiming, lease_timing
from penstock.replication.members import member_id
from penstock.replication.takeover import FailoverPolicy, Replication
from penstock.runtime.clock import Clock
from penstock.runtime.data_folder import Meta
from penstock.runtime.lease_elector import LeaseElector
from penstock.runtime.lease_file import LeaseFile
from penstock.runtime.lease_kube import KubeAccessError, KubeLease, access_from_pod
from penstock.runtime.lease_store import LeaseStore

logger = logging.getLogger(__name__)

# Field 22 of proc(5)'s stat, counted from behind the name, which may hold anything.
_START_TIME_FIELD = 19


def make_elector(config: BrokerConfig, meta: Meta, clock: Clock) -> LeaseElector | None:
    """None in mode Raft, where members elect. Raises OSError with a sentence."""
    if config.text("mode") == "Raft":
        return None
    holder, identity = str(uuid.uuid4()), _identity(config, meta)
    timing = lease_timing(config.integer("lease.duration.ms"), config.integer("lease.renew.interval.ms"))
    election = Election(
        holder=holder,
        identity=identity,
        shard_uid=str(meta.shard_uid),
        policy=failover_policy(config),
        timing=timing,
    )
    store = _store(config, identity, timing)
    _leave_word(config.text("termination.message.file"), holder)
    # Two that see the Lease run out at the same moment do not both claim it at once.
    return LeaseElector(election, store, clock, lambda: random.randrange(timing.poll_interval_ms))


def failover_policy(config: BrokerConfig) -> FailoverPolicy:
    """As configured."""
    return FailoverPolicy(
        replication=Replication(config.text("replication")),
        min_in_sync=config.integer("min.insync.replicas"),
        max_lag=config.integer("failover.max.lag"),
        allow_data_loss=bool(config.value("failover.allow.data.loss")),
    )


def _identity(config: BrokerConfig, meta: Meta) -> HolderIdentity:
    pod_uid = config.text("pod.uid")
    return HolderIdentity(
        member=member_id(meta.storage_id),
        ordinal=meta.ordinal,
        pod_name=config.text("pod.name"),
        pod_uid=pod_uid,
        container_id="" if pod_uid else process_name(os.getpid()),
    )


def process_name(pid: int) -> str:
    """What tells a process of this machine from all others since it was booted, `PID:START`; empty where the system does
    not tell."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return f"{pid}:{stat.rpartition(')')[2].split()[_START_TIME_FIELD]}"


def _store(config: BrokerConfig, identity: HolderIdentity, timing: LeaseTiming) -> LeaseStore:
    if file := config.text("lease.file"):
        # One process at a time has the data folder, and with it the member's name.
        return LeaseFile(Path(file), str(identity.member), timing.request_timeout_ms)
    try:
        return KubeLease(access_from_pod(), config.text("lease.name"), timing.request_timeout_ms)
    except KubeAccessError as error:
        raise OSError(str(error)) from error


def _leave_word(file: str, holder: str) -> None:
    if not file:
        return
    try:
        # In place: what a container runtime mounted there cannot be exchanged.
        Path(file).write_text(holder)
    except OSError as error:
        logger.warning(
            "%s cannot be written (%s): when this broker ends as master, the Lease has to run out",
            file,
            error,
        )
