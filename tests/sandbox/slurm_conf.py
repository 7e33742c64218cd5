"""The configuration files of the private cluster, as pure functions of its facts."""

from dataclasses import dataclass
from pathlib import Path

DATABASE = "slurm_acct"
DATABASE_USER = "slurm"
LOG_SIZE = "32M"
GPUS = 4

Release = tuple[int, int]
"""Of Slurm, by year and month: (22, 5) is 22.05."""

CGROUPS_CAN_BE_DISABLED = (23, 2)


@dataclass(frozen=True, slots=True)
class Node:
    """One slurmd.

    :ivar port: TCP port of its own, because all nodes share one address
    :ivar gpus: number of fake GPUs
    """

    name: str
    port: int
    gpus: int = 0


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """What the files depend on.

    :ivar name: ClusterName; also the prefix of its tables, so letters and digits only
    :ivar host: short name of this machine, by which slurmctld recognises itself
    :ivar address: loopback address at which everything answers
    :ivar bind_address: whether the host's name leads to ``address``; then Slurm can bind that address only
    :ivar cpus: CPUs that each node claims
    :ivar min_job_age: seconds that slurmctld remembers ended jobs
    :ivar daemon_user: account of slurmctld and slurmdbd
    :ivar node_user: account of the slurmd
    """

    folder: Path
    name: str
    host: str
    address: str
    bind_address: bool
    controller_port: int
    accounting_port: int
    database_port: int
    nodes: tuple[Node, ...]
    cpus: int
    accounting: bool
    min_job_age: int
    daemon_user: str
    node_user: str

    @property
    def munge_socket(self) -> Path:
        """Where this cluster's munged listens."""
        return self.folder / "munge" / "sock"

    @property
    def database_socket(self) -> Path:
        """Where this cluster's MariaDB listens for its superuser."""
        return self.folder / "mysql" / "sock"


def slurm_conf(facts: ClusterFacts) -> str:
    """Render slurm.conf."""
    folder = facts.folder
    lines = [
        f"ClusterName={facts.name}",
        f"SlurmctldHost={facts.host}({facts.address})",
        f"SlurmctldPort={facts.controller_port}",
        f"SlurmUser={facts.daemon_user}",
        f"SlurmdUser={facts.node_user}",
        "AuthType=auth/munge",
        f"AuthInfo=socket={facts.munge_socket}",
        f"StateSaveLocation={folder}/state",
        f"SlurmdSpoolDir={folder}/spool/%n",
        f"SlurmctldPidFile={folder}/pid/slurmctld.pid",
        f"SlurmdPidFile={folder}/pid/slurmd-%n.pid",
        f"SlurmctldLogFile={folder}/log/slurmctld.log",
        f"SlurmdLogFile={folder}/log/slurmd-%n.log",
        "MailProg=/bin/true",
        # no control groups: they need systemd or a writable cgroup tree
        "ProctrackType=proctrack/linuxproc",
        "TaskPlugin=task/none",
        "JobAcctGatherType=jobacct_gather/linux",
        "JobAcctGatherFrequency=2",
        "JobAcctGatherParams=OverMemoryKill",
        "PropagateResourceLimits=NOFILE",  # Slurm's own default is ALL
        "SchedulerType=sched/backfill",
        "SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2,default_queue_depth=1000",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_Core_Memory",
        "SlurmdParameters=config_overrides",  # a small machine may claim more than it has
        "DefMemPerCPU=100",
        "PriorityType=priority/multifactor",
        "PriorityWeightQOS=1000",
        "PreemptType=preempt/qos",
        "PreemptMode=REQUEUE",
        "JobRequeue=1",
        "ReturnToService=2",
        "KillWait=3",
        f"MinJobAge={facts.min_job_age}",
        "InactiveLimit=0",
        "SlurmctldTimeout=30",
        "SlurmdTimeout=20",
        "MessageTimeout=5",
        "TCPTimeout=2",
        "MaxJobCount=50000",
        *_bound(facts),
        *_accounting(facts),
        *_nodes(facts),
    ]
    return "\n".join(lines) + "\n"


def _bound(facts: ClusterFacts) -> list[str]:
    # Slurm 22.05 binds the address that gethostname() leads to, or every address; there is no third way
    return ["CommunicationParameters=NoCtldInAddrAny,NoInAddrAny"] if facts.bind_address else []


