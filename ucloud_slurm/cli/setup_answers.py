"""``setup``: the answers, from options, from a configuration that is there, or typed; and the two keys from UCloud."""

import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import click

from ucloud_slurm.config import Config
from ucloud_slurm.errors import Misconfigured
from ucloud_slurm.setup import answers, files
from ucloud_slurm.setup.answers import QUESTIONS, Question
from ucloud_slurm.setup.survey import Survey
from ucloud_slurm.system.credentials import read_secret
from ucloud_slurm.ucloud.tokens import parse_keys

EX_USAGE = 2
ASKED = "UCloud's refresh token for this provider"
KEY = "UCloud's public key (base64 in one line), or the path of a file with it"


class Options(NamedTuple):
    """What stands on the command line.

    :ivar given: answers to questions, by their names
    """

    token_file: Path | None
    public_key_file: Path | None
    only: Sequence[str]
    conf: Path | None
    commands: Path | None
    shipped: Path | None
    yes: bool
    replace: bool
    add_products: bool
    applied: bool
    given: Mapping[str, str]


def right(given: Mapping[str, str]) -> None:
    """The first answer that was given as an option and is wrong ends it."""
    for question in QUESTIONS:
        if question.name in given and (why := question.refusal(given[question.name])) is not None:
            wrong(f"{question.option}: {why.rstrip('.')}.")


def same(options: Options, before: Mapping[str, Any], path: Path) -> None:
    """An option may not contradict a configuration that stays."""
    other = [question.option for question in answers.differing(options.given, before)]
    other += [f"--{name.replace('_', '-')}" for name in ("charge_by", "frequency") if name in options.given]
    named = {"--partition": options.only, "--add-products": options.add_products}
    named |= {"--slurm-conf": options.conf, "--slurm-commands": options.commands}
    other += [name for name, value in named.items() if value]
    if other:
        wrong(
            f"{path} is there, and {', '.join(other)} would change it: add --replace, which keeps the old file under another "
            "name, or leave it out."
        )


def asked(names: Sequence[str], options: Options, before: Mapping[str, Any], found: Survey) -> dict[str, str]:
    """All answers that were given, and those to these questions.

    :param before: the configuration that is there, if there is one
    """
    answered = dict(options.given)
    lacking = []
    for question in (question for question in QUESTIONS if question.name in names):
        if question.name in answered or answered.get("mapping", "table") not in question.where:
            continue
        known = found.accounts[0] if question.name == "account" and found.accounts else question.configured(before)
        proposal = known or question.proposal
        if options.yes or (known and question.name == "account"):
            if proposal is None:
                lacking.append(f"{question.option} ({question.text})")
            else:
                answered[question.name] = proposal
        else:
            if proposal is None and question.name == "url" and "." in socket.getfqdn():
                proposal = f"https://{socket.getfqdn()}"
            answered[question.name] = click.prompt(question.text, default=proposal, value_proc=_reader(question))
    if lacking:
        wrong(f"--yes asks nothing, so there must be {'; '.join(lacking)}.")
    return answered


def _reader(question: Question) -> Callable[[str], str]:
    """Reads what is typed; what cannot be used is asked again."""

    def read(text: str) -> str:
        answer = text.strip()
        why = question.refusal(answer)
        if why is not None:
            raise click.BadParameter(why)
        return answer

    return read


# ---- keys


def token(config: Config, place: files.Place, options: Options) -> str | None:
    """The refresh token that is to be written; None: it is there."""
    path = place.of(config.ucloud.refresh_token_file, files.TOKEN)
    if options.token_file is not None:
        try:
            given = read_secret("--token-file", options.token_file, "the refresh token")
        except Misconfigured as error:
            wrong(str(error))
        return _unless_there(path, given, "--token-file", replace=options.replace)
    if files.holds(path):
        return None
    if options.yes:
        wrong(f"--yes asks nothing, so there must be --token-file (a file with {ASKED}).")
    return str(click.prompt(ASKED, hide_input=True, value_proc=_secret))


def _secret(text: str) -> str:
    word = text.strip()
    if not word or " " in word or not (word.isascii() and word.isprintable()):
        raise click.BadParameter("it should be one word")
    return word


def key(config: Config, place: files.Place, options: Options) -> str | None:
    """UCloud's public key, if it is to be written; None: it is there."""
    path = place.of(config.ucloud.public_key_file, files.PUBLIC_KEY)
    if options.public_key_file is not None:
        try:
            given = _public_key(str(options.public_key_file.absolute()))
        except click.BadParameter as error:
            wrong(f"--public-key-file: {error.message}.")
        return _unless_there(path, given, "--public-key-file", replace=options.replace)
    if files.holds(path):
        return None
    if options.yes:
        wrong("--yes asks nothing, so there must be --public-key-file (a file with UCloud's public key).")
    return str(click.prompt(KEY, value_proc=_public_key))


def _public_key(text: str) -> str:
    text = text.strip()
    try:
        if text.startswith("/"):
            text = Path(text).read_text(encoding="ascii").strip()
        keys = parse_keys(text)
    except OSError as error:
        raise click.BadParameter(f"{text} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise click.BadParameter("it is not a text file; base64 and PEM are accepted") from None
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if not keys:
        raise click.BadParameter("it is empty")
    return text


def _unless_there(path: Path, text: str, option: str, *, replace: bool) -> str | None:
    if files.holds(path, text):
        return None
    if files.holds(path) and not replace:
        wrong(f"{path} is there and differs from {option}: add --replace, or leave the option out.")
    return text


def wrong(sentence: str) -> NoReturn:
    """One sentence about an answer, and the end."""
    click.echo(f"ucloud-slurm: {sentence}", err=True)
    sys.exit(EX_USAGE)
