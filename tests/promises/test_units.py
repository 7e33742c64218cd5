"""What an installation has besides the code: units, accounts, gunicorn's and nginx's configuration."""

import ast
import configparser
import http.client
import importlib
import json
import os
import re
import runpy
import shutil
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from importlib import metadata
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.sandbox import nginx, packages, sudo
from tests.sandbox.site import free_port
from tests.support.source import parsed
from tests.support.tls import certificate
from ucloud_slurm.app import LARGEST_REQUEST_BYTES
from ucloud_slurm.config import HOOK_SOCKET, TransfersSection, UsersSection
from ucloud_slurm.config.database import DatabaseSection
from ucloud_slurm.config.kept import DEFAULT_FOLDER
from ucloud_slurm.web.server.worker import Worker

ROOT = Path(__file__).parents[2]
SYSTEMD = ROOT / "systemd"
SERVICES = (
    "ucloud-slurm.service",
    *(f"ucloud-slurm-{part}.service" for part in ("worker", "link", "listener", "backup", "files", "hooks", "standby")),
)
RUNNER = "ucloud-slurm-runner.service"
HOOKD = "ucloud-slurm-hookd.service"
FILES = SERVICES[5]
TIMER = "ucloud-slurm-worker.timer"
TIMERS = (TIMER, "ucloud-slurm-backup.timer", "ucloud-slurm-hooks.timer")
UNIT_SOCKETS = ("ucloud-slurm-runner.socket", "ucloud-slurm-link.socket", "ucloud-slurm-hookd.socket")
WEB_SOCKET = "ucloud-slurm.socket"
FILES_SOCKET = "ucloud-slurm-files.socket"
PROXY_SOCKETS = (WEB_SOCKET, FILES_SOCKET)
UNITS = (*SERVICES, RUNNER, HOOKD, *TIMERS, *PROXY_SOCKETS, *UNIT_SOCKETS)
ACCOUNT = "ucloud-slurm"
SOCKETS = ("/ucloud/jobs.provider.example/websocket", "/ucloud/example/websocket")
MOST_EXPOSURE = 15  # tenths, as systemd-analyze counts them; 20 and less is what it calls OK
MOST_EXPOSURE_OF_RUNNER = 66  # what sudo allows; the unit says why
# Packages that are not without another one.
PARTS = {"markupsafe": "flask", "werkzeug": "flask", "pydantic-core": "pydantic"}
# Units of systemd's own that ours lean on.
STUBS = ("sysinit", "basic", "shutdown", "multi-user", "timers", "sockets", "network-online")


def program(name: str, package: str, tmp_path: Path) -> str:
    """Where a program is; it is installed if it is not there, its services not started."""
    path = "/usr/local/sbin:/usr/sbin:/sbin:" + os.environ["PATH"]
    found = shutil.which(name, path=path)
    if found is None and os.geteuid() == 0:
        packages.install((package,), tmp_path / "apt-get.log", lambda _: None)
        found = shutil.which(name, path=path)
    if found is None:
        pytest.skip(f"{name} is not here, and only root can install it")
    return found


def settings(unit: str) -> list[tuple[str, str, str]]:
    """Section, key and value of each line."""
    section, found = "", []
    for line in (SYSTEMD / unit).read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith(("#", ";")):
            key, _, value = line.partition("=")
            found.append((section, key, value))
    return found


def one(unit: str, key: str) -> str:
    """The value of a key that stands there once."""
    values = [value for _, name, value in settings(unit) if name == key]
    assert len(values) == 1, f"{unit}: {key}= is there {len(values)} times"
    return values[0]


