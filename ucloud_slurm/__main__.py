"""The ``ucloud-slurm`` command, also as ``python -m ucloud_slurm``."""

import gc
import sys


def main() -> None:
    """Does what the command line says; ends the process.

    The command of the timer has no options, and goes to its pass directly: a library for command lines takes as long
    to load as half of the pass.
    """
    if sys.argv[1:] == ["worker"]:
        gc.disable()
        from ucloud_slurm.cli.passes import work

        try:
            work()
        except KeyboardInterrupt:
            sys.exit("\nAborted!")
    from ucloud_slurm.cli.main import run

    run()


if __name__ == "__main__":
    main()
