"""The smallest configuration that a process of the product starts with."""

from pathlib import Path

from tests.sandbox.site import toml


def write_config(folder: Path, url: str = "http://127.0.0.1:1") -> Path:
    """Writes ``config.toml``, whose database, keys and Slurm's commands are in the same folder.

    :param url: of UCloud
    """
    path = folder / "config.toml"
    tables = {
        "provider": {"id": "example", "url": "http://127.0.0.1:1"},
        "database": {"path": str(folder / "test.db")},
        "slurm": {"commands": str(folder)},
        "ucloud": {"url": url, "refresh_token_file": str(folder / "token"), "public_key_file": str(folder / "key")},
        "products": [{"id": "example-compute-1", "category": "example-compute", "partition": "cpu"}],
    }
    path.write_text(toml(tables), encoding="utf-8")
    return path
