"""A program that lists jobs with pyslurm, and says how long that took. A process of its own: libslurm may end it."""

import importlib
import json
import os
import sys
import time


def main() -> None:
    """Answers until there is no further question."""
    for question in sys.stdin:
        os.environ["SLURM_CONF"] = json.loads(question)["conf"]
        pyslurm = importlib.import_module("pyslurm")  # it reads the configuration as it is imported
        begun = time.perf_counter()
        jobs = pyslurm.Jobs.load()
        took = (time.perf_counter() - begun) * 1000
        print(json.dumps({"took": took, "jobs": len(jobs)}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