def _accounting(facts: ClusterFacts) -> list[str]:
    if not facts.accounting:
        return ["AccountingStorageType=accounting_storage/none"]
    return [
        "AccountingStorageType=accounting_storage/slurmdbd",
        f"AccountingStorageHost={facts.address}",
        f"AccountingStoragePort={facts.accounting_port}",
        f"AccountingStoragePass={facts.munge_socket}",
        "AccountingStorageEnforce=associations,limits,qos",
        "AccountingStorageTRES=gres/gpu",
        "AccountingStoreFlags=job_comment",
    ]


def _nodes(facts: ClusterFacts) -> list[str]:
    lines = ["GresTypes=gpu"]
    for node in facts.nodes:
        gres = f" Gres=gpu:a100:{node.gpus}" if node.gpus else ""
        # Debian builds slurmd without --enable-multiple-slurmd: one host name may have one node only
        lines.append(
            f"NodeName={node.name} NodeHostname={node.name} NodeAddr={facts.address} Port={node.port} "
            f"CPUs={facts.cpus} SocketsPerBoard=1 CoresPerSocket={facts.cpus} ThreadsPerCore=1 "
            f"RealMemory=8000{gres} State=UNKNOWN"
        )
    plain = [node.name for node in facts.nodes if not node.gpus]
    fitted = [node.name for node in facts.nodes if node.gpus]
    partitions = [
        ("cpu", plain, "Default=YES MaxTime=7-00:00:00 DefaultTime=01:00:00"),
        ("gpu", fitted, "MaxTime=1-00:00:00 DefaultTime=00:30:00"),
        ("debug", plain[:1], "MaxTime=00:05:00 DefaultTime=00:02:00 PriorityTier=10"),
    ]
    for name, members, limits in partitions:
        if members:
            lines.append(f"PartitionName={name} Nodes={','.join(members)} {limits} State=UP")
    return lines


def gres_conf(facts: ClusterFacts) -> str:
    """Render gres.conf: every GPU is a device file, because a bare count drains the node (Slurm 22.05)."""
    return "".join(
        f"NodeName={node.name} Name=gpu Type=a100 File={facts.folder}/dev/gpu[0-{node.gpus - 1}]\n"
        for node in facts.nodes
        if node.gpus
    )


def cgroup_conf(release: Release) -> str | None:
    """Render cgroup.conf, or None where there must not be one.

    Where Slurm can be told to do without control groups it must be, or its nodes do not start. Before that release it
    does without them by itself.
    """
    return "CgroupPlugin=disabled\n" if release >= CGROUPS_CAN_BE_DISABLED else None


def slurmdbd_conf(facts: ClusterFacts, password: str) -> str:
    """Render slurmdbd.conf; it holds the database's password, so only ``daemon_user`` may read it."""
    lines = [
        "AuthType=auth/munge",
        f"AuthInfo=socket={facts.munge_socket}",
        f"DbdHost={facts.host}",
        f"DbdAddr={facts.address}",
        f"DbdPort={facts.accounting_port}",
        *_bound(facts),
        f"SlurmUser={facts.daemon_user}",
        f"LogFile={facts.folder}/log/slurmdbd.log",
        f"PidFile={facts.folder}/pid/slurmdbd.pid",
        "StorageType=accounting_storage/mysql",
        "StorageHost=127.0.0.1",
        f"StoragePort={facts.database_port}",
        f"StorageUser={DATABASE_USER}",
        f"StoragePass={password}",
        f"StorageLoc={DATABASE}",
        "Parameters=PreserveCaseUser",  # users whose names have capitals
    ]
    return "\n".join(lines) + "\n"


def my_cnf(facts: ClusterFacts) -> str:
    """Render my.cnf: small, quick and forgetful of power cuts."""
    folder = facts.folder
    lines = [
        "[mariadbd]",
        f"datadir={folder}/mysql",
        f"socket={facts.database_socket}",
        f"pid-file={folder}/mysql/pid",
        f"port={facts.database_port}",
        "bind-address=127.0.0.1",
        f"tmpdir={folder}/sorting",
        "skip-name-resolve",
        "skip-log-bin",
        "innodb_buffer_pool_size=128M",
        f"innodb_log_file_size={LOG_SIZE}",
        "innodb_lock_wait_timeout=900",  # slurmdbd complains about less
        "innodb_flush_log_at_trx_commit=0",
        "innodb_fast_shutdown=1",
        "loose-innodb_snapshot_isolation=OFF",  # slurmdbd ends where it is on; loose, as an older MariaDB has it not
        "performance_schema=OFF",
    ]
    return "\n".join(lines) + "\n"
