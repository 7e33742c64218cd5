"""What starting the private cluster does to this machine, in sentences for the person who types the command."""

from collections.abc import Sequence

from tests.sandbox.slurm_conf import ClusterFacts

OPEN = "; those of Slurm are open to the network, but hear only messages signed with this cluster's own key"


def sentences(
    facts: ClusterFacts,
    packages: Sequence[str],
    accounts: Sequence[str],
    ports: Sequence[int],
    servers: Sequence[str],
    *,
    root: bool,
) -> list[str]:
    """The plan.

    :param packages: that are missing
    :param accounts: that will be made
    :param servers: names of the processes
    :param root: whether the caller can install packages
    """
    if packages:
        needs = "" if root else "; that needs root"
        install = (
            f"Install the packages {', '.join(packages)} with apt-get, without starting their services; "
            f"they stay installed{needs}."
        )
    else:
        install = "Install nothing: all packages are here."
    make = f"Make the accounts {', '.join(accounts)}, with homes in {facts.folder}/home." if accounts else "Make no accounts."
    opened = "" if facts.bind_address else OPEN
    return [
        install,
        make,
        f"Keep everything else in the folder {facts.folder}.",
        f"Listen at {facts.address}, ports {', '.join(map(str, ports))}{opened}.",
        f"Run the processes {', '.join(servers)}, without systemd.",
        "Leave alone a Slurm that is already here: this one has its own folder, ports and SLURM_CONF.",
    ]
