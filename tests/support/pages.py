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


def install_section() -> str:
    """What the guide of installing says about ``setup``."""
    text = (HOWTO / "install.rst").read_text()
    return text.partition("With setup\n---")[2].partition("\nBy hand\n---")[0]


def install_commands() -> list[str]:
    """The commands from a host with a running Slurm to the first job, as that guide has them typed."""
    (commands, *_) = re.findall(r"code-block:: text\n\n((?:   .+\n)+)", install_section())
    return [line.strip() for line in commands.splitlines()]
