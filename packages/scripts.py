"""The maintainer scripts: what runs before and after files are placed and deleted, with the names of the units put in."""

import configparser
import re
from collections.abc import Mapping
from pathlib import Path

from packages.tree import units

FOLDER = Path(__file__).parent / "scripts"


def of_deb(version: str) -> Mapping[str, str]:
    """The scripts of a package of Debian's by their names (deb-preinst(5) and so on)."""
    functions = _functions("dpkg --configure -a")
    return {
        name: f"#!/bin/sh\nset -e\n{functions}\n{_filled(_read(f'deb.{name}.sh'), VERSION=version)}"
        for name in ("preinst", "postinst", "prerm", "postrm")
    }


def of_rpm(**values: str) -> str:
    """The spec file with its scriptlets."""
    # In a spec file a percent sign begins a macro, also in a comment.
    functions = _functions("dnf reinstall ucloud-slurm").replace("%", "%%")
    return _filled(_read("ucloud-slurm.spec"), FUNCTIONS=functions, **values)


def groups() -> Mapping[str, list[str]]:
    """The units by what the scripts do with them.

    What is behind a socket goes on while files are replaced: stopped, it would be started by the next caller.
    """
    parsed = {unit.name: _parsed(unit) for unit in units()}
    behind_sockets = [name for name in parsed if name.endswith(".service") and name.replace(".service", ".socket") in parsed]
    paused = [name for name in parsed if not name.endswith(".socket") and name not in behind_sockets]
    return {
        "UNITS": list(parsed),
        "ENABLED_UNITS": [name for name, each in parsed.items() if each.has_section("Install")],
        "RESTARTED_UNITS": behind_sockets,
        # A timer before what it starts, and last what the others need: they are started again the other way round.
        "PAUSED_UNITS": sorted(
            paused, key=lambda name: (parsed[name].has_option("Unit", "Before"), not name.endswith(".timer"))
        ),
    }


def _functions(again: str) -> str:
    return _filled(_read("functions.sh"), AGAIN=again, **{name: " ".join(found) for name, found in groups().items()})


def _parsed(unit: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.read(unit)
    return parser


def _read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _filled(text: str, **values: str) -> str:
    return re.sub(r"@([A-Z_]+)@", lambda match: values[match[1]], text)
