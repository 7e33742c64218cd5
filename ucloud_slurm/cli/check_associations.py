"""``check``: the associations of Slurm that jobs need (sacctmgr(1)), compared as Slurm compares them."""

import pwd
from collections.abc import Generator, Iterator, Mapping, Sequence

from ucloud_slurm.bridge.naming import LocalUser
from ucloud_slurm.cli.check_accounts import MOST_NAMED, people, slurm_account_of
from ucloud_slurm.cli.checking import Budget
from ucloud_slurm.cli.output import Line
from ucloud_slurm.config import Config
from ucloud_slurm.errors import NotNow
from ucloud_slurm.slurm.trial import Association, Trial
from ucloud_slurm.store.people import People
from ucloud_slurm.store.sqlite import Store

ENFORCED = frozenset({"all", "associations", "limits", "safe", "qos", "wckeys"})  # each of them implies associations


def associations(
    config: Config, trial: Trial, settings: Mapping[str, str], budget: Budget
) -> Generator[Line, None, frozenset[str]]:
    """The accounts that the configuration names, and those of all people.

    :param settings: as scontrol shows them
    :returns: the people whose jobs Slurm refuses for want of an association
    """
    try:
        found = trial.associations(settings.get("ClusterName", ""), budget.left())
    except NotNow as error:
        yield "warning", f"the associations of people were not checked: {error}"
        return frozenset()
    known = Known(found)
    enforced = bool(ENFORCED & set(settings.get("AccountingStorageEnforce", "none").split(",")))
    yield from accounts(config, known, enforced=enforced)
    unfit: set[str] = set()
    if enforced and known.users:
        sentences = []
        for person in people(config):
            sentence, useless = _lacking(config, known, person)
            sentences += [sentence] if sentence else []
            if useless:
                unfit.add(person.user)
        for sentence in sentences[:MOST_NAMED]:
            yield "warning", sentence
        if len(sentences) > MOST_NAMED:
            yield "warning", f"and {len(sentences) - MOST_NAMED} more whom Slurm refuses for want of an association"
    return frozenset(unfit)


class Known:
    """Associations by the lower-case names of accounts and users: Slurm's names of accounts have no case.

    :ivar accounts: in lower case
    :ivar users: associations by their users' names in lower case
    """

    def __init__(self, found: Sequence[Association]) -> None:
        """Sorts them."""
        self.accounts = {each.account.lower() for each in found}
        self.users: dict[str, list[Association]] = {}
        for each in found:
            if each.user:
                self.users.setdefault(each.user.lower(), []).append(each)

    def of(self, person: str) -> list[Association]:
        """Those of a person. Slurm finds the uid of an association by the name as it has it."""
        return [each for each in self.users.get(person.lower(), ()) if each.user == person or _same(each.user, person)]


def accounts(config: Config, known: Known, *, enforced: bool) -> Iterator[Line]:
    """Whether Slurm has the accounts that ``[[outside]]`` and the table of projects name."""
    for number, rule in enumerate(config.outside, 1):
        if rule.account.lower() not in known.accounts:
            yield (
                ("failed" if enforced else "warning"),
                f'outside[{number}]: account = "{rule.account}": Slurm has no such account, so no job is registered',
            )
    store = Store.of(config.database)
    try:
        projects = People(store).projects()
    finally:
        store.close()
    for project in projects:
        if enforced and project.account.lower() not in known.accounts:
            yield (
                "warning",
                f"jobs of the project {project.project} go to the account {project.account}, which Slurm does not have: "
                f"ucloud-slurm users projects add {project.project} ACCOUNT",
            )


def _lacking(config: Config, known: Known, person: LocalUser) -> tuple[str | None, bool]:
    """What a person lacks, in a sentence, and whether Slurm refuses jobs on all products for it."""
    own = known.of(person.user)
    if not own:
        other = known.users.get(person.user.lower())
        if other:
            return (
                f"jobs of {person.user} are refused: Slurm knows that user as {other[0].user}; set "
                "Parameters=PreserveCaseUser in slurmdbd.conf, and add the user again",
                True,
            )
        account = slurm_account_of(config, person) or next((p.account for p in config.products if p.account), None)
        how = f"sacctmgr add user '{person.user}' account={account or 'ACCOUNT'}"
        return f"jobs of {person.user} are refused: Slurm has no association of that user: {how}", True
    lacking = []
    for product in config.products:
        account = slurm_account_of(config, person) or product.account
        # An account that does not exist is named by the trial of the product.
        if account is None or account.lower() not in known.accounts:
            continue
        if not any(each.account.lower() == account.lower() and each.partition in ("", product.partition) for each in own):
            lacking.append((product.id, account))
    if not lacking:
        return None, False
    product_ids = ", ".join(product for product, _ in lacking)
    sentence = (
        f"jobs of {person.user} on {product_ids} are refused: no association with the account {lacking[0][1]}: "
        f"sacctmgr add user '{person.user}' account={lacking[0][1]}"
    )
    return sentence, len(lacking) == len(config.products)


def _same(one: str, other: str) -> bool:
    """Whether two names are those of one account: some name services accept several spellings."""
    try:
        return pwd.getpwnam(one).pw_uid == pwd.getpwnam(other).pw_uid
    except KeyError:
        return False