# ---- units


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A root with the units and stubs of what they start."""
    root = tmp_path / "root"
    units = root / "etc/systemd/system"
    units.mkdir(parents=True)
    for unit in UNITS:
        shutil.copy(SYSTEMD / unit, units)
    for name in STUBS:
        (units / f"{name}.target").write_text(f"[Unit]\nDescription={name}\n")
    for command in ("opt/ucloud-slurm/bin/gunicorn", "opt/ucloud-slurm/bin/ucloud-slurm", "bin/kill"):
        path = root / command
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    return root


def verified(root: Path, tmp_path: Path) -> str:
    """What systemd says of the units."""
    analyze = program("systemd-analyze", "systemd", tmp_path)
    done = subprocess.run(
        [analyze, "verify", f"--root={root}", *UNITS], capture_output=True, text=True, check=False, timeout=60
    )
    return done.stdout + done.stderr + ("" if done.returncode == 0 else f"exit status {done.returncode}")


def test_systemd_accepts_the_units_without_a_word(installed: Path, tmp_path: Path) -> None:
    assert verified(installed, tmp_path) == ""


def test_systemd_would_say_what_is_wrong(installed: Path, tmp_path: Path) -> None:
    unit = installed / "etc/systemd/system/ucloud-slurm.service"
    unit.write_text(unit.read_text().replace("NoNewPrivileges", "NoNewPrivilege"))
    (installed / "opt/ucloud-slurm/bin/ucloud-slurm").unlink()
    said = verified(installed, tmp_path)
    assert "NoNewPrivilege" in said
    assert "/opt/ucloud-slurm/bin/ucloud-slurm" in said


@pytest.mark.parametrize("unit", [unit for unit in UNITS if unit.endswith(".service")])
def test_a_service_may_do_hardly_anything(unit: str, tmp_path: Path) -> None:
    analyze = program("systemd-analyze", "systemd", tmp_path)
    most = MOST_EXPOSURE_OF_RUNNER if unit == RUNNER else MOST_EXPOSURE
    done = subprocess.run(
        [analyze, "security", "--offline=yes", "--no-pager", f"--threshold={most}", SYSTEMD / unit],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | {"LC_ALL": "C.UTF-8"},
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("unit", SERVICES)
def test_a_service_runs_as_the_account_and_writes_to_its_own_folder_only(unit: str) -> None:
    assert (one(unit, "User"), one(unit, "Group"), one(unit, "UMask")) == (ACCOUNT, ACCOUNT, "0077")
    assert (one(unit, "StateDirectory"), one(unit, "StateDirectoryMode")) == (ACCOUNT, "0700")
    # Where the checked configuration is kept, for a pass that starts soon.
    assert (Path("/var/cache") / one(unit, "CacheDirectory"), one(unit, "CacheDirectoryMode")) == (Path(DEFAULT_FOLDER), "0700")
    assert one(unit, "ProtectSystem") == "strict"
    assert one(unit, "NoNewPrivileges") == "yes"
    assert one(unit, "CapabilityBoundingSet") == ""
    assert not [key for _, key, _ in settings(unit) if key in ("ReadWritePaths", "PermissionsStartOnly")]


@pytest.mark.parametrize("unit", SERVICES)
def test_a_service_leaves_the_jobs_alone(unit: str) -> None:
    """sbatch hands the limits of its caller on; the account's shared memory may be a job's."""
    assert not [key for _, key, _ in settings(unit) if key.startswith("Limit") or key == "RemoveIPC"]


def test_the_services_differ_in_what_they_do_only() -> None:
    own = {
        "Type",
        "ExecStart",
        "ExecReload",
        "KillMode",
        "Restart",
        "RestartSec",
        "SuccessExitStatus",
        "RestartPreventExitStatus",
        "TimeoutStartSec",
        "TimeoutStopSec",
        "Description",
        "WantedBy",
        "Requires",
        "Before",
        "RuntimeDirectory",
        "RuntimeDirectoryMode",
        "Nice",
        "CPUWeight",
        "IOWeight",
    }
    lines = {
        ("Unit", "After", UNIT_SOCKETS[1]),
        *(("Unit", "After", socket) for socket in PROXY_SOCKETS),
        *(("Install", "Also", socket) for socket in PROXY_SOCKETS),
        ("Service", "Environment", f"PROMETHEUS_MULTIPROC_DIR=/run/{one(SERVICES[0], 'RuntimeDirectory')}"),
    }
    web, *others = ([line for line in settings(unit) if line[1] not in own and line not in lines] for unit in SERVICES)
    assert others == [web] * 7


def test_the_lease_is_stopped_after_all_that_need_it() -> None:
    *others, lease = SERVICES
    found = {name for _, key, value in settings(lease) if key == "Before" for name in value.split()}
    assert found == {*others}, "systemd stops in the other order"


def test_programs_of_the_site_run_with_rights_of_their_own() -> None:
    """They get neither the database nor the token, which only their account may read, and nothing else that others have."""
    assert (one(HOOKD, "User"), one(HOOKD, "Group"), one(HOOKD, "UMask")) == (f"{ACCOUNT}-hooks", f"{ACCOUNT}-hooks", "0077")
    assert (one(HOOKD, "StateDirectory"), one(HOOKD, "StateDirectoryMode")) == (f"{ACCOUNT}-hooks", "0700")
    assert one(HOOKD, "SupplementaryGroups") == ACCOUNT
    assert "z /etc/ucloud-slurm/refresh-token 0600" in (SYSTEMD / "ucloud-slurm.tmpfiles").read_text()
    about = ("Protect", "Private", "Restrict", "SystemCall", "Lock", "Memory", "NoNew", "ProcSubset", "Keyring", "Device")
    hardening = [line for line in settings(SERVICES[0]) if line[1].startswith((*about, "Capability", "Ambient"))]
    assert set(hardening) <= {*settings(HOOKD)} | {("Service", "Restart", "on-failure"), ("Service", "RestartSec", "10")}
    assert not [key for _, key, _ in settings(HOOKD) if key in ("ReadWritePaths", "KillMode")]
    assert int(one(HOOKD, "TasksMax")) <= 256


def test_transfers_give_way_to_calls_and_to_passes() -> None:
    """The others have what systemd gives by itself: a priority of 0 and weights of 100."""
    priority = {"Nice": 0, "CPUWeight": 100, "IOWeight": 100}
    found = {unit: {name: int(value) for _, name, value in settings(unit) if name in priority} for unit in SERVICES}
    files = found.pop("ucloud-slurm-files.service")
    assert files["Nice"] > 0
    assert all(files[name] < priority[name] for name in ("CPUWeight", "IOWeight"))
    assert set(map(str, found.values())) == {"{}"}


def test_every_unit_is_tested() -> None:
    assert {path.name for path in SYSTEMD.iterdir() if path.suffix in (".service", ".socket", ".timer")} == set(UNITS)


def test_only_the_runner_could_get_a_privilege() -> None:
    """sudo needs it. systemd sets NoNewPrivileges= by itself for some settings, as the unit's comment lists."""
    services = [unit for unit in UNITS if unit.endswith(".service")]
    assert [unit for unit in services if ("Service", "NoNewPrivileges", "yes") not in settings(unit)] == [RUNNER]
    implying = {
        "SystemCallFilter",
        "SystemCallArchitectures",
        "SystemCallLog",
        "RestrictAddressFamilies",
        "RestrictNamespaces",
        "RestrictFileSystems",
        "PrivateDevices",
        "ProtectClock",
        "ProtectHostname",
        "ProtectKernelLogs",
        "ProtectKernelModules",
        "ProtectKernelTunables",
        "MemoryDenyWriteExecute",
        "RestrictRealtime",
        "RestrictSUIDSGID",
        "LockPersonality",
        "DynamicUser",
    }
    keys = {key for _, key, _ in settings(RUNNER)}
    assert not keys & (implying | {"NoNewPrivileges"})
    assert implying - {"SystemCallLog"} <= set(re.findall(r"\b(\w+)=", (SYSTEMD / RUNNER).read_text()))


