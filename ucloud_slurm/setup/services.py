"""The steps about Slurm, the units, nginx and UCloud. Pure."""

from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from urllib.parse import urlsplit

from ucloud_slurm.config import Config
from ucloud_slurm.setup.step import ACCOUNT, Chosen, Host, Step, is_for_others, listed, quoted, substitute

ACCOUNTS, FILES, GUNICORN = "accounts", "files", "gunicorn"
PROXY_GROUP = "ucloud-slurm-proxy"
NGINX_CONF = "/etc/nginx/conf.d/ucloud-slurm.conf"
POLICY = "ucloud-slurm"
UNITS = ("ucloud-slurm.socket", "ucloud-slurm.service", "ucloud-slurm-worker.timer", "ucloud-slurm-backup.timer")
LISTENER, STANDBY = "ucloud-slurm-listener.service", "ucloud-slurm-standby.service"
NGINX, CERTIFICATE, UNIT_FILES, LEASE = "nginx", "certificate", "units", "lease"


def slurm_steps(config: Config, chosen: Chosen) -> Iterator[Step]:
    """The Slurm account of the service, and its role."""
    sacctmgr = f"SLURM_CONF={quoted(config.slurm.conf)} {quoted(config.slurm.commands / 'sacctmgr')}"
    account = quote(chosen.account)
    yield Step(
        "account",
        f"The Slurm account {chosen.account}",
        f"{sacctmgr} -nP show account where account={account} format=account | grep -qixF {account}",
        f'{sacctmgr} -i add account {account} Description="Jobs of UCloud"',
    )
    yield Step(
        "association",
        f"{ACCOUNT} may submit with the Slurm account {chosen.account}",
        f"{sacctmgr} -nP show associations where user={ACCOUNT} account={account} format=account | grep -q .",
        f"{sacctmgr} -i add user {ACCOUNT} account={account}",
        needs=("account",),
    )
    yield Step(
        "operator",
        f"{ACCOUNT} is an Operator of Slurm",
        f"{sacctmgr} -nP show user {ACCOUNT} format=adminlevel | grep -qxE 'Operator|Administrator'",
        f"{sacctmgr} -i modify user {ACCOUNT} set AdminLevel=Operator",
        needs=("association",),
    )


def units(config: Config) -> tuple[str, ...]:
    """The units that a site enables."""
    drives = ("ucloud-slurm-files.socket",) if config.drives else ()
    runner = ("ucloud-slurm-runner.socket",) if is_for_others(config) else ()
    link = ("ucloud-slurm-link.socket",) if config.users.mapping == "table" else ()
    standby = (STANDBY,) if config.database.standby else ()
    hooks = ("ucloud-slurm-hookd.socket", "ucloud-slurm-hooks.timer") if config.hooks else ()
    return (*standby, *UNITS, *runner, *link, *drives, *hooks)


def readers(config: Config) -> tuple[str, ...]:
    """The services that read the configuration at their start. Passes of timers read it each time.

    That of the lease is not among them: of its keys only ``database.standby`` concerns it, which has steps of its own.
    """
    sockets = (unit.removesuffix(".socket") for unit in units(config) if unit.endswith(".socket"))
    return (*(f"{name}.service" for name in sockets), LISTENER)


def unit_steps(config: Config, host: Host) -> Iterator[Step]:
    """The units of systemd."""
    folder, wanted = host.shipped / "systemd", (*units(config), LISTENER)
    enabled, active, reading = " ".join(wanted), " ".join(units(config)), " ".join(readers(config))
    files = sorted({*wanted, *(f"{unit.rpartition('.')[0]}.service" for unit in wanted)})
    yield Step(
        UNIT_FILES,
        "The units of systemd",
        # One that was written on a full disk is empty.
        f"for unit in {' '.join(files)}; do systemctl cat $unit | grep -q '^\\[Unit]' || exit 1; done",
        f"install -m 0644 {quoted(folder)}/*.service {quoted(folder)}/*.socket {quoted(folder)}/*.timer /etc/systemd/system/\n"
        "systemctl daemon-reload",
    )
    yield from _standby(config, host)
    lease = (LEASE,) if config.database.standby else ()
    yield Step(
        "enabled",
        "The units are enabled and run",
        f"for unit in {enabled}; do systemctl --quiet is-enabled $unit || exit 1; done\n"
        f"for unit in {active}; do systemctl --quiet is-active $unit || exit 1; done",
        f"systemctl enable --now {enabled}",
        needs=(ACCOUNTS, FILES, GUNICORN, UNIT_FILES, *lease),
    )
    read = f"{quoted(host.config)} {quoted(config.ucloud.public_key_file)}"
    yield Step(
        "reload",
        "The services that run have read the configuration",
        f"for unit in {reading}; do\n"
        "    systemctl --quiet is-active $unit || continue\n"
        "    since=$(systemctl show --timestamp=us+utc --property=StateChangeTimestamp --value $unit)\n"  # start or reload
        f'    newer=$(find -L {read} -newermt "$since") && test -z "$newer" || exit 1\n'
        "done",
        f"systemctl try-reload-or-restart {reading}",
        needs=((FILES,) if host.drafts is not None else ()) + lease,
    )


