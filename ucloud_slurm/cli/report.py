"""``report``: a file for a bug report, with what helps to find a fault, and without secrets and names of people."""

import io
import json
import os
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

import click

from ucloud_slurm.cli.context import explained
from ucloud_slurm.cli.report_parts import Known, LeftOutError, Part, parts
from ucloud_slurm.config import location
from ucloud_slurm.config.kept import read
from ucloud_slurm.errors import Misconfigured, NotNow, Problem, Refused, one_line, place
from ucloud_slurm.system.bulkhead import Bulkhead, StuckError
from ucloud_slurm.system.process import CommandMissingError, CommandTimeoutError
from ucloud_slurm.system.redaction import Redactor
from ucloud_slurm.users.service import refuse_root

T = TypeVar("T")
PART_CHARACTERS = 2**20
WHOLE_SECONDS = 180.0
STANDARD_OUTPUT = Path("-")
EXPECTED = (Misconfigured, NotNow, Problem, OSError, CommandMissingError, CommandTimeoutError)
HEAD = """\
A report of ucloud-slurm, made {at}.

Secrets, contents of key files, scripts, parameters of jobs and messages to UCloud are left out. Names of users, accounts and
projects that the database knows, and of the members of users.group, are replaced: the same name is the same everywhere in this
report, and in no other report. Names of hosts, partitions and Slurm accounts, and paths, are as they are. Look through it
before you send it.

nginx -T is left out, because it would show the other sites of this host; add the server blocks of this provider where nginx
matters. Where the journal is empty, this account may not read it; as root: journalctl --unit='ucloud-slurm*' --lines=2000

"""


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The file, which must not exist; - for standard output. Default: ucloud-slurm-report-TIME.tar.gz in this folder.",
)
@click.pass_obj
def report(path: Path | None, out: Path | None) -> None:
    """Write a file for a bug report: what helps to find a fault, without secrets and names of people.

    It has the state, the results of `ucloud-slurm check`, versions, configuration, tables, the newest jobs and messages as
    bare rows, units, journal and Slurm's configuration. MANIFEST says what each file is, and why one is left out. It takes
    three minutes at most, and only this account can read it. Look through it before you send it.
    """
    now = time.time()
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    name = f"ucloud-slurm-report-{stamp}"
    out = out or Path(f"{name}.tar.gz")
    with explained():
        refuse_root()
        with _made(out) as file:  # before three minutes of work
            contents, left = collect(path or location(), now)
            file.write(_packed(name, contents, now))
    for sentence in left:
        click.echo(f"Left out: {sentence}", err=True)
    if out != STANDARD_OUTPUT:
        click.echo(f"{out} is written. Look through it before you send it.")


def collect(path: Path, now: float) -> tuple[dict[str, str], list[str]]:
    """The contents of each file, redacted, and a sentence about each that is left out.

    :param path: of the configuration
    :param now: seconds since the epoch
    """
    config, wrong = None, ""
    try:
        config = read(path)
    except Misconfigured as error:
        wrong = "; ".join(error.sentences)
    until = time.monotonic() + WHOLE_SECONDS
    try:
        known = _within(WHOLE_SECONDS / 3, lambda: Known.of(config))
    except LeftOutError as error:  # the database, or the name service
        known = Known.without_names(config, str(error))
    contents, left = {}, []
    lines = [HEAD.format(at=datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M:%S UTC"))]
    if known.why_no_names:
        left.append(known.redactor.text(f"the replacement of names: {known.why_no_names}; NO NAMES ARE REPLACED"))
        lines.append(f"NO NAMES ARE REPLACED: {known.why_no_names}\n")
    for part in parts(path, config, wrong, known):
        try:
            work = partial(_contents, part, known.redactor)
            contents[part.name], remark = _within(min(part.seconds, until - time.monotonic()), work)
            lines.append(f"{part.name:<14} {part.about}{remark}")
        except LeftOutError as error:
            left.append(one_line(known.redactor.text(f"{part.about}: {error}"), 500))
            lines.append(f"{part.name:<14} LEFT OUT: {left[-1]}")
    return {"MANIFEST": known.redactor.text("\n".join([*lines, ""])), **contents}, left


def _within(seconds: float, read: Callable[[], T]) -> T:
    """What it returns, in a thread that is left behind where it hangs: a disk can hang beyond every time limit.

    :raises LeftOutError: it has raised something, or has not come to its end in time
    """
    within = max(seconds, 0.0)
    try:
        return Bulkhead(1).call("report", read, within=within)
    except StuckError:
        raise LeftOutError(f"no answer within {within:.0f} s") from None
    except Exception as error:  # also by a mistake of this program: one part must not cost the others
        raise LeftOutError(_why(error)) from error


def _contents(part: Part, redactor: Redactor) -> tuple[str, str]:
    """The contents of a file, redacted, and a remark where it is not all of it: the end, which is the newest of a journal.

    :raises LeftOutError: it is of no use without all of it, and too long
    """
    found = part.read()
    text = redactor.text(found) if isinstance(found, str) else json.dumps(redactor.data(found), indent=1, default=str)
    if len(text) <= PART_CHARACTERS:
        return text, ""
    if not isinstance(found, str):
        raise LeftOutError(f"it has {len(text)} characters, more than {PART_CHARACTERS}")
    return text[-PART_CHARACTERS:], f"; the last {PART_CHARACTERS} of {len(text)} characters"


def _why(error: BaseException) -> str:
    """What a part has raised, without text that may be secret."""
    if isinstance(error, EXPECTED):
        return str(error)
    return f"unexpected {type(error).__name__} at {place(error)}"


def _packed(name: str, contents: Mapping[str, str], now: float) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for file, text in contents.items():
            data = text.encode("utf-8", "replace")
            member = tarfile.TarInfo(f"{name}/{file}")
            member.size, member.mtime, member.mode = len(data), int(now), 0o600
            archive.addfile(member, io.BytesIO(data))
    return packed.getvalue()


@contextmanager
def _made(out: Path) -> Iterator[BinaryIO]:
    """The file, for this account only. It is deleted where it cannot be written to its end.

    :raises Refused: it is there, or cannot be made or written
    """
    if out == STANDARD_OUTPUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    made = False
    try:
        with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "wb") as file:
            made = True
            yield file
    except BaseException as error:
        if made:
            out.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        another = "name another with --out, or write to where you are allowed to: --out - > FILE"
        raise Refused(f"{out} cannot be written ({error.strerror}); {another}") from None