def test_sudo_in_the_runner_can_change_the_user_and_little_else() -> None:
    assert set(one(RUNNER, "CapabilityBoundingSet").split()) == {
        "CAP_SETUID",
        "CAP_SETGID",
        "CAP_SYS_RESOURCE",
        "CAP_AUDIT_WRITE",
    }
    assert (one(RUNNER, "ProtectControlGroups"), one(RUNNER, "DevicePolicy")) == ("yes", "closed")


def test_every_switch_that_the_runner_lacks_has_its_reason() -> None:
    """What systemd-analyze would have set: the unit names it below "Not here, on purpose"."""
    services = {key for section, key, _ in settings(SERVICES[0]) if section == "Service"}
    reasons = (SYSTEMD / RUNNER).read_text().partition("# Not here, on purpose:")[2]
    own = {key for _, key, _ in settings(RUNNER)}
    about = ("Protect", "Private", "Restrict", "SystemCall", "Lock", "Memory", "NoNew", "ProcSubset", "Keyring")
    lacking = {key for key in services - own if key.startswith(about) and key != "SystemCallErrorNumber"}
    assert {key for key in lacking if f"{key}=" not in reasons} == set()


def test_users_programs_find_their_homes_in_the_runner_and_survive_its_restart() -> None:
    assert one(RUNNER, "KillMode") == "process"
    assert one(RUNNER, "ProtectSystem") == "full"
    kept = {"ProtectHome", "PrivateTmp", "ProtectProc", "ProcSubset", "RemoveIPC", "ReadOnlyPaths"}
    assert not [key for _, key, _ in settings(RUNNER) if key in kept or key.startswith("Limit")]


