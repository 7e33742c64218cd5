"""A private, real Slurm on one machine: several nodes, accounting, no systemd.

A Slurm that is already here is not touched.
"""

import os
import pwd
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from tests.sandbox import commands, database, packages, plan, processes, servers, sudo
from tests.sandbox.accounts import EVERYBODY, GROUP, PEOPLE, SERVICE, Accounts, Wanted
from tests.sandbox.daemons import Daemon, Daemons
from tests.sandbox.errors import CommandFailed, SandboxError
from tests.sandbox.folder import Folder
from tests.sandbox.layout import ClusterSettings, Layout

__all__ = ["Cluster", "ClusterSettings", "CommandFailed", "SandboxError"]


def _silence(_sentence: str) -> None:
    pass


class Cluster:
    """A cluster known by its settings: another process with the same settings steers the same cluster.

    :ivar conf: its slurm.conf
    :ivar commands: folder of sbatch and the others
    :ivar name: its ClusterName, with which the tables of its database begin
    :ivar address: loopback address at which its servers listen
    :ivar controller_port: TCP port of slurmctld
    :ivar service_user: account for the provider's daemon; the caller's own when not root
    :ivar users: accounts of researchers; none when not root
    """

    def __init__(self, settings: ClusterSettings, say: Callable[[str], None] = _silence) -> None:
        """Describe a cluster; nothing is touched.

        :param say: gets short sentences about what happens to the machine
        """
        self.settings = settings
        self.folder = settings.folder
        self._layout = Layout(settings)
        self._root = self._layout.root
        self.conf = self._layout.conf
        self.commands = Path("/usr/bin")
        facts = self._layout.facts()
        self.name = facts.name
        self.address = facts.address
        self.controller_port = facts.controller_port
        self.service_user = SERVICE if self._root else self._layout.caller
        self.users: tuple[str, ...] = tuple(person.name for person in PEOPLE) if self._root else ()
        self._say = say
        self._place = Folder(settings.folder)
        self._accounts = Accounts(settings.folder, say)
        self._daemons = Daemons(settings.folder, self.address, {"SLURM_CONF": str(self.conf)})

    # ---- life

    def plan(self) -> list[str]:
        """Say, in sentences, what :meth:`start` will do to this machine.

        :raises SandboxError: when this is not a machine with dpkg
        """
        ports = sorted(daemon.port for daemon in self._servers() if daemon.port)
        absent = self._accounts.absent(EVERYBODY) if self._root else ()
        return plan.sentences(
            self._layout.facts(), self._missing_packages(), absent, ports, list(self.status()), root=self._root
        )

    def start(self) -> None:
        """Install, configure and start what is not there yet, and wait until all nodes are up.

        When it fails, and nothing ran before, nothing runs afterwards.

        :raises SandboxError: when that cannot be done
        """
        self._place.prepare(shared=self._root)
        with self._place.lock() as here:
            if not here:
                raise SandboxError(f"The sandbox in {self.folder} was being removed; start it again.")
            alive = any(self.status().values())
            self._layout.check_unchanged(alive=alive)
            if self.running():
                return
            try:
                self._start()
            except BaseException:
                if not alive:
                    self._stop()
                raise

    def _start(self) -> None:
        packages.install(self._missing_packages(), self.folder / "apt-get.log", self._say)
        if self._root:
            self._accounts.make(EVERYBODY)
        self._layout.make_folders()
        self._layout.write_files()
        absent = self._absent()
        for daemon in absent:
            self._daemons.check_port(daemon)
        self._say(f"starting {', '.join(daemon.name for daemon in absent)}")
        self._start_accounting()
        self._start_all()

    def _start_accounting(self) -> None:
        self.start_daemon("munged")
        if not self.settings.accounting:
            return
        facts = self._layout.facts()
        database.initialise(facts, self._layout.owners.database)
        self.start_daemon("mariadbd")
        database.make_database(facts)
        self.start_daemon("slurmdbd")
        done = self.folder / "slurm-accounts"
        if not done.exists():
            database.make_accounts(self.run, facts, self.service_user, self.users)
            done.touch()

    def _start_all(self) -> None:
        launched = [daemon for daemon in self._absent() if self._daemons.launch(daemon)]
        for daemon in launched:
            self._daemons.wait(daemon)

    def stop(self) -> None:
        """End every process of this cluster, jobs included. Nothing happens when there is none.

        :raises SandboxError: when one cannot be ended, or the sandbox is another account's
        """
        with self._place.lock() as here:
            if here:
                self._stop()

    def _stop(self) -> None:
        if self._root:
            sudo.forbid(self)
        self._stop_slurm()
        self._daemons.end(list(self.status()))
        self._daemons.end_offspring(self.name)

    def _stop_slurm(self) -> None:
        self._daemons.end([name for name in self.status() if servers.knows_jobs(name)], patience=5)
        self._daemons.end_offspring(self.name)

    def remove(self) -> None:
        """Stop, delete the accounts that this sandbox made and then its folder. Packages stay.

        :raises SandboxError: when something still uses an account
        """
        with self._place.lock() as here:
            if here:
                self._stop()
                if self._root:
                    self._accounts.remove()
                self._place.delete()

    def forget_all(self) -> None:
        """Drop all jobs and all recorded use but keep accounts and limits; job ids begin at 1 again.

        All servers run afterwards, also those that did not before.

        :raises SandboxError: when there is no sandbox
        """
        with self._place.lock() as here:
            if not here or not self.conf.exists():
                raise SandboxError(f"There is no sandbox in {self.folder}; start it first.")
            self._stop_slurm()
            self._layout.forget_state()
            self._start_accounting()
            if self.settings.accounting:
                database.delete_history(self._layout.facts())
            self._start_all()

    def running(self) -> bool:
        """Tell whether all servers are alive (a frozen one is)."""
        return all(self.status().values())

    def status(self) -> dict[str, bool]:
        """Tell for each server whether it is alive."""
        return {daemon.name: self._daemons.process(daemon.name) is not None for daemon in self._servers()}

    # ---- use

    def environment(self) -> dict[str, str]:
        """Give what a process needs in its environment to talk to this cluster."""
        path = os.environ.get("PATH", commands.PLAIN["PATH"])
        return {"SLURM_CONF": str(self.conf), "PATH": f"{self.commands}:{path}"}

    def run(self, *argv: str, user: str | None = None, stdin: str = "", timeout: float = 60) -> str:
        """Run a command of the cluster and give what it prints.

        :param user: account to run it as, in its home; None means the caller, in the sandbox's scratch folder
        :param timeout: seconds after which it is killed
        :raises CommandFailed: a CalledProcessError that shows the command's own words
        :raises subprocess.TimeoutExpired: when it was killed
        :raises SandboxError: when there is no such account, or no sandbox
        """
        if not self.conf.exists():
            raise SandboxError(f"There is no sandbox in {self.folder}; start it first.")
        name = user or self._layout.caller
        commands.identity_of(name)
        home = pwd.getpwnam(name).pw_dir
        return commands.run(
            argv,
            environment={"SLURM_CONF": str(self.conf), "HOME": home, "USER": name, "LOGNAME": name, "SHELL": "/bin/bash"},
            user=name,
            stdin=stdin,
            folder=Path(home) if user else self.folder / "scratch",
            timeout=timeout,
        )

    def invite(self, names: Sequence[str]) -> None:
        """Make more accounts of researchers, in Slurm too; they go when the sandbox is removed. Needs root.

        :raises SandboxError: when one cannot be made
        """
        self._accounts.make([Wanted(name, groups=(GROUP,)) for name in names])
        known = set(self.run("sacctmgr", "--noheader", "--parsable2", "show", "user", "format=user").split())
        if new := [name for name in names if name not in known]:  # it refuses those that are there
            self.run("sacctmgr", "-i", "add", "user", ",".join(new), "Account=proj-b", "DefaultAccount=proj-b")

    def sql(self, statement: str) -> str:
        """Run SQL as the database's superuser; give rows as lines, fields separated by tabs.

        :raises CommandFailed: when MariaDB refuses
        """
        return database.sql(self._layout.facts(), statement)

    # ---- trouble on purpose

    def freeze(self, daemon: str) -> None:
        """Keep a server from doing anything while its ports stay open (SIGSTOP)."""
        self._daemons.signal(self._known(daemon).name, signal.SIGSTOP)

    def thaw(self, daemon: str) -> None:
        """Let a frozen server go on (SIGCONT)."""
        self._daemons.signal(self._known(daemon).name, signal.SIGCONT)

    def stop_daemon(self, daemon: str) -> None:
        """Ask one server to end, and wait until it has. Jobs of a stopped node run on."""
        self._daemons.end([self._known(daemon).name])

    def kill_daemon(self, daemon: str) -> None:
        """End one server without a warning (SIGKILL)."""
        self._daemons.end([self._known(daemon).name], patience=0)

    def start_daemon(self, daemon: str) -> None:
        """Start one server, and wait until it answers. Nothing happens when it runs.

        slurmdbd ends at a query while its database is away, or at the next one (22.05): it is started again with that.
        """
        wanted = self._known(daemon)
        if daemon == "mariadbd" and self._daemons.process(daemon) is None and self._daemons.was_started("slurmdbd"):
            self._daemons.end(["slurmdbd"])
            self._daemons.start(wanted)
            wanted = self._known("slurmdbd")
        self._daemons.start(wanted)

    def forget_job(self, slurm_id: int) -> None:
        """Make one job vanish as if it had never been: cancelled, purged by slurmctld, gone from accounting.

        Takes some ``min_job_age``, because slurmctld purges at intervals.

        :raises SandboxError: when slurmctld still remembers it after a minute more than that
        """
        self.run("scancel", "--quiet", str(slurm_id))
        # asked for a single unknown id squeue fails, asked for two it does not (22.05)
        listing = ("squeue", "-h", "-t", "all", "-j", f"{slurm_id},{slurm_id}", "-o", "%A")
        processes.wait_until(
            f"slurmctld still remembers job {slurm_id}",
            lambda: not self.run(*listing).strip(),
            seconds=60 + 2 * self.settings.min_job_age,
        )
        if self.settings.accounting:
            facts = self._layout.facts()
            # deleted before its end has arrived the row would come back; after that nothing writes to it
            with suppress(SandboxError):
                processes.wait_until("its end", lambda: database.has_ended(facts, slurm_id), seconds=10)
            database.delete_job(facts, slurm_id)

    # ---- facts

    def _known(self, name: str) -> Daemon:
        found = {daemon.name: daemon for daemon in self._servers()}
        if name not in found:
            raise SandboxError(f"This cluster has no server {name}; it has {', '.join(found)}.")
        return found[name]

    def _absent(self) -> list[Daemon]:
        return [daemon for daemon in self._servers() if self._daemons.process(daemon.name) is None]

    def _servers(self) -> tuple[Daemon, ...]:
        return servers.servers(self._layout.facts(), self._layout.owners, self.conf)

    def _missing_packages(self) -> tuple[str, ...]:
        return packages.missing(packages.needed(accounting=self.settings.accounting))
