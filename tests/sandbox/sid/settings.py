"""What this machine's own settings say of mirrors, indexes, proxies and certificates, for the Debian inside.

Nothing of it is written down in this project: a site behind a proxy has configured apt and pip already.
"""

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from tests.sandbox.sid.recipe import CERTIFICATES, SUITE

CURRENT = frozenset({SUITE, "unstable", "testing", "stable"})
PROXIES = frozenset({"http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"})
BUNDLES = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
SYSTEM_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
OF_FETCHING = ("Acquire::http", "Acquire::https", "Acquire::Check-Date", "Acquire::Check-Valid-Until")
TARGETS = ("indextargets", "--no-release-info", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)")


def mirror(targets: str, system: Mapping[str, str]) -> str | None:
    """The mirror that apt gets this machine's Debian from; None on another distribution.

    :param targets: what apt-get says to :data:`TARGETS`, ``URI suite component`` in each line
    :param system: os-release(5)
    """
    if system.get("ID") != "debian":
        return None
    suites = CURRENT | {system.get("VERSION_CODENAME", "")}
    rows = (line.split() for line in targets.splitlines())
    return next((row[0] for row in rows if len(row) == 3 and row[1] in suites and row[2] == "main"), None)


def apts_mirror() -> str | None:
    """See :func:`mirror`; None leaves it to debootstrap."""
    return mirror(_said("apt-get", *TARGETS), _os_release())


def fetching() -> str:
    """How apt fetches here, as a file of apt.conf(5): proxies, and whether dates are looked at."""
    return _said("apt-config", "dump", *OF_FETCHING)


def pip_variables(configured: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The settings of pip as its environment variables, which win over its files.

    :param configured: what ``pip config list`` prints, ``section.key='value'`` in each line
    """
    found: dict[str, str] = {}
    lines = (line.partition("=") for line in configured.splitlines())
    for place, _, text in lines:
        section, _, key = place.rpartition(".")
        if section in ("global", "install"):
            found[f"PIP_{key.upper().replace('-', '_')}"] = _literal(text)
    # A folder of this machine is not inside.
    found |= {name: value for name, value in environment.items() if name.startswith("PIP_")}
    return {name: value for name, value in found.items() if not (name == "PIP_FIND_LINKS" and value.startswith("/"))}


def online() -> dict[str, str]:
    """The variables that let apt and pip inside reach what they reach outside."""
    proxies = {name: value for name, value in os.environ.items() if name.lower() in PROXIES}
    variables = proxies | _pip()
    if bundle() is not None:
        variables |= dict.fromkeys(BUNDLES, CERTIFICATES)
    return variables | {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore"}


def bundle() -> Path | None:
    """The certificates that pip trusts here."""
    named = _pip().get("PIP_CERT"), *(os.environ.get(name) for name in BUNDLES), SYSTEM_BUNDLE
    return first_file(named)


def first_file(names: Iterable[str | None]) -> Path | None:
    """The first of them that is a file."""
    return next((Path(name) for name in names if name and Path(name).is_file()), None)


def _pip() -> dict[str, str]:
    return pip_variables(_said(sys.executable, "-m", "pip", "config", "list"), os.environ)


def _literal(text: str) -> str:
    try:
        return str(ast.literal_eval(text))
    except (ValueError, SyntaxError):
        return text


def _os_release() -> dict[str, str]:
    try:
        lines = Path("/etc/os-release").read_text().splitlines()
    except OSError:
        return {}
    return {name: value.strip("\"'") for name, is_pair, value in (line.partition("=") for line in lines) if is_pair}


@cache
def _said(*command: str) -> str:
    """What a program prints; nothing when it is not there or fails: then there are no settings to take over."""
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return done.stdout if done.returncode == 0 else ""
