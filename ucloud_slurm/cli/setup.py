"""``setup``: makes a provider of a cluster: asks, writes the configuration, and says or does what remains."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from ucloud_slurm.cli.context import explained
from ucloud_slurm.cli.output import table
from ucloud_slurm.cli.setup_answers import Options, asked, key, right, same, token
from ucloud_slurm.config import Config, location, parse
from ucloud_slurm.config.annotated import HEAD as ABOUT
from ucloud_slurm.config.annotated import annotated
from ucloud_slurm.errors import Misconfigured, NotNow, Refused
from ucloud_slurm.setup import answers, files, host
from ucloud_slurm.setup.answers import QUESTIONS
from ucloud_slurm.setup.proposal import HEAD, Counting, missing, propose, summary
from ucloud_slurm.setup.step import Chosen, Step
from ucloud_slurm.setup.steps import steps
from ucloud_slurm.setup.survey import Survey, slurm_section, survey
from ucloud_slurm.slurm.errors import SchedulerUnavailableError

ROOT_ONLY = "--apply needs root: sudo ucloud-slurm setup --apply; without it setup prints the commands."
NO_ANSWER = (
    "No answer came, so setup ends here; what it has written stays, and it can be repeated. Every answer can be an option "
    "(ucloud-slurm setup --help), and --yes asks nothing."
)
_PATH = click.Path(path_type=Path, readable=False)


def _answers(command: Callable[..., None]) -> Callable[..., None]:
    """An option for each question."""
    for question in reversed(QUESTIONS):
        proposal = f" Without an answer: {question.proposal}." if question.proposal else ""
        command = click.option(question.option, question.name, metavar="TEXT", help=f"{question.text}.{proposal}")(command)
    return command


@click.command()
@_answers
@click.option("--token-file", type=_PATH, help="A file with UCloud's refresh token for this provider, in one line.")
@click.option("--public-key-file", type=_PATH, help="A file with UCloud's public key.")
@click.option("--partition", "only", multiple=True, help="Propose products for this partition only. May be repeated.")
@click.option("--slurm-conf", "conf", type=_PATH, help="Slurm's configuration file. Else it is looked for.")
@click.option("--slurm-commands", "commands", type=_PATH, help="Folder of Slurm's commands. Else they are looked for.")
@click.option("--files", "shipped", type=_PATH, help="Folder with etc and systemd of this release. Else those installed.")
@click.option("--yes", is_flag=True, help="Ask nothing: take the proposals for what is not given.")
@click.option("--replace", is_flag=True, help="Write an existing configuration anew, from its answers; the old file is kept.")
@click.option("--add-products", is_flag=True, help="With --replace: add products for partitions that have none.")
@click.option("--apply", "applied", is_flag=True, help="Do the steps that can be done on this host. Needs root.")
@click.pass_obj
def setup(path: Path | None, /, **given: Any) -> None:
    """Make this cluster a provider of UCloud: write the configuration, and say or do what remains.

    Slurm is asked for its partitions and nodes, and you for what it cannot know. An existing configuration stays as it
    is without --replace, and what it has is not asked again. Everything may be repeated: what is done is left alone.

    Exits with 0, also when steps remain; with 1 when Slurm does not answer or a step failed, with 2 when an answer is
    missing or wrong, and with 78 when the existing configuration has a mistake or the cluster has no accounting.
    """
    names = [question.name for question in QUESTIONS]
    typed = {name: given.pop(name) for name in names}
    options = Options(**given, given={name: value for name, value in typed.items() if value is not None})
    with explained():
        if options.applied and os.geteuid() != 0:
            raise Refused(ROOT_ONLY)
        right(options.given)
        try:
            sys.exit(_set_up((path or location()).absolute(), options))
        except click.Abort:
            raise Refused(NO_ANSWER) from None


def _set_up(path: Path, options: Options) -> int:
    place = files.place(path)
    here = host.examine(path, place.drafts, options.shipped)
    draft = place.of(path, path.name)
    source = path if path.exists() else draft
    before = files.before(source, replacing=options.replace)
    slurm = slurm_section({"conf": options.conf, "commands": options.commands}, (before or {}).get("slurm", {}))
    if before is not None and not options.replace:
        same(options, before, source)
        config = _checked(before, f"Correct {source}, or write it anew with --replace.")
        answered = asked(["account"], options, before, _surveyed(slurm))
        text = None
    else:
        found = _surveyed(slurm)
        answered = asked(_open_questions(before or {}, options), options, before or {}, found)
        data = _data(answered, before or {}, found, path, slurm, options)
        config = _checked(data, "Nothing was written.")
        text = annotated(data, f"{ABOUT}\n# Written by ucloud-slurm setup.")
    wanted = token(config, place, options), key(config, place, options)
    certificate, secret = host.certificate_here(urlsplit(config.provider.url).hostname or "")
    chosen = Chosen(answered["account"], answered.get("certificate", certificate), answered.get("certificate_key", secret))
    changed = text is not None and not files.holds(draft, text)
    if changed and not options.yes and not click.confirm(f"Write {draft}?", default=True):
        raise Refused(f"{draft} was not written.")
    changed |= _write_keys(config, place, *wanted)
    if text is not None and not files.holds(draft, text):
        backup = files.write(draft, text, new=before is None)
        _say(f"Wrote {draft}." + (f" The old file is {backup}." if backup else ""))
    else:
        _say(f"{source} is there, and stays as it is{'' if options.replace else ' (--replace writes it anew)'}.")
    return _finish(steps(config, chosen, here), options, changed=changed)


def _open_questions(before: Mapping[str, Any], options: Options) -> list[str]:
    """The questions that are asked: nginx's certificate has a place, and products that are there are counted already."""
    without = {"certificate", "certificate_key"}
    if before.get("products") and not options.add_products:
        without |= {"charge_by", "frequency"}
    return [question.name for question in QUESTIONS if question.name not in without]


