"""The listener as a process: small, ended at once, and not needed where UCloud has no channel."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pytest_mock import MockerFixture

from tests.rooms.listener import records
from tests.rooms.listener.server import ChannelServer
from tests.sandbox.core import SimulatedCore
from tests.sandbox.processes import wait_until
from tests.support.config_file import write_config
from ucloud_slurm.cli import main as cli
from ucloud_slurm.config import read
from ucloud_slurm.listener.settings import Settings
from ucloud_slurm.store.caches import MemoryInStore
from ucloud_slurm.store.fence import Permit, this_instant
from ucloud_slurm.store.sqlite import Store
from ucloud_slurm.store.wallets import Wallets
from ucloud_slurm.system.filelock import LISTENER, is_locked
from ucloud_slurm.ucloud.pauses import ACCESS

ROOT = Path(__file__).parents[3]
LARGEST = 40 * 1024  # KiB
OWNERS = 10_000


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that another account than root can use: the product does not run as root."""
    with tempfile.TemporaryDirectory(prefix="ucloud-slurm-listener-") as name:
        yield Path(name)


@pytest.fixture
def config(core: SimulatedCore, folder: Path) -> Path:
    (folder / "token").write_text(core.refresh_token)
    (folder / "key").write_text(core.public_key)
    return write_config(folder, core.url)


@pytest.fixture
def server() -> Iterator[ChannelServer]:
    server = ChannelServer()
    yield server
    server.close()


@pytest.fixture
def store(folder: Path) -> Store:
    store = Store(folder / "test.db")
    assert MemoryInStore(store).load(ACCESS) is None
    store.close()
    return store


@pytest.fixture
def process(
    request: pytest.FixtureRequest, server: ChannelServer, config: Path, store: Store, folder: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """The process; where the test says so, of a host that needs the lease."""
    settings = Settings(
        url=server.url,
        ca_file=None,
        timeout=10.0,
        provider="example",
        database=str(store.path),
        config=str(config),
        standby=getattr(request, "param", False),
    )
    account = None
    if os.geteuid() == 0:
        account = "nobody"
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, account)
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(settings.command(), stderr=subprocess.PIPE, user=account, cwd="/", env=env) as process:
        yield process
        process.kill()


