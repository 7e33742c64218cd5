"""What an administrator types by the guides: their commands, and what they show below them."""

import re
from pathlib import Path

HOWTO = Path(__file__).parents[2] / "docs" / "howto"

Step = tuple[str, list[str]]


def blocks(name: str) -> list[list[Step]]:
    """For each block of a guide the commands that root types, and the lines that it shows below each."""
    found: list[list[Step]] = []
    text = (HOWTO / f"{name}.rst").read_text()
    for block in re.findall(r"^\.\. code-block:: console\n\n((?:   .*\n|\n)+)", text, re.MULTILINE):
        steps: list[Step] = []
        for line in block.rstrip().splitlines():
            if line.startswith("   # "):
                steps.append((line.removeprefix("   # "), []))
            else:
                steps[-1][1].append(line.strip())
        found.append(steps)
    return found


def steps(name: str) -> list[Step]:
    """All of :func:`blocks`."""
    return [step for block in blocks(name) for step in block]
