"""What an administrator does with a package, step by step, and what must be true after each step."""

import os
import pwd
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packages.targets import Target
from packages.trial.world import World
from tests.sandbox.cluster import Cluster
from tests.sandbox.core import SimulatedCore
from tests.sandbox.core.applications import application, word
from tests.sandbox.processes import wait_until
from tests.sandbox.site import free_port, toml
from tests.sandbox.unix_http import get

PROGRAM = "/opt/ucloud-slurm/bin/ucloud-slurm"
ENABLED = ("ucloud-slurm.service", "ucloud-slurm.socket", "ucloud-slurm-worker.timer", "ucloud-slurm-listener.service")
UNUSED = ("ucloud-slurm-runner.socket", "ucloud-slurm-link.socket", "ucloud-slurm-files.service", "ucloud-slurm-backup.timer")
SLURM = "/run/slurm-of-the-trial"
PATIENCE = 60.0
PERSON = "Alice#1"
# It runs until it is ended.
APPLICATION = application("waiter", "1.0", [word("bash"), word("-c"), word("until [ -e go ]; do sleep 0.2; done; echo bye")])
DATABASE = "/var/lib/ucloud-slurm/ucloud-slurm.db"


class NotTriedError(Exception):
    """A step cannot be tried here; says why."""


@dataclass(frozen=True)
class Manager:
    """How packages of a kind are handled: commands, in which ``{}`` is a file.

    :ivar purge: None where there is no such thing
    """

    install: str
    upgrade: str
    remove: str
    verify: str
    purge: str | None
    repair: str


MANAGERS = {
    "deb": Manager(
        install="dpkg -i {}",
        upgrade="dpkg -i {}",
        remove="dpkg -r ucloud-slurm",
        verify="dpkg --verify ucloud-slurm",
        purge="dpkg -P ucloud-slurm",
        repair="dpkg --configure -a",
    ),
    # The stand-in for Enterprise Linux keeps its own packages with dpkg, so that rpm knows of no Python.
    "rpm": Manager(
        install="rpm -i --nodeps {}",
        upgrade="rpm -U --nodeps {}",
        remove="rpm -e ucloud-slurm",
        verify="rpm -V --nodeps ucloud-slurm",
        purge=None,
        repair="rpm -U --nodeps --replacepkgs {}",
    ),
}


