"""The daemon runs programs for one account of the host, and for no other."""

import json
import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hook_site import HookSite
from ucloud_slurm.cli.main import main
from ucloud_slurm.hooks.client import ask
from ucloud_slurm.hooks.program import HookFailedError

CALLER, OTHER = 12_345, 12_346  # uids


@pytest.fixture
def site() -> Iterator[HookSite]:
    """In a folder that other accounts can enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield HookSite(Path(folder))


def asked_as(uid: int, site: HookSite) -> str:
    """What that account gets from the daemon."""
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.setuid(uid)
            said = ask(site.socket, "job-ended", "{}", 60.0)
        except HookFailedError as error:
            said = str(error)
        finally:
            os.write(writing, said.encode())
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can ask as other accounts")
def test_the_account_that_the_socket_belongs_to_is_served_and_no_other(site: HookSite) -> None:
    with site.serving([site.hook("job-ended", text="#!/bin/sh\necho done\n")], caller=CALLER):
        site.socket.chmod(0o666)
        assert asked_as(CALLER, site) == "done\n"
        assert asked_as(OTHER, site) == "This account may not ask for hooks."


def test_an_event_without_a_program_and_a_request_of_another_form_are_answered(site: HookSite) -> None:
    with site.serving([site.hook("job-ended")]):
        with pytest.raises(HookFailedError, match="job-started has no program here"):
            ask(site.socket, "job-started", "{}", 60.0)
        with pytest.raises(HookFailedError, match="not understood; both sides must be of one release"):
            ask(site.socket, "job-ended", None, 60.0)  # type: ignore[arg-type]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start it as another account")
def test_the_verb_serves_the_socket_of_systemd_which_belongs_to_another_account(site: HookSite) -> None:
    config = site.folder / "config.toml"
    table = site.hook("job-ended", text="#!/bin/sh\nid -u\n")
    config.write_text(
        '[provider]\nid = "a"\nurl = "https://a.example.org"\n[ucloud]\nurl = "https://b.example.org"\n'
        'refresh_token_file = "/a"\npublic_key_file = "/b"\n[[products]]\nid = "a"\ncategory = "b"\npartition = "c"\n'
        "[[hooks]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())
    )
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(site.socket))
        listener.listen()
        os.chown(site.socket, CALLER, CALLER)
        site.socket.chmod(0o600)
        if (child := os.fork()) == 0:
            try:
                os.dup2(listener.fileno(), 3)
                os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
                os.setuid(OTHER)
                main(["--config", str(config), "hooks", "serve", "--socket", str(site.socket)])
            finally:
                os._exit(1)
    try:
        assert asked_as(CALLER, site) == f"{OTHER}\n"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