def test_the_runner_runs_as_the_account_and_is_tried_again_after_a_pause() -> None:
    """Without the pause systemd would give its socket up after 20 failures in two seconds."""
    assert (one(RUNNER, "User"), one(RUNNER, "Group"), one(RUNNER, "UMask")) == (ACCOUNT, ACCOUNT, "0077")
    for unit in (RUNNER, SERVICES[2], HOOKD):
        assert (one(unit, "Restart"), one(unit, "RestartSec")) == ("on-failure", "10")
        assert one(unit, "StartLimitIntervalSec") == "0"


@pytest.mark.parametrize(
    ("socket", "service", "conf"),
    [(WEB_SOCKET, SERVICES[0], "gunicorn.conf.py"), (FILES_SOCKET, FILES, "gunicorn-files.conf.py")],
)
def test_the_proxy_reaches_a_service_by_a_socket_that_systemd_holds(socket: str, service: str, conf: str) -> None:
    kept = {key: value for section, key, value in settings(socket) if section == "Socket"}
    assert (kept["SocketUser"], kept["SocketGroup"], kept["SocketMode"]) == (ACCOUNT, f"{ACCOUNT}-proxy", "0660")
    assert (kept["DirectoryMode"], kept["Service"]) == ("0755", service)
    assert ("Unit", "Requires", socket) in settings(service)
    assert ("Unit", "After", socket) in settings(service)
    assert runpy.run_path(str(ROOT / "etc" / conf))["bind"] == f"unix:{kept['ListenStream']}"


def test_the_proxy_passes_requests_to_sockets_of_systemd_only() -> None:
    listens = {f"http://unix:{one(socket, 'ListenStream')}" for socket in PROXY_SOCKETS}
    for name, known in (("nginx.conf", listens), ("nginx-sessions.conf", {f"http://unix:{one(WEB_SOCKET, 'ListenStream')}"})):
        passed = set(re.findall(r"proxy_pass ([^;]+);", (ROOT / "etc" / name).read_text()))
        assert {to for to in passed if "$ucloud_upstream" not in to} == known


@pytest.mark.parametrize(
    ("unit", "path", "mode"),
    [
        (UNIT_SOCKETS[0], str(UsersSection().runner), "0600"),
        (UNIT_SOCKETS[1], "/run/ucloud-slurm-link/link.sock", "0666"),
        (UNIT_SOCKETS[2], str(HOOK_SOCKET), "0600"),
    ],
)
def test_only_the_account_may_connect_to_the_runner_and_everybody_to_what_connects_accounts(
    unit: str, path: str, mode: str
) -> None:
    assert [line[2] for line in settings(unit) if line[1].startswith("Listen")] == [path]
    assert (one(unit, "SocketMode"), one(unit, "DirectoryMode")) == (mode, "0755")
    assert (one(unit, "SocketUser"), one(unit, "SocketGroup")) == (ACCOUNT, ACCOUNT)
    assert one(unit, "WantedBy") == "sockets.target"


