"""A daemon for linking, and accounts that this process believes to be on the host."""

import grp
import os
import pwd
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.conftest import Clock, Serve, World, configuration
from tests.rooms.users.linking.people import GROUP, LOCKED, NAMES
from tests.sandbox.core import SimulatedCore
from tests.support.foreign import foreign
from tests.support.model import Model
from ucloud_slurm.cli.daemons import linking
from ucloud_slurm.provider.context import Provider
from ucloud_slurm.system import ipc
from ucloud_slurm.users import name_service
from ucloud_slurm.users.linking import LinkServer


@pytest.fixture(autouse=True)
def accounts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Accounts that this process believes to be on the host."""
    if os.geteuid() != 0:
        pytest.skip("only root can become others")
    getpwuid, getpwnam, getgrnam, getgrouplist = pwd.getpwuid, pwd.getpwnam, grp.getgrnam, name_service.groups_of
    entries = {
        uid: pwd.struct_passwd((name, "x", uid, uid, "", str(tmp_path), "/usr/sbin/nologin" if uid == LOCKED else "/bin/bash"))
        for uid, name in NAMES.items()
    }
    by_name = {entry.pw_name: entry for entry in entries.values()}
    monkeypatch.setattr(pwd, "getpwuid", foreign("getpwuid", lambda uid: entries.get(uid) or getpwuid(uid)))
    monkeypatch.setattr(pwd, "getpwnam", foreign("getpwnam", lambda name: by_name.get(name) or getpwnam(name)))
    monkeypatch.setattr(
        grp, "getgrnam", lambda name: SimpleNamespace(gr_gid=GROUP) if name == "ucloud-users" else getgrnam(name)
    )
    monkeypatch.setattr(
        name_service,
        "groups_of",
        lambda name, gid: [gid, *([GROUP] if name != "outsider" else [])] if name in by_name else getgrouplist(name, gid),
    )
    # Jobs of Ada's are then made in this process.
    monkeypatch.setattr("ucloud_slurm.provider.context.own_account", lambda: "ada")


@pytest.fixture
def most() -> int:
    """How many users of UCloud an account may be connected with."""
    return 1


@pytest.fixture
def provider(core: SimulatedCore, clock: Clock, model: Model, tmp_path: Path, most: int) -> Iterator[Provider]:
    users = {"mapping": "table", "connections_per_account": most}
    config = configuration(core, tmp_path, users=users, provider={"url": "https://hpc.example.org"})
    provider = Provider.open(config, now=clock, scheduler=model)
    model.user = "ada"
    yield provider
    provider.close()


@pytest.fixture
def world(core: SimulatedCore, provider: Provider, serve: Serve, model: Model, clock: Clock) -> World:
    return World(core, provider, model, clock, serve(provider))


@pytest.fixture
def path(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The daemon, in a folder that everybody can reach."""
    monkeypatch.setattr("ucloud_slurm.system.acceptor.ACCEPT_SECONDS", 0.05)
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    with ipc.listener(folder / "link.sock", 0o666) as waiting:
        thread = threading.Thread(target=LinkServer(linking(provider)).serve, args=(waiting,))
        thread.start()
        yield folder / "link.sock"
        waiting.close()
        thread.join()
    shutil.rmtree(folder)
