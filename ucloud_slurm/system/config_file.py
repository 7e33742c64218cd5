"""Where the configuration is, and what of it is needed where the rest is not loaded: in gunicorn's first process."""

import os
from pathlib import Path

DEFAULT_PATH = Path("/etc/ucloud-slurm/config.toml")
VARIABLE = "UCLOUD_SLURM_CONFIG"
TEXT = "text"


def location() -> Path:
    """The path of the configuration file."""
    return Path(os.environ.get(VARIABLE) or DEFAULT_PATH)


def journal_form() -> str:
    """The value of ``journal.format``; ``text`` where it is not set, or the file cannot be used, which the reader says."""
    import tomllib

    try:
        data = tomllib.loads(location().read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return TEXT
    table = data.get("journal")
    return str(table.get("format", TEXT)) if isinstance(table, dict) else TEXT
