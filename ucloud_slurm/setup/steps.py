"""What remains to be done on a host: all steps, and those about accounts, files and people. Pure."""

import re
from collections.abc import Iterator
from shlex import quote

from ucloud_slurm.config import Config
from ucloud_slurm.setup.services import ACCOUNTS, FILES, GUNICORN, PROXY_GROUP, slurm_steps, ucloud_steps, unit_steps, web_steps
from ucloud_slurm.setup.step import ACCOUNT, Chosen, Host, Step, is_for_others, listed, quoted, substitute

FOLDER = "/etc/ucloud-slurm"
STATE = "/var/lib/ucloud-slurm"
SUDOERS = "/etc/sudoers.d/ucloud-slurm"
WRITERS = ("ucloud-slurm", "ucloud-slurm-worker", "ucloud-slurm-listener")


def steps(config: Config, chosen: Chosen, host: Host) -> list[Step]:
    """All steps for a configuration, in their order, whether they are done or not."""
    return [
        *_accounts(config, host),
        *_files(config, host),
        *_people(config, host),
        *_jobs_folder(config),
        *slurm_steps(config, chosen),
        *unit_steps(config, host),
        *web_steps(config, chosen, host),
        *ucloud_steps(config, host),
    ]


def _accounts(config: Config, host: Host) -> Iterator[Step]:
    sysusers, tmpfiles = host.shipped / "systemd/ucloud-slurm.sysusers", host.shipped / "systemd/ucloud-slurm.tmpfiles"
    hooks = " && getent passwd ucloud-slurm-hooks" if config.hooks else ""
    own = config.users.mapping == "service" and config.users.service_user in (None, ACCOUNT)
    note = f"{ACCOUNT} runs the jobs: make it on all hosts of the cluster, with the same uid and gid, before this step."
    yield Step(
        ACCOUNTS,
        f"The account {ACCOUNT} and its folders",
        f"getent passwd {ACCOUNT} && getent group {PROXY_GROUP} && test -d {STATE}{hooks}",
        f"install -D -m 0644 {quoted(sysusers)} /etc/sysusers.d/ucloud-slurm.conf\n"
        f"install -D -m 0644 {quoted(tmpfiles)} /etc/tmpfiles.d/ucloud-slurm.conf\n"
        "systemd-sysusers /etc/sysusers.d/ucloud-slurm.conf\n"
        "systemd-tmpfiles --create /etc/tmpfiles.d/ucloud-slurm.conf",
        note=note if own else "",
    )


def _files(config: Config, host: Host) -> Iterator[Step]:
    folder = host.config.parent
    wanted = (
        (host.config, "0640", "root", host.config.name),
        (config.ucloud.refresh_token_file, "0600", ACCOUNT, "refresh-token"),
        (config.ucloud.public_key_file, "0640", "root", "ucloud.pub"),
    )
    if host.drafts is not None:
        pairs = [(host.drafts / draft, path, mode, owner) for path, mode, owner, draft in wanted]
        yield Step(
            FILES,
            f"The files in {folder}",
            " && ".join(
                f"{{ test ! -e {quoted(draft)} || cmp -s {quoted(draft)} {quoted(path)}; }}" for draft, path, _, _ in pairs
            ),
            "\n".join(
                f"test ! -e {quoted(draft)} || install -D -m {mode} -o {owner} -g {ACCOUNT} {quoted(draft)} {quoted(path)}"
                for draft, path, mode, owner in pairs
            ),
            needs=(ACCOUNTS,),
        )
    else:
        paths = " ".join(quoted(path) for path, *_ in wanted)
        made = f'test "$(stat -c %U:%G:%a {quoted(folder)})" != root:root:750'  # as it is made before the account is there
        own = f"chgrp {ACCOUNT} {FOLDER}\nchmod 0750 {FOLDER}\n"
        own = own if str(folder) == FOLDER else f"{made} || chgrp {ACCOUNT} {quoted(folder)}\n"
        yield Step(
            FILES,
            f"The files in {folder} are for {ACCOUNT} only",
            f'for file in {paths}; do runuser -u {ACCOUNT} -- test -r "$file" || exit 1; done\n'
            f'test -z "$(find {quoted(config.ucloud.refresh_token_file)} -perm /077)"',
            own
            + "\n".join(
                f"chown {owner}:{ACCOUNT} {quoted(path)}\nchmod {mode} {quoted(path)}" for path, mode, owner, _ in wanted
            ),
            needs=(ACCOUNTS,),
        )
    shipped = ("gunicorn.conf.py", "gunicorn-files.conf.py")
    yield Step(
        GUNICORN,
        "The settings of gunicorn",
        " && ".join(f"test -s {quoted(folder / name)}" for name in shipped),
        "\n".join(
            f"test -s {quoted(folder / name)} || install -m 0640 -o root -g {ACCOUNT} "
            f"{quoted(host.shipped / 'etc' / name)} {quoted(folder / name)}"
            for name in shipped
        ),
        needs=(ACCOUNTS,),
    )