# ---- sudo


SUDOERS = ROOT / "etc/sudoers"


def test_the_rule_of_sudo_is_the_one_that_the_sandbox_proves() -> None:
    lines = [line for line in SUDOERS.read_text().splitlines(keepends=True) if not line.startswith("#")]
    assert "".join(lines) == sudo.rule(ACCOUNT, UsersSection().program, UsersSection().group)


def test_sudo_accepts_the_rule_and_would_say_what_is_wrong(tmp_path: Path) -> None:
    visudo = program("visudo", "sudo", tmp_path)
    copy = tmp_path / "ucloud-slurm"
    copy.write_bytes(SUDOERS.read_bytes())
    assert subprocess.run([visudo, "-csqf", copy], check=False, timeout=30).returncode == 0
    copy.write_text(SUDOERS.read_text().replace("NOPASSWD:", "NOPASSWORD"))
    assert subprocess.run([visudo, "-csqf", copy], check=False, timeout=30).returncode != 0


def test_a_pass_that_could_not_reach_slurm_or_ucloud_is_not_a_failure() -> None:
    assert one(SERVICES[1], "Type") == "oneshot"
    assert one(SERVICES[1], "SuccessExitStatus") == "75 SIGTERM"
    assert one(SERVICES[1], "StartLimitIntervalSec") == "0"


def test_the_timer_fires_every_15_seconds_from_start_to_start() -> None:
    """OnUnitActiveSec counts from the last start of a oneshot, failed or not (systemd 252, tried out)."""
    kept = {key: value for section, key, value in settings(TIMER) if section == "Timer"}
    assert kept == {"OnActiveSec": "1s", "OnUnitActiveSec": "15s", "AccuracySec": "1s"}


def test_the_account_exists_before_the_services_and_has_a_shell() -> None:
    lines = [line for line in (SYSTEMD / "ucloud-slurm.sysusers").read_text().splitlines() if line[:1] != "#"]
    assert lines == [
        f'u {ACCOUNT} - "UCloud provider" /var/lib/{ACCOUNT} /bin/bash',
        f"g {ACCOUNT}-proxy -",
        f'u {ACCOUNT}-hooks - "Programs of the site for UCloud" /var/lib/{ACCOUNT}-hooks /usr/sbin/nologin',
    ]
    folders = (SYSTEMD / "ucloud-slurm.tmpfiles").read_text()
    assert f"d /var/lib/{ACCOUNT} 0700 {ACCOUNT} {ACCOUNT} -" in folders
    assert f"r! {DatabaseSection().path}.lease" in folders, "before a boot"


@pytest.mark.parametrize("unit", [*SERVICES, RUNNER, HOOKD])
def test_the_programs_that_are_started_are_those_of_the_guide(unit: str) -> None:
    command, *arguments = one(unit, "ExecStart").split()
    assert command.startswith("/opt/ucloud-slurm/bin/")
    if unit == SERVICES[0]:
        assert arguments == ["-c", "/etc/ucloud-slurm/gunicorn.conf.py", "ucloud_slurm.wsgi:app"]
    elif unit == FILES:
        assert arguments == ["-c", "/etc/ucloud-slurm/gunicorn-files.conf.py", "ucloud_slurm.transfer.wsgi:app"]
    else:
        verb = {
            SERVICES[1]: "worker",
            SERVICES[2]: "linkd",
            SERVICES[3]: "listener",
            SERVICES[4]: "database backup",
            SERVICES[6]: "hooks deliver",
            SERVICES[7]: "standby",
            HOOKD: "hooks serve",
            RUNNER: "runner",
        }[unit]
        assert (Path(command).name, arguments) == ("ucloud-slurm", verb.split())


# ---- packages


