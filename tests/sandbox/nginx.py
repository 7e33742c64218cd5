"""The shipped configurations of nginx, run as they are but for names, ports and certificates."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.sandbox.processes import answers, wait_until

ETC = Path(__file__).parents[2] / "etc"
PATH = "/usr/local/sbin:/usr/sbin:/sbin:" + os.environ["PATH"]


def shipped(name: str, changes: Mapping[str, str]) -> str:
    """A file of ``etc`` with changes; each must change something."""
    return changed((ETC / name).read_text(), changes)


def changed(text: str, changes: Mapping[str, str]) -> str:
    """A text with parts of it replaced, all of which must be there."""
    for old, new in changes.items():
        assert old in text, f"nothing reads {old!r}"
        text = text.replace(old, new)
    return text


def path_form(text: str) -> str:
    """``nginx-sessions.conf`` with the changes that its last comment asks for."""
    active, _, how = text.partition("# The other form")
    _, names, locations = re.findall(r"(?:^#     .*\n|^#\n(?=#     ))+", how, re.MULTILINE)
    (server_name,) = re.findall(r"^    server_name .*\n", active, re.MULTILINE)
    (location,) = re.findall(r"^    location / \{\n.*?^    \}\n", active, re.MULTILINE | re.DOTALL)
    return changed(
        active,
        {
            "__Host-": "__Secure-",
            server_name: re.sub(r"^# ?", "", names, flags=re.MULTILINE),
            location: re.sub(r"^# ?", "", locations, flags=re.MULTILINE),
        },
    )


def main(folder: Path, text: str, user: str, connections: int = 1024) -> str:
    """The whole configuration of an nginx that keeps its files in a folder.

    :param text: what would be in /etc/nginx/conf.d
    :param user: of the processes that answer; an empty one for the caller's own
    """
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "\n".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    return (
        f"{f'user {user};' if user else ''}\nworker_processes 1;\nworker_rlimit_nofile 65536;\ndaemon off;\n"
        f"pid {folder}/nginx.pid;\nerror_log stderr;\nevents {{ worker_connections {connections}; }}\n"
        f"http {{\naccess_log off;\n{places}\n{text}}}\n"
    )


@contextmanager
def running(folder: Path, text: str, port: int) -> Iterator[None]:
    """Runs nginx with a configuration that has a certificate in the folder and listens at the port."""
    file = folder / "nginx.conf"
    file.write_text(main(folder, text, "root" if os.geteuid() == 0 else ""))
    program = shutil.which("nginx", path=PATH)
    assert program is not None
    command = [program, "-e", str(folder / "error.log"), "-p", str(folder), "-c", str(file)]
    tested = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False, timeout=30)
    assert tested.returncode == 0, tested.stderr
    assert "warn" not in tested.stderr
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_until("nginx listens", lambda: answers("127.0.0.1", port), seconds=10)
        yield
    finally:
        process.terminate()
        process.wait(10)