def _standby(config: Config, host: Host) -> Iterator[Step]:
    """Where two hosts can work: the folder that both see, its unit, and which of them works."""
    folder = config.database.standby
    if folder is None:
        return
    dropins = f"/etc/systemd/system/{STANDBY}.d"
    lines = ["[Unit]", f"RequiresMountsFor={listed(str(folder))}", "[Service]", f"ReadWritePaths={listed(str(folder))}"]
    yield Step(
        "standby",
        f"The standby folder {folder}, and the unit of the lease",
        f"runuser -u {ACCOUNT} -- test -w {quoted(folder)} && grep -rqsxF {quote(lines[-1])} {dropins} && "
        f"systemctl --quiet is-enabled {STANDBY} && systemctl --quiet is-active {STANDBY}",
        f"test -d {quoted(folder)} || install -d -m 0700 -o {ACCOUNT} -g {ACCOUNT} {quoted(folder)}\n"
        f"mkdir -p {dropins}\n"
        f"printf '%s\\n' {' '.join(map(quote, lines))} > {dropins}/folder.conf\n"
        "systemctl daemon-reload\n"
        f"systemctl enable {STANDBY}\n"
        f"systemctl restart {STANDBY}",
        needs=(ACCOUNTS, FILES, UNIT_FILES),
        note="Both hosts must see this folder under the same path, on a file system with hard links.",
    )
    yield Step(
        LEASE,
        "This host has the lease",
        f'grep -qs \'"mine": true.*"problem": null\' {quoted(Path(f"{config.database.path}.lease"))}',
        f"runuser -u {ACCOUNT} -- {quoted(host.program)} --config {quoted(host.config)} database take-over --first",
        by_hand=True,
        needs=("standby",),
        note="On the host that works today, once; to take over from the other host: without --first. On a host that stands "
        "by leave this, and the units, until then.",
    )


def web_steps(config: Config, chosen: Chosen, host: Host) -> Iterator[Step]:
    """nginx, in front of the service."""
    name = urlsplit(config.provider.url).hostname or ""
    user, path, served = host.proxy_user, f"location /ucloud/{config.provider.id}/ {{", f"server_name {name};"
    yield Step(NGINX, "nginx is installed", "command -v nginx", f"{host.installer} nginx", by_hand=True)
    yield Step(
        "proxy",
        f"nginx's account {user} may connect to the service",
        f"id -nG {user} | tr ' ' '\\n' | grep -qx {PROXY_GROUP}",
        f"usermod --append --groups {PROXY_GROUP} {user}\nsystemctl try-restart nginx",
        needs=(ACCOUNTS, NGINX),
    )
    if host.selinux:
        yield from _selinux(host)
    certificate, secret = quote(chosen.certificate), quote(chosen.certificate_key)
    yield Step(
        CERTIFICATE,
        f"A certificate for {name}",
        f"test -s {certificate} && test -s {secret}",
        f"certbot certonly --nginx --domain {quote(name)}",
        by_hand=True,
        note=f"Or another one of yours, in {chosen.certificate} and {chosen.certificate_key}.",
    )
    address, port = urlsplit(config.provider.url), urlsplit(config.provider.url).port or 443
    edit = substitute(
        {
            "/etc/ssl/certs/hpc.example.org.pem": chosen.certificate,
            "/etc/ssl/private/hpc.example.org.key": chosen.certificate_key,
            "https://hpc.example.org$": f"https://{address.netloc}$",
            "hpc.example.org;": f"{name};",
            "443 ssl": f"{port} ssl",
            "/ucloud/example/": f"/ucloud/{config.provider.id}/",
            "jobs.provider.example/": f"jobs.provider.{config.provider.id}/",
        }
    )
    yield Step(
        "site",
        f"nginx serves {config.provider.url}",
        # Some keep it elsewhere; one that nginx has refused does not count.
        " && ".join(f"grep -RqsF --exclude='*.wrong' {quote(text)} /etc/nginx" for text in (path, served)),
        f"sed {edit} {quoted(host.shipped / 'etc/nginx.conf')} > {NGINX_CONF}\n"
        "systemctl enable nginx\n"
        # nginx must be able to start again, whatever is wrong with the file.
        f"nginx -t && systemctl reload-or-restart nginx || {{ mv {NGINX_CONF} {NGINX_CONF}.wrong; false; }}",
        needs=(NGINX, CERTIFICATE, "proxy"),
    )


def _selinux(host: Host) -> Iterator[Step]:
    # Of EL 9: nginx may write to sockets of this type, and to those of services only where a module of the policy says so.
    places = "/var/run/ucloud-slurm(-files)?(/.*)?"
    yield Step(
        "labels",
        "SELinux: the sockets have a label that nginx may use",
        "matchpathcon -n /var/run/ucloud-slurm/web.sock | grep -q httpd_var_run_t",
        f"semanage fcontext --add --type httpd_var_run_t {quote(places)}\n"
        "test ! -e /run/ucloud-slurm || restorecon -R /run/ucloud-slurm\n"
        "test ! -e /run/ucloud-slurm-files || restorecon -R /run/ucloud-slurm-files",
        note=f"semanage is in the package policycoreutils-python-utils: {host.installer} policycoreutils-python-utils",
    )
    yield Step(
        "policy",
        "SELinux: nginx may connect to the service",
        f"semodule -l | grep -qw {POLICY}",
        f"semodule -i {quoted(host.shipped / 'etc' / f'{POLICY}.cil')}",
    )


def ucloud_steps(config: Config, host: Host) -> Iterator[Step]:
    """The check, and the products at UCloud."""
    command = f"runuser -u {ACCOUNT} -- {quoted(host.program)} --config {quoted(host.config)}"
    yield Step("check", "The check finds nothing that has failed", f"{command} check", f"{command} check", needs=("enabled",))
    if config.ucloud.era == "today":
        yield Step(
            "products",
            "The products are registered at UCloud",
            f"{command} products sync --dry-run | grep -q '^Nothing to do'",
            f"{command} products sync",
            by_hand=True,
            needs=("enabled",),
            note="A category keeps its unit and period for ever: look at them before you answer.",
        )
