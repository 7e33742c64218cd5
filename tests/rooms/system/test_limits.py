"""The limit on open files is raised for this process alone: what it starts has that of the site."""

import resource
import subprocess
import sys
import textwrap

OWN = 256  # lower than any that a machine gives

PROGRAM = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({own}, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
from ucloud_slurm.system import limits
from ucloud_slurm.system.child import Child
from ucloud_slurm.system.process import Command
from ucloud_slurm.system.terminal import start
limits.raise_open_files()
limits.raise_open_files()
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
print(Command(["/bin/sh", "-c", "read x; ulimit -Sn"], {{}}).finish("x\\n", 30).output.strip())
child = Child(["/bin/sh", "-c", "head -c 1 >/dev/null; ulimit -Sn >&2"], {{}})
child.channel.sendall(b"x")
child._process.wait(30)
print(child.errors(100).strip())
terminal = start(["/bin/sh", "-c", "ulimit -Sn; read x"], {{}}, 80, 24)
os.set_blocking(terminal.descriptor, True)
print(os.read(terminal.descriptor, 100).decode().strip())
terminal.close()
child.close()
"""


def test_what_a_process_starts_has_the_limit_from_before_it_was_raised() -> None:
    code = textwrap.dedent(PROGRAM.format(own=OWN))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    raised, *started = (int(line) for line in done.stdout.split())
    assert raised == min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 65_536)
    assert started == [OWN] * 3


def test_a_limit_that_is_high_enough_is_left_alone() -> None:
    code = (
        "import resource; from ucloud_slurm.system import limits; limits.OPEN_FILES = 100; limits.raise_open_files(); "
        "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0]); print(*limits.restoring(['a', 'b']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == [str(resource.getrlimit(resource.RLIMIT_NOFILE)[0]), "a b"]