def test_an_installation_has_every_package_that_the_code_imports_and_no_other() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    wanted = setup["options"]["install_requires"].strip().splitlines()
    declared: set[str] = {canonicalize_name(Requirement(text).name) for text in wanted}
    owners = metadata.packages_distributions()
    used: set[str] = set()
    for path in sorted((ROOT / "ucloud_slurm").rglob("*.py")):
        for node in ast.walk(parsed(path)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            for name in {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"ucloud_slurm", "_typeshed"}:
                found: set[str] = {canonicalize_name(owner) for owner in owners[name]}
                found |= {PARTS[part] for part in found & PARTS.keys()}
                assert found & declared, f"{path} imports {name}, which setup.cfg does not ask for"
                used |= found & declared
    assert declared == used


# ---- gunicorn


@pytest.fixture
def gunicorn() -> dict[str, Any]:
    found = runpy.run_path(str(ROOT / "etc/gunicorn.conf.py"))
    return {key: value for key, value in found.items() if not key.startswith("__")}


def test_gunicorn_knows_every_setting(gunicorn: dict[str, Any]) -> None:
    config = importlib.import_module("gunicorn.config").Config()
    for name, value in gunicorn.items():
        config.set(name, value)
    assert config.address == ["/run/ucloud-slurm/web.sock"]
    assert config.worker_class is Worker
    assert (config.forwarder_headers, config.secure_scheme_headers) == ([], {})
    assert config.forwarded_allow_ips == []
    assert config.accesslog is None


def test_the_file_unit_has_threads_for_all_transfers_and_takes_no_connection_twice() -> None:
    config = importlib.import_module("gunicorn.config").Config()
    found = runpy.run_path(str(ROOT / "etc/gunicorn-files.conf.py"))
    for name, value in found.items():
        if not name.startswith("__"):
            config.set(name, value)
    assert (config.workers, config.keepalive, config.accesslog) == (1, 0, None)
    assert config.threads > TransfersSection().at_once
    assert (config.forwarder_headers, config.secure_scheme_headers, config.forwarded_allow_ips) == ([], {}, [])


@pytest.mark.parametrize("conf", ["gunicorn.conf.py", "gunicorn-files.conf.py"])
def test_gunicorn_takes_the_file_as_it_is(conf: str) -> None:
    command = [sys.executable, "-m", "gunicorn", "-c", str(ROOT / "etc" / conf), "--print-config"]
    done = subprocess.run([*command, "wsgiref.simple_server:demo_app"], capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == ""
    printed = dict(re.findall(r"^(\w+) *= (.*)$", done.stdout, re.MULTILINE))
    assert printed["worker_tmp_dir"] == "/dev/shm"
    assert printed["control_socket_disable"] == "True"


# ---- nginx


class Upstream(BaseHTTPRequestHandler):
    """Stands where gunicorn would: answers everything, so that a 404 is nginx's own."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("X-Seen", str(self.headers.get_all("X-Real-IP")))
        self.send_header("X-Seen-Start", str(self.headers.get_all("X-Request-Start")))
        self.send_header("X-Seen-Request", str(self.headers.get_all("X-Request-ID")))
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    do_POST = do_GET  # noqa: N815

    def log_message(self, *arguments: Any) -> None:
        """Says nothing."""


@dataclass(frozen=True)
class Proxy:
    """nginx with the example configuration, and the ports that it has instead of 443 and 80."""

    port: int
    plain: int


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    program("nginx", "nginx", tmp_path)
    certificate(tmp_path, "hpc.example.org")
    upstream = ThreadingUnixStreamServer(str(tmp_path / "web.sock"), Upstream)
    upstream.daemon_threads = True
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    port, plain = free_port(), free_port()
    text = nginx.shipped(
        "nginx.conf",
        {
            "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
            "    listen [::]:443 ssl;\n": "",
            "listen 80;": f"listen 127.0.0.1:{plain};",
            "    listen [::]:80;\n": "",
            "server_tokens off;": "server_tokens off;\n    set_real_ip_from 127.0.0.5;\n    real_ip_header X-Pretended;",
            "/etc/ssl/certs/hpc.example.org.pem": f"{tmp_path}/cert.pem",
            "/etc/ssl/private/hpc.example.org.key": f"{tmp_path}/key.pem",
            "unix:/run/ucloud-slurm/web.sock": f"unix:{tmp_path}/web.sock",
            "unix:/run/ucloud-slurm-files/files.sock": f"unix:{tmp_path}/web.sock",
        },
    )
    with nginx.running(tmp_path, text, port):
        yield Proxy(port, plain)
    upstream.shutdown()
    upstream.server_close()


def ask(port: int, verb: str, path: str, size: int = 0) -> tuple[int, str]:
    """Status and Server header."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=context)
    try:
        connection.request(verb, path, body=b"x" * size if size else None)
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.headers.get("Server", "")
    finally:
        connection.close()


def test_nginx_lets_through_what_ucloud_calls_and_nothing_else(proxy: Proxy) -> None:
    transfers = [f"/ucloud/example/files/transfer/{name}" for name in ("download?token=x", "upload", "folder?token=x")]
    for path in ("/ucloud/example/jobs/retrieveProducts", *SOCKETS, *transfers):
        assert ask(proxy.port, "GET", path) == (200, "nginx"), path
    closed = (
        "/metrics",
        "/healthz",
        "/readyz",
        "/",
        "/ucloud/other/jobs",
        "/ucloud/example/../../metrics",
        "/ucloud/jobs.provider.example/",
        "/ucloud/jobs.provider.example/jobs",
        "/_ucloud/authorize",
    )
    for path in closed:
        assert ask(proxy.port, "GET", path)[0] == 404, path


def test_nginx_takes_the_largest_request_that_the_service_takes(proxy: Proxy) -> None:
    assert ask(proxy.port, "POST", "/ucloud/example/jobs", LARGEST_REQUEST_BYTES)[0] == 200
    try:
        status = ask(proxy.port, "POST", "/ucloud/example/jobs", LARGEST_REQUEST_BYTES + 1)[0]
    except (ConnectionError, ssl.SSLError):  # it may hang up before all is sent
        status = 413
    assert status == 413


def test_nginx_takes_a_chunk_of_an_upload_and_little_more(proxy: Proxy) -> None:
    path = "/ucloud/example/files/transfer/upload"
    assert ask(proxy.port, "POST", path, 16_000_000)[0] == 200
    try:
        status = ask(proxy.port, "POST", path, 20 * 1024 * 1024 + 1)[0]
    except (ConnectionError, ssl.SSLError):  # it may hang up before all is sent
        status = 413
    assert status == 413


@pytest.mark.parametrize("path", ["example/jobs", "example/link/abc", "jobs.provider.example/websocket", "example/websocket"])
def test_what_a_client_says_of_the_time_of_its_request_does_not_count(proxy: Proxy, path: str) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", proxy.port, timeout=30, context=context)
    before = time.time()
    connection.request("GET", f"/ucloud/{path}", headers={"X-Request-Start": "12.5"})
    found = re.fullmatch(r"\['([0-9.]+)'\]", connection.getresponse().headers["X-Seen-Start"])
    connection.close()
    assert found is not None
    assert float(found[1]) >= before - 1, "nginx reads the clock at most once in a turn of its loop"


@pytest.mark.parametrize("path", ["example/jobs", "example/link/abc", "jobs.provider.example/websocket", "example/websocket"])
@pytest.mark.parametrize("own", ["2f1c1b0e-8f2e-4c53-9d86-0a6f2d0e7b11", None, "a b\"c'd-efgh", "x" * 65])
def test_the_service_is_given_the_id_of_ucloud_or_a_new_one(proxy: Proxy, path: str, own: str | None) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", proxy.port, timeout=30, context=context)
    headers = {"X-Request-ID": "of-a-stranger"} | ({"Job-Id": own} if own else {})
    connection.request("GET", f"/ucloud/{path}", headers=headers)
    seen = connection.getresponse().headers["X-Seen-Request"]
    connection.close()
    assert re.fullmatch(r"\['[0-9a-f]{32}'\]", seen) if own is None or len(own) != 36 else seen == f"['{own}']"


def flood(proxy: Proxy, path: str, number: int, source: str, pretended: str = "") -> Counter[int]:
    """Asks so many times from an address; counts the statuses. A 429 must be in UCloud's form.

    :param pretended: from 127.0.0.5, the beginning of the addresses that it has for nginx
    """
    statuses, context = Counter[int](), ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", proxy.port, timeout=30, context=context, source_address=(source, 0))
    for each in range(number):
        address = f"{pretended}{each + 1:x}" if pretended else source
        connection.request("GET", path, headers={"X-Real-IP": "192.0.2.1", "X-Pretended": address})
        answer = connection.getresponse()
        text = answer.read()
        statuses[answer.status] += 1
        if answer.status == 429:
            assert json.loads(text)["why"]
            assert answer.headers["Retry-After"] == "2"
        else:
            assert answer.headers["X-Seen"] == str([address]), "what the client says of its address does not count"
    connection.close()
    return statuses


def test_who_floods_a_page_is_answered_with_429_and_nobody_else(proxy: Proxy) -> None:
    page, call = "/ucloud/example/link/abc", "/ucloud/example/jobs/retrieveProducts"
    flooded = flood(proxy, page, 800, "127.0.0.2")
    assert set(flooded) == {200, 429}
    assert flooded[200] >= 400, "a campus behind one address may open the page at once"
    assert flood(proxy, page, 5, "127.0.0.3") == {200: 5}
    assert flood(proxy, call, 5, "127.0.0.2") == {200: 5}
    assert flood(proxy, call, 800, "127.0.0.4") == {200: 800}, "UCloud is one address"


@pytest.mark.parametrize("network", ["2001:db8:1:2:3:4:5:", "2001:db8:1:2::", "2001:db8::"])
def test_who_has_a_network_of_ipv6_is_one_address(proxy: Proxy, network: str) -> None:
    page = "/ucloud/example/link/abc"
    assert 429 in flood(proxy, page, 800, "127.0.0.5", network)
    assert flood(proxy, page, 5, "127.0.0.5", "2001:db8:1:3::") == {200: 5}


class Full(Upstream):
    """A service whose share for browsers is taken."""

    def do_GET(self) -> None:
        self.send_response(429)
        self.send_header("Content-Length", "0")
        self.end_headers()


def test_a_browser_is_asked_to_come_again_while_the_service_cannot_say_whether_it_may_pass(tmp_path: Path) -> None:
    program("nginx", "nginx", tmp_path)
    certificate(tmp_path, "apps.hpc.example.org")
    port = free_port()
    text = nginx.shipped(
        "nginx-sessions.conf",
        {
            "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
            "    listen [::]:443 ssl;\n": "",
            "/etc/ssl/certs/apps.hpc.example.org.pem": f"{tmp_path}/cert.pem",
            "/etc/ssl/private/apps.hpc.example.org.key": f"{tmp_path}/key.pem",
            "unix:/run/ucloud-slurm/web.sock": f"unix:{tmp_path}/web.sock",
        },
    )
    with ThreadingUnixStreamServer(str(tmp_path / "web.sock"), Full) as upstream, nginx.running(tmp_path, text, port):
        upstream.daemon_threads = True
        threading.Thread(target=upstream.serve_forever, daemon=True).start()
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=context)
        for path in ("/", "/_ucloud/vnc?token=a"):
            connection.request("GET", path, headers={"Host": "a.apps.hpc.example.org", "Cookie": "__Host-ucloud-session=a"})
            answer = connection.getresponse()
            answer.read()
            assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
        connection.close()
        upstream.shutdown()


def test_on_port_80_nginx_sends_the_socket_of_logs_to_https_and_answers_nothing_else(proxy: Proxy) -> None:
    """A UCloud of 2021 opens it there, and goes where it is sent (contract: framing)."""
    connection = http.client.HTTPConnection("127.0.0.1", proxy.plain, timeout=30)
    found = {}
    for path in (*SOCKETS, "/ucloud/example/jobs", "/"):
        connection.request("GET", path, headers={"Upgrade": "websocket", "Connection": "Upgrade"})
        answer = connection.getresponse()
        answer.read()
        found[path] = (answer.status, answer.headers.get("Location"))
    connection.close()
    assert found.pop(SOCKETS[0]) == (301, f"https://hpc.example.org{SOCKETS[0]}")
    assert set(found.values()) == {(404, None)}