def resident(process: subprocess.Popen[bytes]) -> int:
    """KiB."""
    found = re.search(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


@pytest.mark.parametrize("at_once", [False, True])
def test_the_process_is_small_after_ten_thousand_wallets(
    at_once: bool, process: subprocess.Popen[bytes], server: ChannelServer, store: Store
) -> None:
    peer = server.accept()
    assert peer.token == MemoryInStore(store).load(ACCESS), "it had one fetched"
    members = [f"Member{number}#1234" for number in range(10)]
    messages = [
        records.project(number, f"6b2e1c8e-0000-4000-8000-{number:012}", members)
        + records.category(number)
        + records.wallet(number, number, of_project=True, locked=number % 2 == 0)
        for number in range(OWNERS)
    ]
    peer.say(*([b"".join(messages)] if at_once else messages))
    wallets = Wallets(store)
    wait_until("all is written", lambda: len(wallets.all_locked()) == OWNERS / 2, seconds=120)
    wait_until("it has let go of what came", lambda: resident(process) < LARGEST, seconds=10)


def test_there_is_one_listener_at_a_time(process: subprocess.Popen[bytes], server: ChannelServer, store: Store) -> None:
    server.accept()
    assert process.poll() is None
    assert is_locked(store.path, LISTENER)
    second = subprocess.run(
        process.args,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=30,
        cwd="/",
        user="nobody" if os.geteuid() == 0 else None,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert second.returncode == 75
    assert "another listener runs" in second.stderr
    process.kill()
    process.wait()
    assert not is_locked(store.path, LISTENER)


@pytest.mark.parametrize("process", [True], indirect=True)
def test_it_asks_ucloud_for_nothing_until_its_host_has_the_lease(
    process: subprocess.Popen[bytes], server: ChannelServer, store: Store
) -> None:
    assert process.stderr is not None
    assert b"The provider does not work on this host" in process.stderr.readline()
    assert server.attempts == 0
    Permit(1, "login1", mine=True, since=this_instant()).write(store.path)
    if os.geteuid() == 0:
        shutil.chown(f"{store.path}.lease", "nobody")
    assert server.accept().token


def test_it_ends_at_once_with_0_when_it_is_told_to(process: subprocess.Popen[bytes], server: ChannelServer) -> None:
    server.accept()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=3) == 0
    assert process.stderr is not None
    assert b"Traceback" not in process.stderr.read()


def test_it_starts_a_pass_of_the_worker(process: subprocess.Popen[bytes], server: ChannelServer, store: Store) -> None:
    assert process.poll() is None
    lock = Path(f"{store.path}.worker")
    peer = server.accept()
    assert not lock.exists()
    peer.say(records.of_user("Ada#1", locked=True))
    wait_until("a pass has begun", lock.exists, seconds=20)


# ---- the verb


def verb(config: Path, *words: str) -> Any:
    return CliRunner().invoke(cli.main, ["--config", str(config), *words])


@pytest.fixture
def as_anybody(mocker: MockerFixture) -> None:
    mocker.patch("ucloud_slurm.cli.context.refuse_root")


@pytest.mark.usefixtures("as_anybody")
def test_an_era_without_a_channel_needs_no_listener(config: Path) -> None:
    config.write_text(config.read_text().replace("[ucloud]", '[ucloud]\nera = "2022"'))
    done = verb(config, "listener")
    assert done.exit_code == 0
    assert "no listener is needed" in done.output


@pytest.mark.usefixtures("as_anybody")
def test_the_verb_becomes_the_small_process_with_what_it_needs(config: Path, mocker: MockerFixture) -> None:
    execv = mocker.patch("os.execv")
    assert verb(config, "listener").exit_code == 0
    ((program, command),) = [call.args for call in execv.call_args_list]
    assert command[:4] == [program, "-P", "-m", "ucloud_slurm.listener"]
    found, wanted = Settings.read(command[4:]), read(config)
    assert (found.url, found.provider, found.config) == (wanted.ucloud.url, "example", str(config))
    assert found.database == str(wanted.database.path)
    assert not found.standby
    config.write_text(config.read_text().replace("[database]", '[database]\nstandby = "/shared"'))
    assert verb(config, "listener").exit_code == 0
    assert Settings.read(execv.call_args.args[1][4:]).standby


@pytest.mark.usefixtures("as_anybody")
def test_a_fresh_token_is_put_into_the_database(config: Path, folder: Path, core: SimulatedCore) -> None:
    assert verb(config, "listener", "--renew").exit_code == 0
    token = MemoryInStore(Store(folder / "test.db")).load(ACCESS)
    assert token is not None
    assert token.count(".") == 2
    core.faults.outage(True)
    (folder / "test.db").unlink()
    refused = verb(config, "listener", "--renew")
    core.faults.outage(False)
    assert refused.exit_code == 1
    assert refused.output.startswith("ucloud-slurm: UCloud ")


def test_an_address_of_ucloud_is_that_of_its_channel() -> None:
    def settings(url: str) -> Settings:
        return Settings(url=url, ca_file=None, timeout=1, provider="p", database="/d", config="/c")

    plain, secure = settings("http://localhost:8080/below"), settings("https://cloud.sdu.dk")
    assert (plain.address, plain.host, plain.secure) == (("localhost", 8080), "localhost:8080", False)
    assert settings("http://localhost").address == ("localhost", 80)
    assert plain.target == "/below/api/accounting/notifications"
    assert (secure.address, secure.host, secure.secure) == (("cloud.sdu.dk", 443), "cloud.sdu.dk", True)


def test_the_small_process_imports_nothing_large() -> None:
    names = ["pydantic", "flask", "gunicorn", "requests", "cryptography"]
    code = "import sys, ucloud_slurm.listener.listening; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(names).isdisjoint(done.stdout.split())
