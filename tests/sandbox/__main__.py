"""``python -m tests.sandbox``: try the product on this machine."""

from tests.sandbox.cli import sandbox

sandbox(prog_name="python -m tests.sandbox")
