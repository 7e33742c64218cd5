"""P10: the guides about a full disk, a backup and another host are right: their commands run and print what they show."""

import gc
import re
import shlex
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.conftest import configuration
from tests.sandbox.core import SimulatedCore
from tests.support.factories import new_job
from tests.support.pages import HOWTO, steps
from ucloud_slurm.cli.main import main
from ucloud_slurm.store import backup, restore
from ucloud_slurm.store.generation import Generation
from ucloud_slurm.store.jobs import Jobs
from ucloud_slurm.store.sqlite import Store

ROOT = Path(__file__).parents[2]
STATE = "/var/lib/ucloud-slurm"
OURS = "runuser -u ucloud-slurm -- /opt/ucloud-slurm/bin/ucloud-slurm "
ELSEWHERE = ("check", "reconcile")  # with tests of their own
OTHERS = {"df", "ls", "scp", "chown", "systemctl", "journalctl"}
STAMP = r"\d{8}T\d{6}Z"


def masked(text: str) -> str:
    """A line without what differs from run to run."""
    text = re.sub(STAMP, "STAMP", text)
    return re.sub(r"\(.* MiB, (\d+) jobs, (\w+), written .*\)", r"(N MiB, \1 jobs, \2, written T)", text)


@pytest.fixture
def state(tmp_path: Path, core: SimulatedCore, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state directory of a provider that has reported something, and the backup that the guide chooses."""
    config = configuration(core, tmp_path, database={"path": str(tmp_path / "ucloud-slurm.db")})
    monkeypatch.setattr("ucloud_slurm.cli.context.refuse_root", lambda: None)
    monkeypatch.setattr("ucloud_slurm.cli.context.read", lambda _path: config)
    store = Store(config.database.path)
    counting = Generation(store)
    Jobs(store).accept([new_job("1")])
    counting.advance(1.0)
    made_at = datetime(2026, 11, 28, 6, 4, 12, tzinfo=UTC).timestamp()
    backup.make(store.path, config.database.backup_folder, made_at)
    store.close()
    return tmp_path


def ours(words: str, shown: list[str], state: Path) -> None:
    """Runs a command of ours and compares what it prints; the files that it makes get the names that the guide has."""
    known = set((state / "backups").glob("*.db"))
    done = CliRunner().invoke(main, shlex.split(words.replace(STATE, str(state))), catch_exceptions=False)
    gc.collect()  # what it had open
    assert done.exit_code == 0, done.output
    printed = done.output.replace(str(state), STATE).splitlines()
    if shown:
        assert [masked(line) for line in printed] == [masked(line) for line in shown]
    for new in set((state / "backups").glob("*.db")) - known:
        (name,) = re.findall(rf"ucloud-slurm-{STAMP}\.db", shown[0])
        new.rename(new.with_name(name))


@pytest.mark.parametrize("name", ["disk-was-full", "restored-a-backup", "moved-to-another-host"])
def test_the_commands_of_a_guide_run_and_print_what_it_shows(name: str, state: Path) -> None:
    ran = []
    for command, shown in steps(name):
        if command.startswith(OURS):
            words = command.removeprefix(OURS)
            if words.split()[0] not in ELSEWHERE:
                ours(words, shown, state)
                ran.append(words.split()[:2])
            continue
        program, *arguments = shlex.split(command)
        assert program in OTHERS
        units = [word for word in arguments if word.startswith("ucloud-slurm")]
        assert program != "systemctl" or all((ROOT / "systemd" / unit).exists() for unit in units)
        if program == "scp":  # to a host without a database
            for file in state.glob("ucloud-slurm.db*"):
                file.unlink()
            shutil.copy(state / "backups" / Path(arguments[0]).name, state)
    assert len(ran) >= 2
    store = Store(state / "ucloud-slurm.db")
    assert Generation(store).is_behind() == (name != "disk-was-full")
    assert [job.id for job in Jobs(store).newest(2)] == ["1"]


def test_a_restore_is_refused_until_everything_is_stopped_that_the_guide_stops(state: Path) -> None:
    stopped = {
        unit
        for command, _ in steps("restored-a-backup")
        if command.startswith("systemctl stop")
        for unit in command.split()[2:]
    }
    assert stopped == set(restore.STOP.split()[2:])
    store = Store(state / "ucloud-slurm.db")
    refused = CliRunner().invoke(main, ["database", "restore", str(next((state / "backups").iterdir()))])
    assert refused.exit_code == 1
    assert refused.stderr == f"ucloud-slurm: {store.path} is in use; stop everything that uses it: {restore.STOP}\n"


def test_another_host_prints_the_line_that_the_guide_shows(state: Path) -> None:
    store = Store(state / "ucloud-slurm.db")
    store.change("update generation set host = 'another', host_name = 'login1'")
    del store
    refused = CliRunner().invoke(main, ["outbox"])
    assert refused.exit_code == 78
    page = (HOWTO / "moved-to-another-host.rst").read_text()
    assert refused.stderr.replace(str(state), STATE).strip() in page