@dataclass
class Story:
    """One trial.

    :ivar old: the package of before, and new: that which is tried; both are paths in the world
    :ivar cluster: where there is a Slurm that the clients of the distribution can talk to
    """

    target: Target
    world: World
    old: str
    new: str
    core: SimulatedCore
    cluster: Cluster | None = None
    job: str = ""
    answered: list[bool] = field(default_factory=list)

    @property
    def manager(self) -> Manager:
        """How its kind of package is handled."""
        return MANAGERS[self.target.kind]

    def prepare(self) -> None:
        """What a site has before: the daemon user with its number, and a folder for jobs that the nodes see."""
        if self.cluster is None:
            self._write(f"{SLURM}.conf", "ClusterName=none\n")
            return
        address = f"127.0.0.1:{free_port()}"
        self._drop_in("ucloud-slurm.socket", f"[Socket]\nListenStream={address}\n")
        self.core.connect(f"http://{address}")
        account = pwd.getpwnam(self.cluster.service_user)
        self.world.do("groupadd", "--system", "--gid", str(account.pw_gid), account.pw_name)
        words = ("--system", "--uid", str(account.pw_uid), "--gid", str(account.pw_gid), "--shell", "/bin/bash")
        self.world.do("useradd", *words, "--home-dir", "/var/lib/ucloud-slurm", account.pw_name)
        self._jobs.mkdir(mode=0o700)
        os.chown(self._jobs, account.pw_uid, account.pw_gid)
        for unit in ("ucloud-slurm", "ucloud-slurm-worker", "ucloud-slurm-listener"):
            # The folder of the cluster is in a place that PrivateTmp= hides.
            self._drop_in(f"{unit}.service", f"[Service]\nBindPaths={self.cluster.folder}\n")

    def _drop_in(self, unit: str, text: str) -> None:
        folder = f"/run/systemd/system/{unit}.d"
        self.world.do("mkdir", "-p", folder)
        self._write(f"{folder}/site.conf", text)

    @property
    def _jobs(self) -> Path:
        assert self.cluster is not None
        return self.cluster.folder / "package-jobs"

    # -- steps, in order ------------------------------------------------------------------------------------

    def an_installation_by_hand_is_not_overwritten(self) -> None:
        """The unit of an administrator would win; the sentence names the file."""
        unit = "/etc/systemd/system/ucloud-slurm.service"
        self.world.do("sh", "-c", f"echo '[Unit]' > {unit}")
        said = self._refused(self.manager.install, self.old)
        assert f"{unit} would take the place of the unit in the package. Delete it" in said
        self.world.do("rm", unit)

    def it_installs_without_a_network_and_starts_nothing(self) -> None:
        """Also: files are as the package says, the accounts are there, the commands work."""
        self._done(self.manager.install, self.old)
        assert self._active(*ENABLED, *UNUSED) == set()
        assert self._verified() == ""
        assert self.world.do("ucloud-slurm", "--version").startswith("ucloud-slurm, version ")
        assert "was not started by sudo" in self.world.said("/opt/ucloud-slurm/bin/ucloud-slurm-as-user")
        assert self.world.do("stat", "-c", "%U:%G %a", "/etc/ucloud-slurm") == "root:ucloud-slurm 750"
        assert self.world.do("stat", "-c", "%U:%G %a", "/var/lib/ucloud-slurm") == "ucloud-slurm:ucloud-slurm 700"
        owners = self.world.do("find", "/opt/ucloud-slurm", "!", "-user", "root", "-o", "-perm", "/022", "!", "-type", "l")
        assert owners == "", "only root may write"
        found = self.world.do("find", "/opt/ucloud-slurm/lib", "-name", "*.pyc")
        assert f"ucloud_slurm/__pycache__/app.cpython-{self.target.python.replace('.', '')}.pyc" in found

    def it_serves_when_it_is_configured_and_enabled(self) -> None:
        """The examples are the beginning; here the file is written for the trial."""
        for name, text in self._configuration().items():
            self._write(f"/etc/ucloud-slurm/{name}", text)
        self.world.do("sh", "-c", "chown root:ucloud-slurm /etc/ucloud-slurm/*; chmod 0640 /etc/ucloud-slurm/*")
        self.world.do("systemd-tmpfiles", "--create", "/usr/lib/tmpfiles.d/ucloud-slurm.conf")
        self.world.do("systemctl", "enable", "--now", *ENABLED)
        wait_until("it answers", self._answers, seconds=PATIENCE)
        assert self._active(*ENABLED, *UNUSED) == set(ENABLED)

    def a_job_runs(self) -> None:
        """On the private cluster."""
        self._need_cluster()
        wait_until("it is ready", lambda: self._answers("/readyz"), seconds=PATIENCE)
        metadata = APPLICATION["metadata"]
        self.job = self.core.submit(
            application=(metadata["name"], metadata["version"]),
            product="example-compute-1",
            owner=PERSON,
            minutes=10,
            parameters={},
        )
        self.core.wait_until(lambda: self.core.job(self.job).state == "RUNNING", PATIENCE, "the job to run")

    def an_upgrade_restarts_what_ran_and_nothing_else(self) -> None:
        """The configuration stays as it was changed, requests wait, the job goes on."""
        changed = "/etc/ucloud-slurm/gunicorn.conf.py"
        self.world.do("sh", "-c", f"echo '# of this site' >> {changed}")
        before = self._main_process()
        slurm = self._slurm_jobs()
        with self._asking():
            self._done(self.manager.upgrade, self.new)
            wait_until("it answers", self._answers, seconds=PATIENCE)
        assert all(self.answered), "a request was refused"
        assert self._main_process() != before
        wait_until("all is as it was", lambda: self._active(*ENABLED, *UNUSED) == set(ENABLED), seconds=PATIENCE)
        assert "# of this site" in self.world.do("cat", changed)
        assert self._verified() in ("", changed)
        assert self._slurm_jobs() == slurm
        assert self.world.said("ls", "/run/ucloud-slurm.paused").endswith("No such file or directory")

    def what_was_stopped_stays_stopped(self) -> None:
        """Configured again, as after an upgrade of what it needs: a timer that the administrator has stopped is not started."""
        self.world.do("systemctl", "stop", "ucloud-slurm-worker.timer", "ucloud-slurm-listener.service")
        self._again()
        assert self._active(*ENABLED, *UNUSED) == set(ENABLED[:2])
        self.world.do("systemctl", "start", *ENABLED)

    def a_downgrade_changes_nothing(self) -> None:
        """It is refused in a sentence, and the service goes on."""
        before = self._main_process()
        said = self._refused(self.manager.upgrade, self.old)
        assert "a downgrade from" in said or "is already installed" in said, said
        wait_until("all is as it was", lambda: self._active(*ENABLED, *UNUSED) == set(ENABLED), seconds=PATIENCE)
        assert self._main_process() == before

    def a_full_disk_leaves_a_service_that_works(self) -> None:
        """In the middle of an upgrade; afterwards the same command succeeds."""
        self._fill(kibibytes=4096)
        said = self._refused(self.manager.repair if self.target.kind == "rpm" else self.manager.upgrade, self.new)
        assert "No space left on device" in said or "needs" in said, said
        wait_until("all is as it was", lambda: self._active(*ENABLED, *UNUSED) == set(ENABLED), seconds=PATIENCE)
        assert self._answers()
        self._free()
        self._again()
        wait_until("all is as it was", lambda: self._active(*ENABLED, *UNUSED) == set(ENABLED), seconds=PATIENCE)

    def a_disk_that_is_full_at_the_end_is_repaired(self) -> None:
        """The files are placed and the program for sudo cannot be made: ``dpkg --configure -a`` does the rest."""
        if self.target.kind == "rpm":
            raise NotTriedError("rpm does not begin without enough space")
        self.world.do("dpkg", "--unpack", self.new)
        self._fill(kibibytes=128)
        said = self._refused(self.manager.repair, "")
        assert "Make space on the disk, then: dpkg --configure -a" in said, said
        wait_until("all is as it was", lambda: self._active(*ENABLED, *UNUSED) == set(ENABLED), seconds=PATIENCE)
        self._free()
        self._done(self.manager.repair, "")
        assert self.world.do("dpkg-query", "-W", "-f", "${Status}", "ucloud-slurm") == "install ok installed"
        assert self._answers()

    def the_job_ends_and_ucloud_knows(self) -> None:
        """Its only Slurm job is the one from before the upgrade."""
        self._need_cluster()
        assert len(self._slurm_jobs()) == 1
        (self._jobs / self.job / "go").touch()
        self.core.wait_until(lambda: self.core.job(self.job).state == "SUCCESS", PATIENCE, "the end of the job")

    def removal_keeps_configuration_and_database(self) -> None:
        """Nothing runs, and the program is gone."""
        self._done(self.manager.remove, "")
        assert self._active(*ENABLED, *UNUSED) == set()
        assert self.world.said("pgrep", "-u", "ucloud-slurm", "-f", "/opt/ucloud-slurm") == ""
        assert self.world.run("ls", "/opt/ucloud-slurm")[0] != 0
        for kept in ("/etc/ucloud-slurm/config.toml", "/etc/ucloud-slurm/refresh-token", DATABASE):
            self.world.do("ls", kept)
        changed = "/etc/ucloud-slurm/gunicorn.conf.py"
        assert "# of this site" in self.world.do("cat", changed if self.target.kind == "deb" else f"{changed}.rpmsave")

    def it_comes_back_with_what_was_kept(self) -> None:
        """The same release: one from before a change of the database would refuse it."""
        self._done(self.manager.install, self.new)
        if self.target.kind == "rpm":
            self.world.do("sh", "-c", "cd /etc/ucloud-slurm && mv gunicorn.conf.py.rpmsave gunicorn.conf.py")
        self.world.do("systemctl", "enable", "--now", *ENABLED)
        wait_until("it answers", self._answers, seconds=PATIENCE)

    def purging_keeps_the_database_alone(self) -> None:
        """And says so."""
        if self.manager.purge is None:
            raise NotTriedError("rpm has no purge")
        said = self._done(self.manager.purge, "")
        assert "the database and its backups are kept in /var/lib/ucloud-slurm" in said
        self.world.do("ls", DATABASE)
        for gone in ("/etc/ucloud-slurm", "/opt/ucloud-slurm", "/var/cache/ucloud-slurm", "/usr/share/doc/ucloud-slurm"):
            assert self.world.run("ls", gone)[0] != 0, gone
        left = self.world.do("find", "/etc/systemd", "/usr/lib", "-name", "*ucloud-slurm*")
        assert left == "", left

    def _need_cluster(self) -> None:
        if self.cluster is None:
            raise NotTriedError("no Slurm that suits this distribution is here")

    # -- helpers --------------------------------------------------------------------------------------------

    def _done(self, command: str, file: str) -> str:
        return self.world.do(*command.format(file).split(), offline=True)

    def _refused(self, command: str, file: str) -> str:
        status, text = self.world.run(*command.format(file).split(), offline=True)
        assert status != 0, text
        return text

    def _again(self) -> None:
        self._done(self.manager.repair if self.target.kind == "rpm" else self.manager.upgrade, self.new)

    def _active(self, *units: str) -> set[str]:
        states = self.world.said("systemctl", "is-active", *units).splitlines()
        return {unit for unit, state in zip(units, states, strict=False) if state == "active"}

    def _verified(self) -> str:
        """The files that are not as they were installed, without what an administrator may change."""
        lines = self.world.said(*self.manager.verify.split()).splitlines()
        return "\n".join(line.split()[-1] for line in lines)

    def _main_process(self) -> str:
        return self.world.do("systemctl", "show", "--value", "--property=MainPID", "ucloud-slurm.service")

    def _answers(self, path: str = "/healthz") -> bool:
        with suppress(OSError):
            return get(self.world.path("/run/ucloud-slurm/web.sock"), path, 10)[0] == 200
        return False

    def _asking(self) -> "_Asking":
        return _Asking(lambda: self.answered.append(self._answers()))

    def _slurm_jobs(self) -> list[str]:
        if self.cluster is None:
            return []
        rows = (line.split() for line in self.cluster.run("squeue", "--noheader", "--format=%A %j").splitlines())
        return [number for number, name in rows if name == f"ucloud-{self.job}"]

    def _fill(self, *, kibibytes: int) -> None:
        """Uses up the disk, but for so much."""
        self.world.run("sh", "-c", f"fallocate -l {kibibytes}K /keep; cat /dev/zero > /fill; rm -f /keep")

    def _free(self) -> None:
        self.world.do("rm", "-f", "/fill", "/keep")

    def _write(self, path: str, text: str) -> None:
        self.world.path(path).write_text(text)

    def _configuration(self) -> dict[str, str]:
        tables: dict[str, Any] = {
            "provider": {"id": self.core.provider, "url": "http://127.0.0.1:1"},
            "ucloud": {
                "url": self.core.url,
                "era": self.core.era.name,
                "refresh_token_file": "/etc/ucloud-slurm/refresh-token",
                "public_key_file": "/etc/ucloud-slurm/ucloud.pub",
            },
            "slurm": {"conf": str(self.cluster.conf) if self.cluster else f"{SLURM}.conf"},
            "accounting": {"every": "0s"},
            "products": [{"id": "example-compute-1", "category": "example-compute", "partition": "cpu"}],
        }
        if self.cluster is not None:
            tables["jobs"] = {"folder": str(self._jobs), "grace": "5s", "quiet": "12s"}
        return {"config.toml": toml(tables), "refresh-token": self.core.refresh_token, "ucloud.pub": self.core.public_key}


class _Asking:
    """Asks again and again while something happens."""

    def __init__(self, ask: Callable[[], None]) -> None:
        self._ask = ask
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._over.is_set():
            self._ask()
            time.sleep(0.1)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


STEPS: tuple[Callable[[Story], None], ...] = (
    Story.an_installation_by_hand_is_not_overwritten,
    Story.it_installs_without_a_network_and_starts_nothing,
    Story.it_serves_when_it_is_configured_and_enabled,
    Story.a_job_runs,
    Story.an_upgrade_restarts_what_ran_and_nothing_else,
    Story.what_was_stopped_stays_stopped,
    Story.a_downgrade_changes_nothing,
    Story.a_full_disk_leaves_a_service_that_works,
    Story.a_disk_that_is_full_at_the_end_is_repaired,
    Story.the_job_ends_and_ucloud_knows,
    Story.removal_keeps_configuration_and_database,
    Story.it_comes_back_with_what_was_kept,
    Story.purging_keeps_the_database_alone,
)