def _people(config: Config, host: Host) -> Iterator[Step]:
    if not is_for_others(config):
        return
    group = config.users.group
    yield Step(
        "people",
        f"The group {group} of the people whom jobs run as",
        f"getent group {quote(group)}",
        f"groupadd {quote(group)}",
        note=f"Its members are yours to choose, such as: gpasswd --add alice {quote(group)}",
    )
    # sudoers(5): special characters of a name need a backslash.
    named = re.sub(r"([^A-Za-z0-9_.-])", r"\\\1", group)
    edit = substitute({"%ucloud-users": f"%{named}", "/opt/ucloud-slurm/bin/ucloud-slurm-as-user": str(config.users.program)})
    rule = f"(%{named}) NOPASSWD: {config.users.program} "
    yield Step(
        "sudo",
        "The one rule of sudo",
        # sudo uses no file that others may write (sudoers(5)).
        f"grep -v '^ *#' {SUDOERS} | grep -qF {quote(rule)} && test -z \"$(find {SUDOERS} -perm /022)\"",
        f"sed {edit} {quoted(host.shipped / 'etc/sudoers')} > {SUDOERS}.new\n"
        f"visudo -cf {SUDOERS}.new\n"
        f"chmod 0440 {SUDOERS}.new\n"
        f"mv {SUDOERS}.new {SUDOERS}",  # sudo reads no file with a dot in its name
        note=f"Is it the only rule of this account? sudo -l -U {ACCOUNT}",
    )


def _jobs_folder(config: Config) -> Iterator[Step]:
    folder = config.jobs.folder.partition("{")[0].rstrip("/")
    if not folder or is_for_others(config):
        return
    hidden = any(folder.startswith(f"{place}/") for place in ("/home", "/root", "/run/user"))
    top = "/".join(folder.split("/")[:3])
    lines = [
        "[Service]",
        *(["ProtectHome=tmpfs", f"BindPaths={listed(top)}"] if hidden else []),
        f"ReadWritePaths={listed(folder)}",
    ]
    printed = " ".join(map(quote, lines))
    dropins = [f"/etc/systemd/system/{unit}.service.d/jobs.conf" for unit in WRITERS]
    yield Step(
        "folder",
        f"The folder of the jobs, {folder}",
        f"test -d {quote(folder)} && " + " && ".join(f"grep -qxF {quote(lines[-1])} {each}" for each in dropins),
        f"test -d {quote(folder)} || install -d -m 0700 -o {ACCOUNT} -g {ACCOUNT} {quote(folder)}\n"
        f"for unit in {' '.join(WRITERS)}; do\n"
        "    mkdir -p /etc/systemd/system/$unit.service.d\n"
        f"    printf '%s\\n' {printed} > /etc/systemd/system/$unit.service.d/jobs.conf\n"
        "done\n"
        "systemctl daemon-reload",
        needs=(ACCOUNTS,),
        note="The compute nodes must see it under the same path.",
    )
