"""What the Debian sid is made of and how, as data: versions, packages, flags, steps, and what to do when one fails.

sid is the one Debian whose Slurm a published pyslurm can be built for. The two do not match: pyslurm 25.11 is made for
Slurm 25.11, and sid has 26.05. The authors of pyslurm do not support that pair; it is what packages offer. What differs
is bridged by flags: Slurm's own header has a switch for callers that know the job ids of before, and two names went
away. The layout of every structure comes from the real headers.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from tests.sandbox import packages

SUITE = "sid"

PYSLURM = "25.11.2"
PYSLURM_HASH = "sha256:6e0e4bc639ea3177591b102b77c1dd8df55a9e411ac42ef339a4adb3908cca34"
PYSLURM_IS_FOR = "0x190b00"
"""SLURM_VERSION_NUMBER of the release that pyslurm asks for, 25.11."""

PACKAGES = (
    *packages.SLURM,
    *packages.DATABASE,
    "libslurm-dev",
    "gcc",
    "python3-dev",
    "python3-venv",
    "sudo",
    "iproute2",
    "procps",
    "sqlite3",
)

PLACE = "/opt/ucloud-slurm"
CHECKOUT = f"{PLACE}/checkout"
VENV = f"{PLACE}/venv"
CERTIFICATES = f"{PLACE}/certificates.pem"

FLAGS = (
    "-O0",  # the compiler takes a third of the time; pyslurm spends its own in libslurm
    "-w",
    "-DSLURM_BACKWARD_COMPAT",
    "-Dslurm_free_ctl_conf=slurm_free_conf",
    "-DESLURM_ERROR_ON_DESC_TO_RECORD_COPY=2034",
)


@dataclass(frozen=True, slots=True)
class Step:
    """One part of the building; what is done is not done again until it, or a step before it, has changed.

    :ivar name: also that of its log
    :ivar what: for the person at the terminal
    :ivar script: of sh, run inside; empty for a step that is done from outside
    :ivar advice: what to do when it fails
    :ivar seconds: after which it is given up
    :ivar depends: what else makes it another step
    """

    name: str
    what: str
    script: str
    advice: str
    seconds: int
    depends: str = ""


ONLINE = "look whether this machine reaches its package mirror, and try again"

BASE = Step("base", f"making a Debian {SUITE}", "", ONLINE, 1200)

SLURM = Step(
    "slurm",
    f"installing the Slurm of Debian {SUITE}",
    f"""
printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d  # no service starts by itself
chmod 755 /usr/sbin/policy-rc.d
apt-get -q update
apt-get -q install -y --no-install-recommends {" ".join(PACKAGES)}
""",
    f"{ONLINE}; {SUITE} moves every day, and some days its packages do not fit each other: then try again tomorrow",
    1800,
)

PYTHON = Step(
    "python",
    "making a virtual environment",
    f"""
rm -rf {VENV}
python3 -m venv {VENV}
{VENV}/bin/pip install -q setuptools wheel cython packaging
""",
    "look whether this machine reaches the index that pip uses, and try again",
    600,
)

PYSLURM_STEP = Step(
    "pyslurm",
    f"building pyslurm {PYSLURM}",
    f"""
headers={PLACE}/include
version=$headers/slurm/slurm_version.h
rm -rf $headers
mkdir -p $headers
cp -r /usr/include/slurm $headers/
sed -i 's/^#define SLURM_VERSION_NUMBER .*/#define SLURM_VERSION_NUMBER {PYSLURM_IS_FOR}/' $version
grep -q {PYSLURM_IS_FOR} $version
echo 'pyslurm=={PYSLURM} --hash={PYSLURM_HASH}' >{PLACE}/pyslurm.txt
SLURM_LIB_DIR=/usr/lib/$(gcc -print-multiarch) SLURM_INCLUDE_DIR=$headers PYSLURM_BUILD_JOBS=$(nproc) \\
CFLAGS='{" ".join(FLAGS)}' {VENV}/bin/pip install --no-deps --no-build-isolation --no-cache-dir \\
    --no-binary pyslurm --force-reinstall --require-hashes -r {PLACE}/pyslurm.txt
PYSLURM_DISABLE_AUTO_INIT=1 {VENV}/bin/python -c 'import pyslurm; print(pyslurm.__version__)'
""",
    f"if a compiler complains, {SUITE} has moved on to a Slurm that pyslurm {PYSLURM} cannot be built for: a newer "
    "pyslurm is needed, with flags and hash of its own in tests/sandbox/sid/recipe.py; if pip cannot fetch, "
    "look whether this machine reaches its index",
    1800,
)


def product(requirements: str) -> Step:
    """The step that installs the checkout.

    :param requirements: text of the files that say what it needs
    """
    return Step(
        "product",
        "installing the checkout with what its tests need",
        f"cd {CHECKOUT}\n{VENV}/bin/pip install -q --editable '.[tests]'\n",
        "look whether this machine reaches the index that pip uses, and whether all that setup.cfg names is there "
        f"for the Python of {SUITE}",
        1200,
        depends=requirements,
    )


def steps(requirements: str) -> tuple[Step, ...]:
    """All steps, in their order. See :func:`product`."""
    return BASE, SLURM, PYTHON, PYSLURM_STEP, product(requirements)


def fingerprints(wanted: tuple[Step, ...]) -> dict[str, str]:
    """What each step makes, in a word that changes when the step or one before it does."""
    found: dict[str, str] = {}
    before = ""
    for step in wanted:
        parts = [before, step.name, step.script, step.depends]
        before = found[step.name] = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    return found


def undone(wanted: tuple[Step, ...], done: Mapping[str, str]) -> tuple[Step, ...]:
    """Those steps that are still to do.

    :param done: fingerprints of what was done
    """
    now = fingerprints(wanted)
    return tuple(step for step in wanted if done.get(step.name) != now[step.name])


def failure(step: Step, log: str, slurm: str | None) -> str:
    """The sentence for a step that failed.

    :param log: where its words are
    :param slurm: the release of Slurm inside, if there is one by now
    """
    inside = f" (Slurm {slurm})" if slurm else ""
    return (
        f"The Debian {SUITE}{inside} is not usable: {step.what} failed. Its own words are in {log}. What to do: {step.advice}."
    )


def pair(slurm: str) -> str:
    """What is tried with what, for everybody who reads a result."""
    matching = slurm.startswith(PYSLURM.rpartition(".")[0] + ".")
    caveat = "" if matching else "; its authors do not support that pair, it is the one that packages offer"
    return f"pyslurm {PYSLURM} on Slurm {slurm} of Debian {SUITE}{caveat}"
