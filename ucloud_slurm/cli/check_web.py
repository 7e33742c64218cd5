"""``check``: where the web service listens, who could take its place, and whether it answers."""

import grp
import os
import pwd
import re
import socket
import stat
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from ucloud_slurm.cli.output import Line
from ucloud_slurm.system.ownership import distrust
from ucloud_slurm.system.serving import WEB_SOCKET, WSGI, own_processes

GROUP = "ucloud-slurm-proxy"
LISTENING = "0A"  # proc_pid_net(5)
ANSWER_SECONDS = 5.0
START = "systemctl enable --now ucloud-slurm.socket ucloud-slurm.service"


def web(path: Path = WEB_SOCKET, proc: Path = Path("/proc")) -> Iterator[Line]:
    """Where the service listens."""
    ports = _ports(proc)
    for port in ports:
        yield (
            "warning",
            f"the web service listens on the TCP port {port}: every account of this host may connect, and one that takes "
            f"the port while nobody holds it receives UCloud's token; let nginx use unix:{path} and remove the port (bind "
            "in gunicorn.conf.py, ListenStream in a drop-in of ucloud-slurm.socket)",
        )
    try:
        status = path.lstat()
    except OSError:
        if not ports:
            yield "warning", f"{path} is not there, so that nginx cannot reach the web service: {START}"
        return
    yield from _socket(path, status)


def _socket(path: Path, status: os.stat_result) -> Iterator[Line]:
    if not stat.S_ISSOCK(status.st_mode):
        yield "failed", f"{path} is not a socket; delete it, then: systemctl restart ucloud-slurm.socket"
        return
    open_to_all = stat.S_IMODE(status.st_mode) & 0o007
    if open_to_all or status.st_uid not in (0, os.geteuid()):
        yield (
            "failed",
            f"{path} should belong to this account, with the mode 0660 (it has {stat.S_IMODE(status.st_mode):04o}); install "
            "ucloud-slurm.socket anew, then: systemctl restart ucloud-slurm.socket",
        )
    distrusted = distrust(path.parent, lambda uid: uid == 0, "root")
    if distrusted is not None:
        yield "failed", f"others could put a socket in the place of {path}: {distrusted.why}; {distrusted.repair}"
    yield from _group(path, status.st_gid)
    problem = _silent(path)
    if problem is None:
        yield "ok", f"the web service answers on {path}"
    else:
        yield "warning", f"the web service does not answer on {path} ({problem}): {START}; journalctl -u ucloud-slurm"


def _group(path: Path, gid: int) -> Iterator[Line]:
    """Whether a proxy may connect."""
    try:
        group = grp.getgrgid(gid)
    except KeyError:
        yield "warning", f"{path} belongs to the group {gid}, which has no name; should be {GROUP} (ucloud-slurm.sysusers)"
        return
    if group.gr_name != GROUP:
        yield "warning", f"{path} belongs to the group {group.gr_name} and should belong to {GROUP} (ucloud-slurm.socket)"
    elif not group.gr_mem and all(account.pw_gid != gid for account in pwd.getpwall()):
        yield "warning", f"nobody is in the group {GROUP}: usermod -aG {GROUP} www-data (or nginx), then restart nginx"


def _silent(path: Path) -> str | None:
    """Why the service does not answer; None if it does."""
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(ANSWER_SECONDS)
            sock.connect(str(path))
            sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = sock.recv(100)
    except TimeoutError:
        return f"no answer within {ANSWER_SECONDS:.0f} s"
    except OSError as error:
        return str(error.strerror)
    return None if re.match(rb"HTTP/1\.1 200 ", answer) else "it answers something else"


def _ports(proc: Path) -> list[str]:
    """The TCP ports on which processes of the service listen."""
    held: set[str] = set()
    for process in own_processes(WSGI, proc):
        with suppress(OSError):  # it has ended
            links = [str(link.readlink()) for link in (process / "fd").iterdir()]
            held.update(link[8:-1] for link in links if link.startswith("socket:["))
    found = []
    for name in ("tcp", "tcp6"):
        with suppress(OSError):
            found += listening((proc / "net" / name).read_text(), held)
    return found


def listening(table: str, inodes: Collection[str]) -> list[str]:
    """The addresses in a table of the kernel on which sockets listen (proc_pid_net(5)).

    :param inodes: of the sockets that count
    """
    rows = [line.split() for line in table.splitlines()[1:]]
    return [_address(row[1]) for row in rows if len(row) > 9 and row[3] == LISTENING and row[9] in inodes]


def _address(text: str) -> str:
    number, _, port = text.partition(":")
    words = [bytes.fromhex(number[begin : begin + 8])[::-1] for begin in range(0, len(number), 8)]
    family = socket.AF_INET if len(words) == 1 else socket.AF_INET6
    host = socket.inet_ntop(family, b"".join(words))
    return f"{host if family == socket.AF_INET else f'[{host}]'}:{int(port, 16)}"
