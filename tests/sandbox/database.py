"""The private cluster's accounting: its MariaDB, its tables, and the accounts and limits of its jobs."""

import os
import pwd
import secrets
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.sandbox import commands
from tests.sandbox.errors import CommandFailed, SandboxError
from tests.sandbox.slurm_conf import DATABASE, DATABASE_USER, LOG_SIZE, ClusterFacts

HISTORY = (
    "job_table",
    "step_table",
    "job_env_table",
    "job_script_table",
    "event_table",
    "suspend_table",
    "resv_table",
    *(f"{what}_{span}_table" for what in ("assoc_usage", "wckey_usage", "usage") for span in ("hour", "day", "month")),
)
"""slurmdbd's tables of what happened (22.05; older ones lack some), as against those of who may do what."""


def password(folder: Path) -> str:
    """Give slurmdbd's password for the database, made up at the first call."""
    file = folder / "etc" / "password"
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(secrets.token_hex(16))
    return file.read_text()


def initialise(facts: ClusterFacts, user: str | None) -> None:
    """Make MariaDB's own tables, unless they are there.

    :param user: account that will run it; None means the caller
    :raises SandboxError: when that fails
    """
    data = facts.folder / "mysql"
    if (data / "complete").exists():
        return
    try:
        commands.run(
            [
                "mariadb-install-db",
                "--no-defaults",
                f"--datadir={data}",
                f"--tmpdir={facts.folder}/sorting",
                "--skip-test-db",
                "--innodb-flush-log-at-trx-commit=0",  # a third of the time
                f"--innodb-log-file-size={LOG_SIZE}",
                "--auth-root-authentication-method=socket",
                f"--auth-root-socket-user={_caller()}",
            ],
            user=user,
            folder=facts.folder,
            timeout=300,
        )
    except (CommandFailed, subprocess.TimeoutExpired) as failed:
        raise SandboxError(f"MariaDB's tables could not be made in {data}. {failed}") from failed
    (data / "complete").touch()


def answers(facts: ClusterFacts) -> bool:
    """Tell whether MariaDB answers."""
    return commands.succeeds(["mariadb-admin", *_superuser(facts), "ping"])


def sql(facts: ClusterFacts, statement: str, database: str = DATABASE) -> str:
    """Let MariaDB's superuser run statements; give the rows, one a line, fields separated by tabs.

    :raises CommandFailed: when MariaDB refuses
    """
    return commands.run(["mariadb", *_superuser(facts), "-N", database], stdin=statement)


def make_database(facts: ClusterFacts) -> None:
    """Make slurmdbd's empty database and its account, unless they are there."""
    secret = password(facts.folder)
    sql(
        facts,
        f"CREATE DATABASE IF NOT EXISTS {DATABASE};"
        f"CREATE USER IF NOT EXISTS {DATABASE_USER}@'127.0.0.1' IDENTIFIED BY '{secret}';"
        f"GRANT ALL ON {DATABASE}.* TO {DATABASE_USER}@'127.0.0.1';",
        database="mysql",
    )


# All that is put into statements below are integers and names that this package made up.


def delete_history(facts: ClusterFacts) -> None:
    """Delete all jobs and all use from the accounting database; accounts and limits stay."""
    present = sql(facts, "SHOW TABLES").split()
    wanted = [f"{facts.name}_{table}" for table in HISTORY]
    sql(facts, "".join(f"DELETE FROM {table};" for table in wanted if table in present))


def delete_job(facts: ClusterFacts, slurm_id: int) -> None:
    """Delete all rows of one job, its steps included."""
    jobs = f"{facts.name}_job_table"
    rows = f"SELECT job_db_inx FROM {jobs} WHERE id_job = {slurm_id:d}"
    sql(
        facts,
        f"DELETE FROM {facts.name}_step_table WHERE job_db_inx IN ({rows});DELETE FROM {jobs} WHERE id_job = {slurm_id:d};",
    )


def has_ended(facts: ClusterFacts, slurm_id: int) -> bool:
    """Tell whether the database knows a job and the end of each of its rows."""
    jobs = f"{facts.name}_job_table"
    counts = f"SELECT COUNT(*), COUNT(NULLIF(time_end, 0)) FROM {jobs} WHERE id_job = {slurm_id:d}"
    known, ended = sql(facts, counts).split()
    return known == ended != "0"


def make_accounts(run: Callable[..., str], facts: ClusterFacts, service: str, people: Sequence[str]) -> None:
    """Make Slurm's accounts, qualities of service and users, through sacctmgr; harmless when they are there.

    :param run: runs a command of the cluster with a ``stdin``
    :param service: account of the daemon, which becomes an Operator
    :param people: names of users; the first is in proj-a and proj-c, the others in proj-b
    :raises SandboxError: when they are not there afterwards
    """
    wide = "Account=proj-a,proj-c DefaultAccount=proj-a QosLevel=normal,high,limited"
    narrow = "Account=proj-b DefaultAccount=proj-b"
    lines = [  # few, because each takes half a second
        f"add cluster {facts.name}",
        "add qos high Priority=1000 Preempt=normal PreemptMode=requeue",
        "add qos limited MaxSubmitJobsPerUser=2 MaxWall=00:10:00",
        "add account proj-a,proj-b Organization=sandbox",
        "add account proj-c Organization=sandbox MaxSubmitJobs=3",
        f"add user {service} {wide} AdminLevel=Operator",
        *(f"add user {name} {wide}" for name in people[:1]),
        *(f"add user {name} {narrow}" for name in people[1:]),
    ]
    said = run("sacctmgr", "-i", stdin="\n".join(lines) + "\n")
    made = run("sacctmgr", "-n", "-P", "list", "assoc", f"cluster={facts.name}", "format=user").split()
    if absent := {service, *people}.difference(made):
        names = ", ".join(sorted(absent))
        raise SandboxError(f"Slurm did not take the users {names}; remove the sandbox and try again. It said: {said}")


def _superuser(facts: ClusterFacts) -> list[str]:
    return ["--no-defaults", f"--socket={facts.database_socket}", f"--user={_caller()}"]


def _caller() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name