# ---- Slurm and the products


def _surveyed(slurm: Mapping[str, Any]) -> Survey:
    try:
        found = survey(slurm)
    except SchedulerUnavailableError as error:
        raise NotNow(f"Slurm does not answer: {error}. Nothing was written; when sinfo works here, run setup again.") from None
    _say(f"Slurm {found.version}, cluster {found.cluster or '(without a name)'}")
    return found


def _data(
    answered: Mapping[str, str],
    before: Mapping[str, Any],
    found: Survey,
    path: Path,
    slurm: Mapping[str, Any],
    options: Options,
) -> Mapping[str, Any]:
    """The configuration, with products for the machines of the cluster."""
    counting = Counting(answered.get("charge_by", "auto"), answered.get("frequency", "minute"))
    products = [*before.get("products", [])]
    taken = [str(each.get(name)) for each in products for name in ("id", "category")]
    proposal = propose(answered["provider"], found.machines, found.partitions, counting, options.only, taken)
    new = missing(proposal.products, products)
    if not products or options.add_products:
        products += new
    elif new:
        _say(f"Without a product: {', '.join(sorted({each['partition'] for each in new}))} (--add-products adds some).")
    for sentence in proposal.left_out:
        _say(f"No product for {sentence}.")
    if not products:
        raise Refused("There is no partition that everybody can use, so no product; name some with --partition.")
    table(HEAD, summary(products))
    keys = files.places_of_keys(before, path)
    pace = {"submit_per_second": found.refill_rate} if found.refill_rate is not None else {}
    return answers.configuration(answered, before, products, ucloud=keys, slurm={**pace, **slurm})


def _checked(data: Mapping[str, Any], hint: str) -> Config:
    try:
        return parse(dict(data))
    except Misconfigured as error:
        raise Misconfigured([*error.sentences, hint]) from None


# ---- writing, and the steps


def _write_keys(config: Config, place: files.Place, refresh_token: str | None, public_key: str | None) -> bool:
    """Writes them before the configuration that names them; whether there was something to write."""
    for path, name, text, secret in (
        (config.ucloud.refresh_token_file, files.TOKEN, refresh_token, True),
        (config.ucloud.public_key_file, files.PUBLIC_KEY, public_key, False),
    ):
        if text is not None:
            files.write(place.of(path, name), f"{text}\n", secret=secret)
            _say(f"Wrote {place.of(path, name)}.")
    return refresh_token is not None or public_key is not None


def _finish(all_: Sequence[Step], options: Options, *, changed: bool) -> int:
    """Prints the steps that remain, or does them; the exit status."""
    left, failed = host.remaining(all_, host.run_line), []
    own = host.doable(left) if options.applied else []
    if own:
        if not options.yes:
            _print(own)
            if not click.confirm(f"\nDo these {len(own)} steps now?", default=True):
                raise Refused("No step was done.")
        outcome = host.apply(left, host.run_line, lambda step: _say(f"+ {step.title}"))
        left, failed = outcome.left, outcome.failed
        for line in outcome.warnings:
            _say(line)
    for sentence in failed:
        click.echo(f"ucloud-slurm: {sentence}", err=True)
    if left:
        _say(f"\n{len(all_) - len(left)} of {len(all_)} steps are done. What remains, as root:")
        _print(left)
    elif changed or own:
        _say(f"All {len(all_)} steps are done.")
    else:
        _say(f"Nothing to do: all {len(all_)} steps are done, and nothing was changed.")
    return 1 if failed else 0


def _print(left: Sequence[Step]) -> None:
    """The steps as lines that can be pasted."""
    for number, step in enumerate(left, 1):
        by_hand = " (yours: --apply does not do it)" if step.by_hand else ""
        _say(f"\n# {number}. {step.title}{by_hand}")
        if step.note:
            _say(f"#    {step.note}")
        _say(step.command)


def _say(text: str) -> None:
    click.echo(text)
