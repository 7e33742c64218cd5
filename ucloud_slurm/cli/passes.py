"""Passes of the worker, without the command line: what the timer starts every few seconds loads no more than this."""

import gc
import os
import sys
import time
from pathlib import Path
from typing import NoReturn

from ucloud_slurm.cli.context import EX_TEMPFAIL, opened
from ucloud_slurm.errors import Problem
from ucloud_slurm.system import journal
from ucloud_slurm.worker.run import Result, run_once


def work(path: Path | None = None, *, loop: float | None = None, wait: float = 0.0, verbose: bool = False) -> NoReturn:
    """Does a pass, or a pass every ``loop`` seconds, and exits.

    :param path: of the configuration; None for the usual one
    :param wait: seconds to wait for the end of another pass
    """
    journal.begin(verbose=verbose, journal=not sys.stderr.isatty())
    # The objects of a pass live until its end; collecting garbage meanwhile costs half as much as the pass.
    gc.disable()
    with opened(path) as provider:
        os.chdir("/")  # where jobs are submitted from (sbatch(1): SLURM_SUBMIT_DIR)
        while True:
            begun = time.monotonic()
            try:
                result = run_once(provider, wait=wait)
            except Problem as error:
                result = Result.NOT_ALL
                journal.say(f"this pass was not finished: {error.why}")
            if loop is None:
                gc.freeze()
                sys.exit(EX_TEMPFAIL if result is Result.NOT_ALL else 0)
            gc.collect()
            time.sleep(max(0.0, loop - (time.monotonic() - begun)))
