"""``status``: the state of the provider on one screen, once or again and again."""

import json
import os
import select
import shutil
import sys
import termios
import textwrap
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click

from ucloud_slurm.cli.context import configured
from ucloud_slurm.cli.output import Seconds, as_json, moment
from ucloud_slurm.provider.status import Status, as_data, read_status

WATCH_SECONDS = 5.0
PIECE_SECONDS = 1.0  # Python notices a signal that comes just before a wait at its end
TEXT_COLUMN = 21
NARROWEST = 60
HOME, REST_OF_LINE, REST_OF_SCREEN = "\033[H", "\033[K", "\033[J"  # console_codes(4)
CLEAR = "\033[2J"


@click.command()
@click.option(
    "--watch",
    type=Seconds(0.5),
    is_flag=False,
    flag_value=WATCH_SECONDS,
    metavar="[SECONDS]",
    help=f"Again and again, every {WATCH_SECONDS:.0f} seconds unless another number is given; q or Ctrl-C ends it.",
)
@click.option("--json", "json_", is_flag=True, help="Print JSON; with --watch each in one line.")
@click.pass_obj
def status(path: Path | None, watch: float | None, json_: bool) -> None:
    """Show on one screen how each part of the provider is, and the command that helps where one is not well.

    Reads the database and the locks beside it. Neither Slurm nor UCloud is asked: `ucloud-slurm check` does that. It works
    while the service is down, too.

    Exits with 0 when all is well and with 1 when something is not; with --watch as the last time.
    """
    with configured(path) as config:
        if watch is None:
            found = read_status(config, time.time())
            as_json(as_data(found)) if json_ else click.echo(_text(found, _width(sys.stdout.isatty())))
        else:
            found = _watch(lambda: read_status(config, time.time()), watch, json_=json_)
    sys.exit(bool(found.unwell))


def _watch(read: Callable[[], Status], seconds: float, *, json_: bool) -> Status:
    """Shows it until somebody ends that; returns what was shown last."""
    drawn = sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb") and not json_
    found = read()
    with suppress(KeyboardInterrupt), _keys(drawn) as ended:
        while True:
            if json_:
                click.echo(json.dumps(as_data(found), ensure_ascii=False))
            elif drawn:
                lines = [*_text(found, _width(True)).split("\n"), "", f"every {seconds:g} s; q ends it"]
                click.echo(HOME + "".join(f"{line}{REST_OF_LINE}\n" for line in lines) + REST_OF_SCREEN, nl=False)
            else:
                click.echo(_text(found, None) + "\n")
            sys.stdout.flush()
            if ended(seconds):
                break
            found = read()
    return found


@contextmanager
def _keys(drawn: bool) -> Iterator[Callable[[float], bool]]:
    """A function that waits so many seconds, and says whether somebody has typed q meanwhile."""
    terminal = sys.stdin.fileno() if drawn else None
    watched = [] if terminal is None else [terminal]

    def ended(seconds: float) -> bool:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            for readable in select.select(watched, [], [], min(left, PIECE_SECONDS))[0]:
                typed = os.read(readable, 64)
                if not typed or b"q" in typed.lower():
                    return True
        return False

    if terminal is None:
        yield ended
        return
    before = termios.tcgetattr(terminal)
    try:
        tty.setcbreak(terminal)
        click.echo(CLEAR, nl=False)
        yield ended
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _width(terminal: bool) -> int | None:
    """Of the lines; None where they are not broken."""
    return max(NARROWEST, shutil.get_terminal_size().columns) if terminal else None


def _text(found: Status, width: int | None) -> str:
    head = f"ucloud-slurm {found.version}, provider {found.provider}, era {found.era}, host {found.host}, {moment(found.at)}"
    lines = [head, ""]
    for each in found.conditions:
        begin = f"{'ok' if each.well else 'NOT WELL':<8} {each.what:<{TEXT_COLUMN - 10}} "
        if width is None:
            lines.append(begin + each.text)
        else:
            lines += textwrap.wrap(each.text, width, initial_indent=begin, subsequent_indent=" " * TEXT_COLUMN) or [begin]
    unwell = [each.what for each in found.unwell]
    end = "All is well." if not unwell else f"{len(unwell)} of {len(found.conditions)} are not well: {', '.join(unwell)}."
    return "\n".join([*lines, "", end])
