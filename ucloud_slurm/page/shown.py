"""How times, spans and states are shown: in UTC, with how long ago that was."""

from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import urlencode

from flask import Flask, request
from markupsafe import Markup, escape

from ucloud_slurm.errors import Refused, one_line

NOTHING = "\N{EN DASH}"
LONGEST_SEARCH = 200  # characters
NOTICE = ("done", "seal")  # parameters of what was done, which is shown once
LONGEST_KEY = 1000  # characters of a name behind which a page begins
_SPANS = ((86400 * 2, 86400, "d"), (3600 * 2, 3600, "h"), (120, 60, "min"), (0, 1, "s"))
TONES = {
    "RUNNING": "good",
    "SUCCESS": "done",
    "IN_QUEUE": "wait",
    "SUSPENDED": "wait",
    "FAILURE": "bad",
    "EXPIRED": "bad",
    "REFUSED": "bad",
    "delivered": "done",
    "waiting": "wait",
    "parked": "bad",
    "no-funds": "bad",
    "doubtful": "bad",
    "dropped": "done",
}


def register(app: Flask, now: Callable[[], float]) -> None:
    """Adds the filters and functions to the templates of an application."""

    def moment(seconds: float | None) -> Markup:
        return time_of(seconds, now())

    app.jinja_env.filters.update(moment=moment, span=span, short=short, chip=chip, number=number)
    app.jinja_env.globals.update(page_url=page_url)


def time_of(seconds: float | None, now: float) -> Markup:
    """A time in UTC, and how long ago that was."""
    if seconds is None:
        return escape(NOTHING)
    at = datetime.fromtimestamp(seconds, UTC)
    distance = f"{span(abs(now - seconds))} ago" if seconds <= now else f"in {span(seconds - now)}"
    return Markup('<time datetime="{}">{}<span class="ago"> {}</span></time>').format(
        at.strftime("%Y-%m-%dT%H:%M:%SZ"), at.strftime("%Y-%m-%d %H:%M:%S"), distance
    )


def span(seconds: float | None) -> str:
    """A span of time in its largest unit."""
    if seconds is None:
        return NOTHING
    unit, name = next((unit, name) for least, unit, name in _SPANS if seconds >= least or name == "s")
    if name == "s" and seconds < 10:
        return f"{seconds:.3g} s"
    return f"{seconds / unit:.0f} {name}"


def printable(text: str) -> str:
    """A text with a space for each character that cannot be seen."""
    return text if text.isprintable() else "".join(each if each.isprintable() else " " for each in text)


def short(text: str | None, most: int = 60) -> str | None:
    """The beginning of a text, as one line."""
    return None if text is None else one_line(text, most)


def number(value: float) -> str:
    """A number with spaces between its thousands."""
    return f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def chip(word: str | None) -> Markup:
    """A state or an outcome as a small label; its colour says no more than its text does."""
    shown = "waiting" if word is None else word
    return Markup('<span class="chip {}">{}</span>').format(TONES.get(shown, "plain"), escape(shown.lower().replace("_", " ")))


def page_url(**changed: object) -> str:
    """The address of this page with other parameters; None takes one away."""
    parameters = {**request.args.to_dict(), **changed}
    shown = {name: value for name, value in parameters.items() if value is not None and name not in NOTICE}
    return f"{request.path}?{urlencode(shown)}" if shown else request.path


def searched(name: str) -> str | None:
    """A parameter of the search; None where it is empty.

    :raises Refused: it is too long
    """
    text = request.args.get(name, "").strip()
    if len(text) > LONGEST_SEARCH:
        raise Refused(f"{name}: more than {LONGEST_SEARCH} characters; search for less.")
    return text or None


def after(name: str) -> str:
    """A name behind which a page begins, letter by letter; empty: the first page.

    :raises Refused: it is too long for one
    """
    text = request.args.get(name, "")
    if len(text) > LONGEST_KEY:
        raise Refused(f"{name}: should be as in the links of this page.")
    return text


def key(name: str) -> int | None:
    """A parameter that is the key of a page; None where there is none.

    :raises Refused: it is none
    """
    text = request.args.get(name, "")
    if not text:
        return None
    if not text.isdecimal() or len(text) > 18:
        raise Refused(f"{name}: should be a number, as in the links of this page.")
    return int(text)
